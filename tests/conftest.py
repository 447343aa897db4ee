"""What several kinds of tests share: the reference files and small models."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import fixture_evaluation
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fixture_truth import Truth
from hypothesis import settings
from onnx import helper, numpy_helper

from onnxscape.runtime import calibration_cache, device_memory, devices

REFERENCE = Path(__file__).parent / "reference"

# The same examples in every run; `--hypothesis-profile=search` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def hidden_gpus():
    """Hides GPUs, also from children: the truth of most tests is the CPU's.

    Returns what shows them, in a context.
    """
    places, driver = (devices, device_memory), device_memory.cuda_driver
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    with pytest.MonkeyPatch.context() as patch:
        for place in places:
            patch.setattr(place, "cuda_driver", lambda: None)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")

        @contextlib.contextmanager
        def shown():
            with pytest.MonkeyPatch.context() as undone:
                for place in places:
                    undone.setattr(place, "cuda_driver", driver)
                undone.delenv("CUDA_VISIBLE_DEVICES")
                if visible is not None:
                    undone.setenv("CUDA_VISIBLE_DEVICES", visible)
                yield

        yield shown


@pytest.fixture(scope="module", autouse=True)
def _gpus_of_the_module(hidden_gpus, request):
    """Shows GPUs to the modules that are about them."""
    marked = request.node.get_closest_marker("gpu") is not None
    with hidden_gpus() if marked else contextlib.nullcontext():
        yield


@pytest.fixture
def without_gpus(hidden_gpus):
    """Leaves a test out where there is a GPU, hidden or not."""
    with hidden_gpus():
        if devices._driver_gpus():
            pytest.skip("this machine has a GPU")


@pytest.fixture(scope="session", autouse=True)
def _own_calibrations(tmp_path_factory):
    """Keeps what calibration finds away from the user's own."""
    folder = tmp_path_factory.mktemp("calibrations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_cache, "cache_file", lambda: folder / "calibration.json")
        yield


@pytest.fixture(scope="session")
def reference():
    """Folder of results of the public reference implementation."""
    return REFERENCE


@pytest.fixture(scope="session")
def digits_arrays():
    """The data of the reference results: x float32 [300, 1, 8, 8], y int64 [300]."""
    with np.load(REFERENCE / "data.npz") as arrays:
        return arrays["x"], arrays["y"]


@pytest.fixture(scope="session")
def edited():
    """Returns a model with other values in some initializers, by plain onnx means."""

    def edit(model, values):
        proto = onnx.ModelProto()
        proto.CopyFrom(onnx.load(model) if isinstance(model, Path) else model)
        left = dict(values)
        for tensor in proto.graph.initializer:
            if tensor.name in left:
                array = np.ascontiguousarray(left.pop(tensor.name), dtype=np.float32)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        assert not left, f"no initializers {sorted(left)}"
        return proto

    return edit


@pytest.fixture(scope="session")
def weights_of():
    """Returns the initializers of a model as float64 arrays by name."""

    def weights(model):
        proto = onnx.load(model) if isinstance(model, Path) else model
        return {
            tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
            for tensor in proto.graph.initializer
        }

    return weights


@pytest.fixture(scope="session")
def dense_model():
    """Returns a model of one dense layer, `out = x @ weight + bias`, weight [in, out]."""

    def build(weight, bias, *, batch="batch", softmax=False, outputs=("out",)):
        weight = np.asarray(weight, dtype=np.float32)
        nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["raw"])]
        nodes.append(helper.make_node("Softmax" if softmax else "Identity", ["raw"], ["out"]))
        nodes += [helper.make_node("Neg", ["out"], [name]) for name in outputs[1:]]
        shapes = {"x": weight.shape[0]} | dict.fromkeys(outputs, weight.shape[1])
        values = {
            name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, size])
            for name, size in shapes.items()
        }
        graph = helper.make_graph(
            nodes,
            "dense",
            [values["x"]],
            [values[name] for name in outputs],
            [
                numpy_helper.from_array(weight, "weight"),
                numpy_helper.from_array(np.asarray(bias, dtype=np.float32), "bias"),
            ],
        )
        opset = helper.make_opsetid("", 17)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    return build


@pytest.fixture(scope="session")
def make_model():
    """Returns a model of nodes; inputs and outputs are float32 and given as name to shape."""

    def make(
        nodes, inputs, outputs, tensors, *, opset=17, ir_version=8, functions=(), types=()
    ):
        kinds = dict(types)
        values = [
            [
                helper.make_tensor_value_info(
                    name, kinds.get(name, onnx.TensorProto.FLOAT), shape
                )
                for name, shape in side.items()
            ]
            for side in (inputs, outputs)
        ]
        weights = [
            numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()
        ]
        graph = helper.make_graph(nodes, "graph", *values, weights)
        opsets = [helper.make_opsetid("", opset)]
        opsets += [helper.make_opsetid(d, 1) for d in {f.domain for f in functions}]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=ir_version, functions=list(functions)
        )

    return make


@pytest.fixture(scope="session")
def fixed_to():
    """Returns a model of one batch size; `bound` adds what no other size can have."""

    def fix(model, size, *, bound=False):
        proto = onnx.ModelProto()
        proto.CopyFrom(onnx.load(model))
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = size
        if bound:
            last = next(n for n in proto.graph.node if proto.graph.output[0].name in n.output)
            last.output[0] = "all"
            mask = numpy_helper.from_array(np.ones((size, 1), np.bool_), "mask")
            proto.graph.initializer.append(mask)
            names = ["mask", "all", "all"], [proto.graph.output[0].name]
            proto.graph.node.append(helper.make_node("Where", *names, name="masked"))
        return proto

    return fix


@pytest.fixture(scope="session")
def run_model():
    """Returns what plain ONNX Runtime makes of a model: the truth for all that we prepare."""

    def run(model, feeds, outputs=None, *, optimized=True):
        content = model if isinstance(model, bytes) else model.SerializeToString()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        # Else it would quantize float weights between quantized activations by itself.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if not optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(outputs, dict(feeds))

    return run


@pytest.fixture(scope="session")
def truth():
    """What the exporter matrix's surfaces must be, made without the product."""
    return Truth()


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """Returns, evaluating only once, a fixture's landscape, its directions and warnings."""

    @functools.cache
    def run(fixture, task=None):
        folder = tmp_path_factory.mktemp("surface")
        return fixture_evaluation.evaluate_and_save(fixture, folder, task)

    return run
