"""Models in which samples see each other, or might: none can be freed from its batch size."""

from __future__ import annotations

import numpy as np
from batch_models import LSTM, W34, between, ints, node, ramp, weight
from onnx import TensorProto


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
