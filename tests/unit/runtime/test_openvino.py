"""OpenVINO as far as it can be known without it: what it is told, and what is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest

import onnxscape as ox
from onnxscape.errors import DeviceError
from onnxscape.runtime import openvino, sessions
from onnxscape.runtime.devices import Device, find_device
from onnxscape.runtime.sessions import open_session, session_options

PROCESSOR, GPU = ort.OrtHardwareDeviceType.CPU, ort.OrtHardwareDeviceType.GPU


def offered(name, kind):
    return SimpleNamespace(ep_name=name, device=SimpleNamespace(type=kind))


@pytest.fixture
def plugin(monkeypatch):
    """Pretends that the plugin is installed; returns a setter of what it offers, and a log."""
    module = ModuleType(openvino.PLUGIN)
    module.get_library_path = lambda: "plugin.so"
    log = []
    openvino._register.cache_clear()
    monkeypatch.setitem(sys.modules, openvino.PLUGIN, module)
    monkeypatch.setattr(openvino, "installed", lambda: True)
    monkeypatch.setattr(
        ort, "register_execution_provider_library", lambda *args: log.append(args)
    )

    def offer(*devices):
        monkeypatch.setattr(ort, "get_ep_devices", lambda: list(devices))
        return log

    yield offer
    openvino._register.cache_clear()


def test_without_the_plugin_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(openvino, "installed", lambda: False)
    with pytest.raises(
        DeviceError, match=r"not installed: pip install 'onnxscape\[openvino\]'"
    ):
        find_device("openvino")


def test_a_processor_that_the_plugin_does_not_support_is_an_error(plugin):
    plugin(offered("CPUExecutionProvider", PROCESSOR), offered(openvino.PROVIDER, GPU))
    with pytest.raises(DeviceError, match=r"offers no device on this processor \(it supports"):
        find_device("openvino")


def test_a_plugin_that_cannot_be_loaded_is_an_error_with_the_reason(plugin, monkeypatch):
    def refuse(*_args):
        raise RuntimeError("wrong\nversion")

    plugin()
    monkeypatch.setattr(ort, "register_execution_provider_library", refuse)
    with pytest.raises(
        DeviceError, match=r"cannot load the OpenVINO plugin \(wrong version\)"
    ):
        find_device("openvino")


def test_the_plugin_is_registered_once_per_process(plugin):
    log = plugin(offered(openvino.PROVIDER, PROCESSOR))
    first, second = (find_device("openvino", precision=p) for p in ("fp32", "bf16"))
    assert log == [("onnxscape.openvino", "plugin.so")]
    assert first.provider == second.provider == "OpenVINOExecutionProvider"
    assert str(first) == "openvino"
    # The graph stays in float32: OpenVINO narrows by itself.
    assert (first.graph_precision, second.graph_precision) == ("fp32", "fp32")


@pytest.mark.parametrize("precision", ["tf32", "fp16", "native"])
def test_other_precisions_are_refused(plugin, precision):
    plugin(offered(openvino.PROVIDER, PROCESSOR))
    with pytest.raises(DeviceError, match=f"--precision {precision} is .* run is on openvino"):
        find_device("openvino", precision=precision)


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16")])
def test_the_precision_and_the_threads_are_told(plugin, precision, hint):
    device = offered(openvino.PROVIDER, PROCESSOR)
    plugin(device, offered(openvino.PROVIDER, PROCESSOR))
    told = []
    options = SimpleNamespace(
        intra_op_num_threads=3, add_provider_for_devices=lambda *args: told.append(args)
    )
    openvino.add_to(options, precision)
    ((devices, settings),) = told
    assert devices == [device]
    assert json.loads(settings["load_config"]) == {
        "CPU": {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": "3"}
    }


def test_a_session_is_given_the_plugin_in_its_options_and_no_providers(monkeypatch):
    opened = {}

    def session(_source, options, **arguments):
        opened.update(arguments, options=options)
        return SimpleNamespace(get_providers=lambda: [openvino.PROVIDER])

    told = []
    monkeypatch.setattr(openvino, "add_to", lambda *args: told.append(args))
    monkeypatch.setattr(sessions.ort, "InferenceSession", session)
    options = session_options(2)
    open_session(b"", Device("openvino", 0, "Xeon", precision="bf16"), options)
    assert told == [(options, "bf16")]
    assert opened["options"] is options
    assert opened["providers"] is None
    assert opened["enable_fallback"] is False


def test_a_session_on_the_plugins_way_computes(monkeypatch, dense_model):
    # ONNX Runtime's own CPU provider is offered in the same way as a plugin's.
    cpu = [d for d in ort.get_ep_devices() if d.ep_name == "CPUExecutionProvider"]
    monkeypatch.setattr(
        openvino, "add_to", lambda options, _: options.add_provider_for_devices(cpu, {})
    )
    monkeypatch.setattr(Device, "provider", "CPUExecutionProvider")
    model = dense_model([[2.0]], [1.0]).SerializeToString()
    session = open_session(model, Device("openvino", 0, "Xeon"), session_options(1))
    (out,) = session.run(["out"], {"x": np.ones((1, 1), np.float32)})
    assert out.tolist() == [[3.0]]


@pytest.mark.parametrize("there", [True, False])
def test_a_processor_with_amx_is_told_of_where_it_pays(monkeypatch, there):
    monkeypatch.setattr(openvino, "installed", lambda: there)
    flags = "processor: 0\nflags\t\t: fpu amx_bf16 amx_tile\n"
    monkeypatch.setattr(Path, "read_text", lambda _path: flags)
    text = openvino.advice(10.0)
    assert text.startswith("this processor has AMX: ")
    assert "--device openvino --precision bf16 would be several times faster" in text
    assert ("pip install 'onnxscape[openvino]' and" in text) is not there
    assert openvino.advice(0.1) is None  # making sessions would take longer
    monkeypatch.setattr(Path, "read_text", lambda _path: "flags\t: fpu sse amx_int8\n")
    assert openvino.advice(10.0) is None


# --- on a processor that it supports ---------------------------------------------------------


@pytest.fixture(scope="module")
def processor():
    """Skips where the plugin, or a processor of its kind, is missing."""
    try:
        return find_device("openvino")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("precision", "rtol"), [("fp32", 1e-4), ("bf16", 2e-2)])
def test_surfaces_are_the_cpus(processor, precision, rtol):
    options = {"grid": "3x3", "radius": 0.5, "samples": 300}
    model = Path(__file__).parents[3] / "models" / "digits_cnn.onnx"
    expected = ox.evaluate(model, "digits", device="cpu", **options)
    ours = ox.evaluate(model, "digits", device="openvino", precision=precision, **options)
    np.testing.assert_allclose(ours.loss, expected.loss, rtol=rtol, atol=rtol / 10)
    assert ours.plan.provider == openvino.PROVIDER
