"""Precisions and providers from request to landscape, on a CPU that pretends where it must."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime as ort
import pytest

from onnxscape.core.plan import Plan
from onnxscape.errors import DeviceError, SpecConflictError, UsageError
from onnxscape.evaluation import engine
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.runtime import constant_sessions, devices, openvino
from onnxscape.runtime.devices import Device, find_device

PROVIDER = "SomebodysExecutionProvider"


@pytest.fixture
def halves_on_the_cpu(monkeypatch):
    """Lets the CPU compute in float16, which ONNX Runtime does by conversions."""
    monkeypatch.setitem(devices._PRECISIONS, "fp16", ("cpu",))
    monkeypatch.setitem(devices._PRECISIONS, "tf32", ("cpu",))


@pytest.fixture
def provider(monkeypatch):
    """Makes the CPU's provider available under another name."""

    def providers(device, _settings=None):
        return ["CPUExecutionProvider"]

    there = [PROVIDER, "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    monkeypatch.setattr(Device, "providers", providers)
    monkeypatch.setattr(
        ort.InferenceSession, "get_providers", lambda _session: there, raising=False
    )


@pytest.mark.parametrize("strategy", ["constant", "overriding", "in-graph", "shared"])
def test_half_precision_goes_all_the_way(run, recorder, halves_on_the_cpu, strategy):
    exact = run(device="cpu").landscape
    output = {"restart": True}
    observer = recorder()
    report = run(observer, device="cpu", precision="fp16", strategy=strategy, output=output)
    halves = report.landscape
    assert ", fp16" in observer.outlines[0].device
    np.testing.assert_allclose(halves.loss, exact.loss, rtol=1e-2, atol=1e-3)
    assert (halves.loss != exact.loss).any()
    assert halves.spec.precision == "fp16"
    with pytest.raises(SpecConflictError, match="precision"):
        run(device="cpu")


def test_tf32_leaves_the_graph_alone(run, halves_on_the_cpu):
    exact = run(device="cpu").landscape
    same = run(device="cpu", precision="tf32", output={"restart": True}).landscape
    np.testing.assert_array_equal(same.loss, exact.loss)
    assert same.spec.precision == "tf32"


@pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16"])
def test_narrow_precisions_are_refused_on_the_cpu(run, precision):
    with pytest.raises(DeviceError, match=f"--precision {precision} is computed with"):
        run(device="cpu", precision=precision)


def test_another_provider_computes_the_same_with_its_loss_on_the_cpu(
    run, provider, recorder, monkeypatch
):
    sessions = []
    opened = constant_sessions.open_session

    def spy(model, device, options):
        session = opened(model, device, options)
        sessions.append((str(device), [value.name for value in session.get_outputs()]))
        return session

    monkeypatch.setattr(constant_sessions, "open_session", spy)
    exact = run(device="cpu").landscape
    sessions.clear()
    observer = recorder()
    other = run(observer, provider=PROVIDER, output={"restart": True}).landscape
    np.testing.assert_array_equal(other.loss, exact.loss)
    assert other.plan.provider == PROVIDER
    assert PROVIDER in observer.outlines[0].device
    # Only the CPU's own sessions have the loss among their outputs.
    assert {place for place, outputs in sessions if "onnxscape::loss" in outputs} == {"cpu"}
    assert {place for place, outputs in sessions if "onnxscape::loss" not in outputs} == {
        PROVIDER
    }


def test_points_go_on_with_their_provider(run, provider, recorder):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(interrupt_after=3), provider=PROVIDER)
    report = run()
    assert report.landscape.plan.provider == PROVIDER
    assert report.reused >= 3


def test_other_strategies_are_refused_where_heads_are_apart(run, provider):
    with pytest.raises(UsageError, match=f"--strategy constant on {PROVIDER}, got 'resident'"):
        run(provider=PROVIDER, strategy="resident")


def test_a_provider_and_a_device_exclude_one_another(run, provider):
    with pytest.raises(UsageError, match="expected --device or --provider"):
        run(provider=PROVIDER, device="cpu")


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ("CPUExecutionProvider", ("cpu", None)),
        ("CUDAExecutionProvider", ("cuda", None)),
        ("OpenVINOExecutionProvider", ("openvino", None)),
        (PROVIDER, ("auto", PROVIDER)),
    ],
)
def test_a_recorded_provider_is_asked_for_again(request_of, recorded, asked):
    plan = Plan(
        provider=recorded, strategy="constant", batch=8, folded=True, runtime="", machine=""
    )
    assert engine._wanted_device(request_of(), plan) == asked
    assert engine._wanted_device(request_of(device="cpu"), plan) == ("cpu", None)
    named = dataclasses.replace(request_of(), provider="X")
    assert engine._wanted_device(named, plan) == ("auto", "X")


def test_amx_is_mentioned_once_where_the_device_is_ours_to_choose(run, recorder, monkeypatch):
    monkeypatch.setattr(openvino, "advice", lambda seconds: f"use AMX {seconds > 0}")
    monkeypatch.setattr(engine, "find_device", lambda *_, **__: find_device("cpu"))
    notes = []
    for device in ("auto", "cpu"):
        observer = recorder()
        run(observer, device=device, output={"restart": True})
        notes.append(observer.notes.count("use AMX True"))
    assert notes == [1, 0]
