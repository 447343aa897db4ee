"""Tensors of the fixtures and files with other values in them, with plain onnx.

A tensor is one by its name in the file: an initializer or constant, of the graph or of a body
in it, or what nodes compute from such alone.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
from fixture_float_form import float_form, graphs_of
from onnx import helper, numpy_helper

MODELS = Path(__file__).parent / "models"
WEIGHTS = Path(__file__).parent / "weights"


@functools.cache
def stored(fixture):
    """Return a file's model in float32, and by name all tensors that no input decides."""
    model = float_form(onnx.load(MODELS / f"{fixture}.onnx"))
    if fixture.endswith("weightinputs"):
        _give_weights(model, fixture)
    if model.functions:
        model = _without_functions(model)
    known = _sizes(model)
    for graph in graphs_of(model.graph):
        known |= {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            known |= _computed(model, node, known)
    return model, known


def _without_functions(model):
    """Return a model whose functions stand where they were called, names as they have them."""
    model = onnx.inliner.inline_local_functions(model)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name.split("__")[0] for name in names]
    return model


def _give_weights(model, fixture):
    with np.load(WEIGHTS / f"{fixture.split('_')[0]}.npz") as arrays:
        tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model.graph.initializer.extend(tensors)
    names = {tensor.name for tensor in tensors}
    inputs = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _computed(model, node, known):
    if node.op_type in {"If", "Loop", "Scan"}:
        return {}
    if not all(name in known for name in node.input if name):
        return {}
    names = [name for name in dict.fromkeys(node.input) if name]
    tensors = [numpy_helper.from_array(known[name], name) for name in names]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "node", [], outputs, tensors)
    alone = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4)
    )
    try:
        results = session(alone).run(None, {})
    except Exception:  # noqa: BLE001 - not a number in sight: no weight
        return {}
    return dict(zip([name for name in node.output if name], results, strict=True))


def _sizes(model):
    """Return what Shape nodes give whose sizes onnx infers: torch cuts weights by them."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [d.dim_value if d.HasField("dim_value") else None for d in dims]
        for value in (*inferred.value_info, *inferred.input)
        if (dims := value.type.tensor_type.shape.dim)
    }
    known = {}
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            ends = {a.name: a.i for a in node.attribute}
            sizes = shapes[node.input[0]][ends.get("start", 0) : ends.get("end")]
            if None not in sizes:
                known[node.output[0]] = np.array(sizes, dtype=np.int64)
    return known


def edited(fixture, values):
    """Return a fixture with other values in tensors of these names."""
    model = onnx.ModelProto()
    model.CopyFrom(stored(fixture)[0])
    left = dict(values)
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            if tensor.name in left:
                tensor.CopyFrom(numpy_helper.from_array(left.pop(tensor.name), tensor.name))
        for node in graph.node:
            for number, name in enumerate(node.output):
                if name in left:
                    node.output[number] = f"{name}/before"
                    tensor = numpy_helper.from_array(left.pop(name), name)
                    graph.initializer.append(tensor)
    assert not left, f"the file has no tensors {sorted(left)}"
    return model


def session(model):
    """Return a plain session that computes what the file says.

    By default ONNX Runtime quantizes float weights that stand between quantized activations.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model, feed):
    """Return a model's outputs in float64 by name.

    Args:
        model: The model.
        feed: From input name, shape without the batch and type to the array.
    """
    runner = session(model)
    feeds = {value.name: feed(value) for value in runner.get_inputs()}
    count = len(next(iter(feeds.values())))
    size = runner.get_inputs()[0].shape[0]
    size = size if isinstance(size, int) else count
    names = [value.name for value in runner.get_outputs()]
    parts = []
    for start in range(0, count, size):
        batch = {name: array[start : start + size] for name, array in feeds.items()}
        short = size - len(next(iter(batch.values())))
        batch = {k: np.concatenate([v, np.repeat(v[-1:], short, 0)]) for k, v in batch.items()}
        parts.append(runner.run(None, batch))
    outputs = {}
    for name, *arrays in zip(names, *parts, strict=True):
        arrays = [_unzipped(array) for array in arrays]  # noqa: PLW2901
        if isinstance(arrays[0], np.ndarray):
            whole = np.concatenate([np.atleast_1d(array) for array in arrays])
            outputs[name] = (whole if arrays[0].ndim == 0 else whole[:count]).astype(
                np.float64
            )
    return outputs


def _unzipped(output):
    """Return maps from classes to scores as [n, classes]; other outputs as they are."""
    if isinstance(output, list) and isinstance(output[0], dict):
        return np.array([[scores[name] for name in sorted(scores)] for scores in output])
    return output
