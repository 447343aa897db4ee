"""Freeing a model from its batch size: right for every operator, refused wherever it is not.

The truth is plain ONNX Runtime on the model as it is exported for a single sample, one sample
after the other.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.batch_axis import FixedBatch, fixed_batch, free_batch
from onnxscape.graph.canonical import canonical as canonical_form


def canonical(proto):
    """Return the graph of a model's canonical form."""
    return canonical_form(proto).model


MODELS = Path(__file__).parents[2] / "exporters" / "models"


def weight(*shape):
    return np.float32(np.random.default_rng(shape).standard_normal(shape) / 2)


def ints(*values):
    return np.array(values, dtype=np.int64)


def ramp(*shape):
    return np.arange(1, 1 + math.prod(shape), dtype=np.float32).reshape(shape)


def node(op, inputs, outputs="y", **attributes):
    """Return a node, called by its first output; an input `_` is left out."""
    outputs = outputs.split()
    inputs = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, inputs, outputs, name=f"make {outputs[0]}", **attributes)


def between(*nodes):
    """Return nodes one after the other: each takes the last one's output, in place of `_`."""
    made = []
    for place, (op, others, attributes) in enumerate(nodes):
        last = "x" if place == 0 else f"v{place - 1}"
        output = "y" if place + 1 == len(nodes) else f"v{place}"
        made.append(node(op, others.replace("_", last), output, **attributes))
    return made


W34, W4 = weight(3, 4), weight(4)
LSTM = {"W": weight(1, 8, 3), "R": weight(1, 8, 2), "B": weight(1, 16)}

# name: (inputs' shapes per sample, nodes, tensors, operator set); nodes and tensors may be
# functions of the batch size the model is exported for
RIGHT = {
    "elementwise with constants of no batch": (
        {"x": (3, 4)},
        between(("Add", "_ row", {}), ("Mul", "cube _", {}), ("Tanh", "_", {})),
        {"row": W4, "cube": weight(1, 3, 1)},
        17,
    ),
    "a constant of more axes": (
        {"x": (4,)},
        between(
            ("Add", "_ more", {}),
            ("Transpose", "_", {"perm": [1, 0, 2]}),
        ),
        {"more": weight(5, 1, 4)},
        17,
    ),
    "two inputs": (
        {"x": (3, 4), "z": (1, 4)},
        [node("Where", "mask x z", "w"), node("Sub", "w z")],
        {"mask": np.array([[True], [False], [True]])},
        17,
    ),
    "convolutions and pools": (
        {"x": (2, 9, 9)},
        between(
            ("Conv", "_ k b", {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("MaxPool", "_", {"kernel_shape": [2, 2], "ceil_mode": 1}),
            ("ConvTranspose", "_ t", {"strides": [2, 2]}),
            ("AveragePool", "_", {"kernel_shape": [2, 2]}),
            ("GlobalAveragePool", "_", {}),
            ("Flatten", "_", {}),
        ),
        {"k": weight(4, 2, 3, 3), "b": weight(4), "t": weight(4, 3, 2, 2)},
        17,
    ),
    "normalizations": (
        {"x": (4, 5, 5)},
        between(
            ("BatchNormalization", "_ c c c positive", {}),
            ("InstanceNormalization", "_ c c", {}),
            ("LayerNormalization", "_ five five", {"axis": -1}),
            ("LRN", "_", {"size": 3}),
            ("LpNormalization", "_", {"axis": 1}),
            ("LogSoftmax", "_", {"axis": -1}),
        ),
        {"c": W4, "positive": np.abs(W4) + 1, "five": weight(5)},
        17,
    ),
    "group normalization": (
        {"x": (4, 5)},
        [node("GroupNormalization", "x c c", num_groups=2)],
        {"c": W4},
        21,
    ),
    "softmax that flattens, behind the batch": (
        {"x": (3, 4)},
        [node("Softmax", "x", axis=1)],
        {},
        11,
    ),
    "dense layers": (
        {"x": (4,)},
        between(
            ("Gemm", "_ w bias", {"transB": 1}),
            ("Gemm", "_ v row", {"alpha": 0.5}),
            ("MatMul", "_ v", {}),
        ),
        {"w": W34, "bias": weight(3), "v": weight(3, 3), "row": weight(1, 3)},
        17,
    ),
    "samples as columns": (
        {"x": (4,)},
        between(
            ("Gemm", "w _ column", {"transB": 1}),
            ("MatMul", "v _", {}),
            ("Gemm", "_ w", {"transA": 1}),
        ),
        {"w": W34, "column": weight(3, 1), "v": weight(3, 3)},
        17,
    ),
    "matrices per sample": (
        {"x": (3, 4), "z": (4, 2)},
        [node("MatMul", "x z", "a"), node("MatMul", "w a", "b"), node("MatMul", "b v")],
        {"w": W34[:, :3], "v": weight(2)},
        17,
    ),
    "axes that move": (
        {"x": (3, 4)},
        between(
            ("Transpose", "_", {"perm": [2, 0, 1]}),
            ("Softmax", "_", {"axis": 0}),
            ("Unsqueeze", "_ zero", {}),
            ("ReduceMean", "_", {"axes": [3], "keepdims": 0}),
            ("Squeeze", "_ zero", {}),
            ("Transpose", "_", {}),
        ),
        {"zero": ints(0)},
        17,
    ),
    "parts of samples": (
        {"x": (6, 4)},
        [
            node("Split", "x", "a b", axis=1),
            node("Slice", "a one all one", "c"),
            node("Pad", "c pads", "d"),
            node("Concat", "d b", "e", axis=2),
            node("Gather", "e pick", "f", axis=2),
            node("Slice", "f zero all zero", "g"),
            node("GatherElements", "g places", "h", axis=2),
            node("Tile", "g repeats", "i"),
            node("Concat", "i f", axis=1),
        ],
        lambda batch: {
            "one": ints(1),
            "zero": ints(0),
            "all": ints(2**63 - 1),
            "pads": ints(0, 1, 0, 0, 0, 0),
            "pick": ints(3, 0, 3),
            "places": np.zeros((batch, 3, 1), np.int64),
            "repeats": ints(1, 2, 1),
        },
        17,
    ),
    "places found in samples": (
        {"x": (3, 4)},
        [
            node("ArgMax", "x", "a", axis=2, keepdims=1),
            node("GatherElements", "x a", "b", axis=2),
            node("TopK", "x two", "c d", axis=-1),
            node("CumSum", "c axis", "e"),
            node("Concat", "b e", axis=2),
        ],
        {"two": ints(2), "axis": ints(1)[0]},
        17,
    ),
    "embedding of places in samples": (
        {"x": (5,)},
        [
            node("Cast", "x", "i", to=TensorProto.INT64),
            node("Gather", "table i", "e"),
            node("OneHot", "i depth values", "h"),
            node("ReduceSum", "h one", "s", keepdims=0),
            node("Gather", "e zero", "f", axis=1),
            node("Concat", "s f", axis=1),
        ],
        {
            "table": weight(4, 3),
            "depth": ints(4),
            "values": np.float32([0, 1]),
            "one": ints(1),
            "zero": ints(0)[0],
        },
        17,
    ),
    "a target with the batch size": (
        {"x": (3, 4)},
        [node("Reshape", "x target")],
        lambda batch: {"target": ints(batch, 12)},
        17,
    ),
    "a target with the batch size and an open entry": (
        {"x": (3, 4)},
        [node("Reshape", "x target")],
        lambda batch: {"target": ints(batch, -1, 2)},
        17,
    ),
    "a target where zero means nothing": (
        {"x": (3, 4)},
        [node("Reshape", "x target", allowzero=1)],
        lambda batch: {"target": ints(batch, 2, 6)},
        17,
    ),
    "the batch merged with others and found again": (
        {"x": (3, 4)},
        between(
            ("Reshape", "_ rows", {}),
            ("Gemm", "_ w", {}),
            ("Reshape", "_ samples", {}),
        ),
        lambda batch: {"rows": ints(3 * batch, 4), "w": W34.T, "samples": ints(batch, 9)},
        17,
    ),
    "the batch behind the time": (
        {"x": (5, 4)},
        between(
            ("Transpose", "_", {"perm": [1, 0, 2]}),
            ("Reshape", "_ rows", {}),
            ("MatMul", "_ w", {}),
            ("Reshape", "_ series", {}),
            ("Transpose", "_", {"perm": [1, 0, 2]}),
        ),
        lambda batch: {"rows": ints(5 * batch, 4), "w": W34.T, "series": ints(5, batch, 3)},
        17,
    ),
    "heads of attention, merged with the batch": (
        {"x": (3, 4)},
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node("Reshape", "t heads", "h"),
            node("Transpose", "h", "q", perm=[1, 0, 2]),
            node("Transpose", "h", "k", perm=[1, 2, 0]),
            node("MatMul", "q k", "s"),
            node("Softmax", "s", "p", axis=-1),
            node("MatMul", "p q", "o"),
            node("Transpose", "o", "m", perm=[1, 0, 2]),
            node("Reshape", "m together", "r"),
            node("Gemm", "r w", "g"),
            node("Reshape", "g apart", "a"),
            node("Transpose", "a", "b", perm=[1, 0, 2]),
            node("Add", "x b"),
        ],
        lambda batch: {
            "heads": ints(3, 2 * batch, 2),
            "together": ints(3 * batch, 4),
            "w": weight(4, 4),
            "apart": ints(3, batch, 4),
        },
        17,
    ),
    "a target computed from the input": (
        {"x": (3, 4)},
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n first", "n1"),
            node("Concat", "n1 rest", "target", axis=0),
            node("Reshape", "x target", "r"),
            node("Shape", "r", "q", end=1),
            node("Mul", "q two", "d"),
            node("Concat", "d six", "halves", axis=0),
            node("Reshape", "r halves", "h"),
            node("Reshape", "h target"),
        ],
        {
            "zero": ints(0)[0],
            "first": ints(0),
            "rest": ints(12),
            "two": ints(2),
            "six": ints(6),
        },
        17,
    ),
    "a class token": (
        {"x": (3, 4)},
        lambda batch: [
            node("Expand", "token wide", "t"),
            node("Concat", "t x", axis=1),
        ],
        lambda batch: {
            "token": ramp(1, 1, 4),
            "wide": ints(batch, 1, 4),
        },
        17,
    ),
    "a class token by the size of the input": (
        {"x": (3, 4)},
        [
            node("Shape", "x", "n", end=1),
            node("Concat", "n minus", "wide", axis=0),
            node("Shape", "wide", "r"),
            node("ConstantOfShape", "r", "ones", value=helper.make_tensor("", 7, [1], [1])),
            node("Mul", "ones less", "none"),
            node("Equal", "wide none", "any"),
            node("Where", "any ones wide", "size"),
            node("Expand", "token size", "t"),
            node("Concat", "t x", axis=1),
        ],
        {"minus": ints(-1, -1), "less": ints(-1), "token": ramp(1, 1, 4)},
        17,
    ),
    "expanded samples": (
        {"x": (1, 4)},
        [node("Expand", "x wide")],
        lambda batch: {"wide": ints(batch, 3, 1)},
        17,
    ),
    "resizing by sizes": (
        {"x": (2, 4, 4)},
        [node("Resize", "x e e sizes", mode="linear")],
        lambda batch: {"e": np.float32([]), "sizes": ints(batch, 2, 7, 8)},
        17,
    ),
    "resizing by scales": (
        {"x": (2, 4, 4)},
        [node("Resize", "x e scales")],
        {"e": np.float32([]), "scales": np.float32([1, 1, 2, 2])},
        17,
    ),
    "space and depth": (
        {"x": (4, 4, 4)},
        between(
            ("DepthToSpace", "_", {"blocksize": 2}), ("SpaceToDepth", "_", {"blocksize": 4})
        ),
        {},
        17,
    ),
    "quantized and back": (
        {"x": (3, 4)},
        between(
            ("QuantizeLinear", "_ scale zero", {}),
            ("DequantizeLinear", "_ scales zeros", {"axis": 1}),
        ),
        {
            "scale": np.float32(0.05),
            "zero": np.int8(3),
            "scales": np.float32([0.1, 0.2, 0.3]),
            "zeros": np.zeros(3, np.int8),
        },
        17,
    ),
    "einsum": (
        {"x": (3, 4), "z": (4, 5)},
        [node("Einsum", "x z w", equation="bij, bjk, kl -> bil")],
        {"w": weight(5, 2)},
        17,
    ),
    "a sequence of parts": (
        {"x": (4, 3)},
        [
            node("SplitToSequence", "x two", "s", axis=1),
            node("SequenceAt", "s one", "p"),
            node("ReduceSum", "p axis", keepdims=0),
        ],
        {"two": ints(2)[0], "one": ints(1)[0], "axis": ints(1)},
        17,
    ),
    "a recurrent layer that starts from zero": (
        {"x": (5, 3)},
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node("LSTM", "t W R B _ h h", "a b c", hidden_size=2),
            node("Squeeze", "a one", "s"),
            node("Transpose", "s", "o", perm=[1, 0, 2]),
            node("Transpose", "c", "l", perm=[1, 0, 2]),
            node("Concat", "o l", axis=1),
        ],
        lambda batch: {
            **LSTM,
            "h": np.zeros((1, batch, 2), np.float32),
            "one": ints(1),
        },
        17,
    ),
    "a recurrent layer that starts from a computed zero": (
        {"x": (5, 3)},
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node("Shape", "t", "n", start=1, end=2),
            node("Concat", "one n two", "size", axis=0),
            node("ConstantOfShape", "size", "h"),
            node("RNN", "t V S _ _ h", "a b", hidden_size=2),
            node("Squeeze", "b zero"),
        ],
        {
            "V": weight(1, 2, 3),
            "S": weight(1, 2, 2),
            "one": ints(1),
            "two": ints(2),
            "zero": ints(0),
        },
        17,
    ),
    "dropped out, and never used": (
        {"x": (3, 4)},
        [
            node("Dropout", "x", "d"),
            node("Reshape", "x fixed", "dead"),
            node("Shape", "dead", "dead2"),
            node("CastLike", "d x"),
        ],
        lambda batch: {"fixed": ints(batch, 12)},
        17,
    ),
}


def exported(case, batch, make_model):
    """Return the model of a case as exported for a batch size."""
    shapes, nodes, tensors, opset = case
    nodes = nodes(batch) if callable(nodes) else nodes
    tensors = tensors(batch) if callable(tensors) else tensors
    return make_model(
        nodes,
        {name: [batch, *shape] for name, shape in shapes.items()},
        {"y": None},
        tensors,
        opset=opset,
    )


def arrays(case, count):
    rng = np.random.default_rng(5)
    return {
        name: np.float32(rng.integers(0, 4, (count, *shape)) + rng.uniform(0, 0.9))
        if name == "x" and shape == (5,)
        else np.float32(rng.standard_normal((count, *shape)))
        for name, shape in case[0].items()
    }


def in_pieces(run_model, model, feeds, size):
    count = len(feeds["x"])
    return np.concatenate(
        [
            run_model(model, {k: v[i : i + size] for k, v in feeds.items()}, ["y"])[0]
            for i in range(0, count, size)
        ]
    )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", RIGHT)
def test_a_freed_model_gives_every_sample_its_own_output(name, batch, make_model, run_model):
    case = RIGHT[name]
    model = canonical(exported(case, batch, make_model))
    assert free_batch(model) == FixedBatch(batch, dynamic=True)
    freed = ir.to_proto(model)
    feeds = arrays(case, 6)
    truth = in_pieces(run_model, exported(case, 1, make_model), feeds, 1)
    assert np.ptp(truth, axis=0).max() > 0.1  # the samples differ
    for size in (1, 2, 6):
        ours = in_pieces(run_model, freed, feeds, size)
        np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)


def refused(shapes, nodes, tensors=None, opset=17, batches=(1, 3)):
    return shapes, nodes, tensors or {}, opset, batches


WRONG = {
    "differs between the samples": refused(
        {"x": (4,)}, [node("Add", "x c")], lambda batch: {"c": ramp(batch, 4)}, batches=(3,)
    ),
    "a column of biases": refused(
        {"x": (4,)},
        [node("Gemm", "x w c")],
        lambda batch: {"w": W34.T, "c": ramp(batch, 1)},
        batches=(3,),
    ),
    "a constant along a batch of one": refused(
        {"x": (4,)}, [node("Add", "x c")], {"c": ramp(5, 4)}, batches=(1,)
    ),
    "a batch brought to the last axis": refused(
        {"x": (4,)},
        between(("Transpose", "_", {}), ("Add", "_ c", {}), ("Transpose", "_", {})),
        lambda batch: {"c": ramp(batch)},
        batches=(3,),
    ),
    "channels that are samples": refused(
        {"x": (4, 5)},
        between(
            ("Transpose", "_", {"perm": [1, 0, 2]}),
            ("BatchNormalization", "_ c c c c", {}),
            ("Transpose", "_", {"perm": [1, 0, 2]}),
        ),
        lambda batch: {"c": ramp(batch)},
    ),
    "a convolution over samples": refused(
        {"x": (4, 5)},
        between(
            ("Transpose", "_", {"perm": [1, 0, 2]}),
            ("Conv", "_ k", {"pads": [1, 1]}),
            ("Transpose", "_", {"perm": [1, 0, 2]}),
        ),
        lambda batch: {"k": ramp(batch, batch, 3)},
    ),
    "a mean over the batch": refused(
        {"x": (4,)},
        [node("ReduceMean", "x", "m", axes=[0], keepdims=1), node("Sub", "x m")],
    ),
    "a mean over everything": refused(
        {"x": (4,)}, [node("ReduceMean", "x", "m"), node("Sub", "x m")]
    ),
    "a search along the first axis": refused(
        {"x": (4,)}, [node("ArgMax", "x", "a"), node("Gather", "x a")]
    ),
    "softmax over the batch": refused({"x": (4,)}, [node("Softmax", "x", axis=0)]),
    "softmax that flattens over the batch": refused(
        {"x": (4,)}, [node("Softmax", "x", axis=0)], opset=11
    ),
    "softmax that flattens axes behind its own": refused(
        {"x": (3, 4)},
        between(
            ("Transpose", "_", {"perm": [1, 0, 2]}),
            ("Softmax", "_", {"axis": 0}),
            ("Transpose", "_", {"perm": [1, 0, 2]}),
        ),
        opset=11,
    ),
    "normalization of the batch": refused(
        {"x": (4, 2, 2)}, [node("MeanVarianceNormalization", "x")]
    ),
    "a layer norm from the first axis on": refused(
        {"x": (4,)},
        [node("LayerNormalization", "x c", axis=0)],
        lambda batch: {"c": ramp(batch, 4)},
    ),
    "a layer norm with a scale per sample": refused(
        {"x": (2, 4)},
        [node("LayerNormalization", "x c")],
        lambda batch: {"c": ramp(batch, 1, 4)},
        batches=(3,),
    ),
    "quantization that looks at the whole batch": refused(
        {"x": (4,)},
        [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z")],
    ),
    "scales per sample": refused(
        {"x": (4,)},
        [
            node("QuantizeLinear", "x s z", "q", axis=0),
            node("DequantizeLinear", "q s z", axis=0),
        ],
        lambda batch: {"s": ramp(batch) / 9, "z": np.zeros(batch, np.int8)},
        batches=(3,),
    ),
    "sums over samples": refused(
        {"x": (4,)},
        [
            node("Transpose", "x", "t"),
            node("MatMul", "t x", "g"),
            node("MatMul", "x g"),
        ],
    ),
    "samples against samples": refused(
        {"x": (4,)},
        [
            node("Transpose", "x", "t"),
            node("MatMul", "x t", "g"),
            node("Softmax", "g", "p"),
            node("MatMul", "p x"),
        ],
    ),
    "samples against samples by broadcasting": refused(
        {"x": (4,)},
        [
            node("Unsqueeze", "x zero", "r"),
            node("Unsqueeze", "x one", "c"),
            node("Sub", "r c", "d"),
            node("ReduceMax", "d", axes=[1], keepdims=0),
        ],
        {"zero": ints(0), "one": ints(1)},
    ),
    "einsum over samples": refused(
        {"x": (4,)},
        [
            node("Einsum", "x x", "g", equation="bi,bj->ij"),
            node("Einsum", "x g", equation="bi,ij->bj"),
        ],
    ),
    "einsum with a constant per sample": refused(
        {"x": (4,)},
        [node("Einsum", "x c", equation="bi,b->bi")],
        lambda batch: {"c": ramp(batch) + 1},
        batches=(3,),
    ),
    "torn apart": refused(
        {"x": (4,)}, [node("Reshape", "x target")], {"target": ints(4, 3)}, batches=(3,)
    ),
    "turned by a reshape": refused(
        {"x": (4,)},
        between(
            ("Reshape", "_ turned", {}),
            ("Softmax", "_", {"axis": 0}),
            ("Reshape", "_ back", {}),
        ),
        lambda batch: {"turned": ints(4, batch), "back": ints(batch, 4)},
    ),
    "merged and then softened": refused(
        {"x": (3, 4)},
        between(
            ("Reshape", "_ rows", {}),
            ("Softmax", "_", {"axis": 0}),
            ("Reshape", "_ back", {}),
        ),
        lambda batch: {"rows": ints(3 * batch, 4), "back": ints(batch, 3, 4)},
    ),
    "a table merged with the batch": refused(
        {"x": (3, 4)},
        between(
            ("Reshape", "_ rows", {}),
            ("Add", "_ table", {}),
            ("Reshape", "_ back", {}),
        ),
        lambda batch: {
            "rows": ints(3 * batch, 4),
            "table": ramp(3 * batch, 4),
            "back": ints(batch, 3, 4),
        },
    ),
    "flattened away": refused(
        {"x": (4,)},
        [node("Flatten", "x", "f", axis=0), node("Gemm", "f w", "g"), node("Add", "x g")],
        lambda batch: {"w": ramp(4 * batch, 4) / 16},
    ),
    "flattened into a row": refused({"x": (4,)}, [node("Flatten", "x", axis=0)]),
    "the first sample": refused(
        {"x": (4,)}, [node("Gather", "x zero", "f"), node("Add", "x f")], {"zero": ints(0)}
    ),
    "some samples": refused(
        {"x": (4,)},
        [node("Slice", "x zero one", "f"), node("Add", "x f")],
        {"zero": ints(0), "one": ints(1)},
    ),
    "backwards through the samples": refused(
        {"x": (4,)},
        [node("Slice", "x last first axes steps", "f"), node("Add", "x f")],
        {
            "last": ints(-1),
            "first": ints(-(2**63) + 1),
            "axes": ints(0),
            "steps": ints(-1),
        },
    ),
    "padded samples": refused(
        {"x": (4,)},
        [
            node("Pad", "x pads", "p"),
            node("Slice", "p zero end"),
        ],
        {"pads": ints(1, 0, 0, 0), "zero": ints(0), "end": ints(-1)},
    ),
    "sums along the samples": refused(
        {"x": (4,)}, [node("CumSum", "x axis")], {"axis": ints(0)[0]}
    ),
    "the size as a number": refused(
        {"x": (4,)},
        [
            node("Shape", "x", "s", end=1),
            node("Cast", "s", "n", to=TensorProto.FLOAT),
            node("Div", "x n"),
        ],
    ),
    "the size compared": refused(
        {"x": (4,)},
        [
            node("Shape", "x", "s", end=1),
            node("Equal", "s size", "same"),
            node("Where", "same x negative"),
        ],
        lambda batch: {"size": ints(batch), "negative": ramp(1, 1)},
    ),
    "places of maxima": refused(
        {"x": (1, 4)},
        [
            node("MaxPool", "x", "m i", kernel_shape=[2]),
            node("Cast", "i", "f", to=TensorProto.FLOAT),
            node("Add", "m f"),
        ],
    ),
    "a recurrent layer through the samples": refused(
        {"x": (2, 3)},
        [
            node("LSTM", "x W R B", "a", hidden_size=2),
            node("Squeeze", "a one"),
        ],
        {**LSTM, "one": ints(1)},
    ),
    "states per sample": refused(
        {"x": (5, 3)},
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node("RNN", "t V S _ _ h", "a b", hidden_size=2),
            node("Squeeze", "b zero"),
        ],
        lambda batch: {
            "V": weight(1, 2, 3),
            "S": weight(1, 2, 2),
            "h": ramp(1, batch, 2),
            "zero": ints(0),
        },
        batches=(3,),
    ),
    "joined samples": refused(
        {"x": (4,)},
        [node("Concat", "x c", "j", axis=0), node("Slice", "j one all")],
        {"c": ramp(1, 4), "one": ints(1), "all": ints(2**63 - 1)},
    ),
    "tokens per sample": refused(
        {"x": (3, 4)},
        [node("Concat", "t x", axis=1)],
        lambda batch: {"t": ramp(batch, 1, 4)},
        batches=(3,),
    ),
    "picked across samples": refused(
        {"x": (4,)},
        [node("GatherElements", "x c", axis=0)],
        lambda batch: {"c": np.full((batch, 4), batch - 1)},
    ),
}


def naive(model):
    """Return the model with the batch merely called dynamic."""
    proto = onnx.ModelProto.FromString(model.SerializeToString())
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto


@pytest.mark.parametrize(
    ("name", "batch"), [(name, batch) for name, case in WRONG.items() for batch in case[4]]
)
def test_where_samples_see_each_other_the_model_is_left_as_it_is(
    name, batch, make_model, run_model
):
    case = WRONG[name]
    file = exported(case[:4], batch, make_model)
    model = canonical(file)
    before = ir.to_proto(model).SerializeToString()
    found = free_batch(model)
    assert (found.size, found.dynamic) == (batch, False)
    assert any(n.op_type in found.reason for n in file.graph.node) or "output" in found.reason
    assert ir.to_proto(model).SerializeToString() == before
    # and it had better: called dynamic, the model fails or gives other outputs
    feeds = arrays(case, 6)
    truth = in_pieces(run_model, file, feeds, batch)
    try:
        (ours,) = run_model(naive(file), feeds, ["y"])
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no base
        return
    assert ours.shape != truth.shape or not np.allclose(ours, truth, atol=1e-4)


def test_the_reason_names_the_node(make_model):
    case = WRONG["torn apart"]
    found = fixed_batch(canonical(exported(case[:4], 3, make_model)))
    assert str(found) == (
        "exported for batches of 3 only; run in pieces of 3: Reshape 'make y' tears "
        "samples apart: [3, 4] becomes [4, 3]"
    )
    assert str(FixedBatch(1, dynamic=True)) == "exported for batches of 1 only; made dynamic"


def test_looking_does_not_change_the_model(make_model):
    model = canonical(exported(RIGHT["a target with the batch size"], 3, make_model))
    before = ir.to_proto(model).SerializeToString()
    assert fixed_batch(model) == FixedBatch(3, dynamic=True)
    assert ir.to_proto(model).SerializeToString() == before


def test_a_model_of_any_batch_is_not_fixed(make_model):
    model = make_model([node("Relu", "x")], {"x": ["batch", 4]}, {"y": ["batch", 4]}, {})
    assert fixed_batch(canonical(model)) is None
    assert free_batch(canonical(model)) is None


def test_inputs_of_free_and_fixed_batch_go_together(make_model, run_model):
    inputs = {"x": [2, 4], "z": ["n", 4]}
    model = canonical(make_model([node("Add", "x z")], inputs, {"y": [2, 4]}, {}))
    assert free_batch(model) == FixedBatch(2, dynamic=True)
    feeds = {"x": ramp(5, 4), "z": -ramp(5, 4)}
    assert not run_model(ir.to_proto(model), feeds)[0].any()


def test_inputs_of_two_batch_sizes_are_refused(make_model):
    model = canonical(
        make_model([node("Add", "x z")], {"x": [2, 4], "z": [1, 4]}, {"y": [2, 4]}, {})
    )
    with pytest.raises(UnsupportedModelError, match=r"first axes differ: 'x' 2, 'z' 1"):
        free_batch(model)


@pytest.mark.parametrize("op", ["If", "Loop"])
def test_graphs_within_nodes_are_not_followed(op, make_model):
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["o"])], "body", [], [out])
    if op == "If":
        inner = helper.make_node(
            "If", ["c"], ["y"], name="n", then_branch=body, else_branch=body
        )
    else:
        for name, kind in (("i", TensorProto.INT64), ("k", TensorProto.BOOL)):
            body.input.append(helper.make_tensor_value_info(name, kind, []))
        body.input.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, None))
        body.output.insert(0, helper.make_tensor_value_info("k", TensorProto.BOOL, []))
        inner = helper.make_node("Loop", ["m", "c", "x"], ["y"], name="n", body=body)
    tensors = {"c": np.array(True), "m": ints(1)[0]}
    model = canonical(make_model([inner], {"x": [1, 4]}, {"y": None}, tensors))
    assert (
        fixed_batch(model).reason == f"{op} 'n' runs a graph of its own, which is not followed"
    )


def test_unknown_operators_let_no_batch_through(make_model):
    model = make_model(
        [helper.make_node("Relu", ["x"], ["y"], name="n", domain="some.where")],
        {"x": [1, 4]},
        {"y": None},
        {},
    )
    model.opset_import.append(helper.make_opsetid("some.where", 1))
    assert "Relu 'n' is an operator of which" in fixed_batch(canonical(model)).reason


@pytest.mark.parametrize("perm", [None, [1, 0, 2]])
def test_an_output_without_the_batch_in_front_is_refused(perm, make_model):
    nodes = [node("Transpose", "x", perm=perm)] if perm else [node("Abs", "w")]
    model = make_model(nodes, {"x": [1, 4, 5]}, {"y": None}, {"w": W4})
    expected = "output 'y' does not have the samples on its first axis"
    assert fixed_batch(canonical(model)).reason == expected


def test_sizes_of_other_axes_may_be_unknown(make_model, run_model):
    nodes = [
        node("Shape", "x", "t", start=1, end=2),
        node("Concat", "one t heads", "target", axis=0),
        node("Reshape", "x target", "h"),
        node("Transpose", "h", "q", perm=[0, 2, 1, 3]),
        node("Softmax", "q", "p", axis=-2),
        node("Transpose", "p", "m", perm=[0, 2, 1, 3]),
        node("Concat", "one t six", "back", axis=0),
        node("Reshape", "m back"),
    ]
    tensors = {"one": ints(1), "heads": ints(2, 3), "six": ints(6)}
    file = make_model(nodes, {"x": [1, "time", 6]}, {"y": None}, tensors)
    model = canonical(file)
    assert free_batch(model) == FixedBatch(1, dynamic=True)
    feeds = {"x": weight(4, 5, 6)}
    truth = in_pieces(run_model, file, feeds, 1)
    np.testing.assert_allclose(
        run_model(ir.to_proto(model), feeds, ["y"])[0], truth, rtol=1e-6
    )


def test_names_of_weights_stay_and_stale_shapes_go(make_model):
    case = RIGHT["the batch merged with others and found again"]
    file = exported(case, 3, make_model)
    file = onnx.shape_inference.infer_shapes(file)
    assert any(
        d.dim_value == 9 for v in file.graph.value_info for d in v.type.tensor_type.shape.dim
    )
    model = canonical(file)
    free_batch(model)
    proto = ir.to_proto(model)
    assert "w" in {tensor.name for tensor in proto.graph.initializer}
    made = {name for n in proto.graph.node for name in n.output}
    for value in proto.graph.value_info:
        assert value.name not in made or not value.type.tensor_type.HasField("shape")
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 0


@pytest.mark.parametrize("opset", [11, 17])
def test_squeezing_whatever_has_size_one_spares_a_last_batch_of_one(
    opset, make_model, run_model
):
    file = make_model(
        [node("Squeeze", "x")], {"x": [3, 1, 4, 1]}, {"y": None}, {}, opset=opset
    )
    model = canonical(file)
    assert free_batch(model) == FixedBatch(3, dynamic=True)
    for count in (1, 3, 5):
        x = weight(count, 1, 4, 1)
        ours = run_model(ir.to_proto(model), {"x": x})[0]
        np.testing.assert_array_equal(ours, x.reshape(count, 4))


def test_squeezing_a_batch_of_one_away_is_refused(make_model):
    model = canonical(make_model([node("Squeeze", "x")], {"x": [1, 4]}, {"y": None}, {}))
    assert fixed_batch(model).reason == "Squeeze 'make y' drops the batch axis"


def test_places_that_sizes_leave_open_are_tried_one_after_the_other(make_model, run_model):
    # [1, 1, 8] may hold its one sample on the first axis or the second: the sum tells
    nodes = between(
        ("Reshape", "_ heads", {}),
        ("Transpose", "_", {"perm": [1, 0, 2]}),
        ("ReduceSum", "_ one", {"keepdims": 0}),
        ("Transpose", "_", {"perm": [0, 1]}),
    )
    tensors = {"heads": ints(1, 1, 8), "one": ints(1)}
    file = make_model(nodes, {"x": [1, 8]}, {"y": None}, tensors)
    model = canonical(file)
    assert free_batch(model) == FixedBatch(1, dynamic=True)
    feeds = {"x": weight(5, 8)}
    np.testing.assert_array_equal(run_model(ir.to_proto(model), feeds)[0], feeds["x"])


@pytest.mark.parametrize("fixture", ["cnn_torch_legacy_batch1", "cnn_torch_dynamo_batch5"])
def test_exporters_files_of_fixed_batch_are_freed(fixture, run_model):
    file = onnx.load(MODELS / f"{fixture}.onnx")
    model = canonical(file)
    found = free_batch(model)
    assert found.dynamic
    feeds = {"input": weight(10, 1, 8, 8)}
    pieces = [
        run_model(file, {"input": feeds["input"][i : i + found.size]})[0]
        for i in range(0, 10, found.size)
    ]
    ours = run_model(ir.to_proto(model), feeds)[0]
    np.testing.assert_allclose(ours, np.concatenate(pieces), rtol=1e-5, atol=1e-6)
