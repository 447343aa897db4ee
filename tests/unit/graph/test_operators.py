"""The axis test: a filter that moves changes the output channel it makes, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import helper

from onnxscape.core.direction import random_direction
from onnxscape.graph.operators import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Case:
    """An operator with a weight.

    `channels` are the axes of the output that count the channels a filter makes, the slowest
    first; `channel_of` tells the channel of a filter where they are not the same number.
    `axis` is the filter axis of the weight (None: several count filters). `others` are the
    operator's further operands by slot: a shape is a tensor of the file, an array is fed.
    """

    op: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    channels: tuple[int, ...]
    axis: int | None
    slot: int = 1
    attributes: dict[str, object] = field(default_factory=dict)
    others: dict[int, object] = field(default_factory=dict)
    channel_of: Callable[[int], int] = int
    domain: str = ""
    opset: int = 17
    outputs: int = 1

    @property
    def fed(self):
        """Arrays by input name: x, and what else is fed."""
        x = (
            {"x": np.float32(np.random.default_rng(1).standard_normal(self.x))}
            if self.x
            else {}
        )
        arrays = {f"in{i}": a for i, a in self.others.items() if isinstance(a, np.ndarray)}
        return x | arrays


def microsoft(*args, **options):
    return Case(*args, **options, domain="com.microsoft")


def counting(*shape, dtype=np.int64):
    """Return indices that name every row once."""
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


CASES = {
    "conv": Case("Conv", (2, 3, 6, 6), (4, 3, 3, 3), (2, 4, 4, 4), (1,), 0),
    "conv of one dimension": Case("Conv", (2, 3, 6), (4, 3, 3), (2, 4, 4), (1,), 0),
    "conv of three": Case("Conv", (1, 2, 3, 3, 3), (4, 2, 2, 2, 2), (1, 4, 2, 2, 2), (1,), 0),
    "conv 1x1": Case("Conv", (2, 3, 4, 4), (4, 3, 1, 1), (2, 4, 4, 4), (1,), 0),
    "grouped conv": Case(
        "Conv", (2, 4, 6, 6), (6, 2, 3, 3), (2, 6, 4, 4), (1,), 0, attributes={"group": 2}
    ),
    "depthwise conv": Case(
        "Conv", (2, 4, 6, 6), (4, 1, 3, 3), (2, 4, 4, 4), (1,), 0, attributes={"group": 4}
    ),
    "depthwise conv with multiplier": Case(
        "Conv", (2, 3, 5, 5), (6, 1, 3, 3), (2, 6, 3, 3), (1,), 0, attributes={"group": 3}
    ),
    "conv transpose": Case("ConvTranspose", (2, 3, 4, 4), (3, 5, 2, 2), (2, 5, 5, 5), (1,), 1),
    "conv transpose of one dimension": Case(
        "ConvTranspose", (2, 3, 4), (3, 5, 2), (2, 5, 5), (1,), 1
    ),
    "grouped conv transpose": Case(
        "ConvTranspose",
        (2, 6, 4, 4),
        (6, 2, 2, 2),
        (2, 6, 5, 5),
        (1,),
        1,
        attributes={"group": 3},
    ),
    "depthwise conv transpose": Case(
        "ConvTranspose",
        (2, 4, 3, 3),
        (4, 1, 2, 2),
        (2, 4, 4, 4),
        (1,),
        1,
        attributes={"group": 4},
    ),
    "gemm": Case("Gemm", (2, 3), (3, 4), (2, 4), (1,), 1),
    "gemm transB": Case("Gemm", (2, 3), (4, 3), (2, 4), (1,), 0, attributes={"transB": 1}),
    "gemm with alpha": Case(
        "Gemm", (2, 3), (3, 4), (2, 4), (1,), 1, attributes={"alpha": 0.5}
    ),
    "gemm weight first": Case("Gemm", (3, 2), (4, 3), (4, 2), (0,), 0, slot=0),
    "gemm weight first transA": Case(
        "Gemm", (3, 2), (3, 4), (4, 2), (0,), 1, slot=0, attributes={"transA": 1}
    ),
    "matmul": Case("MatMul", (2, 3), (3, 4), (2, 4), (1,), 1),
    "matmul of sequences": Case("MatMul", (2, 5, 3), (3, 4), (2, 5, 4), (2,), 1),
    "matmul of a batch of matrices": Case(
        "MatMul", (2, 5, 3), (2, 3, 4), (2, 5, 4), (0, 2), 2
    ),
    "matmul of one matrix in a batch": Case(
        "MatMul", (2, 5, 3), (1, 3, 4), (2, 5, 4), (2,), 2
    ),
    "matmul of a square batch": Case("MatMul", (3, 3, 3), (3, 3, 3), (3, 3, 3), (0, 2), 2),
    "matmul of heads": Case(
        "MatMul", (1, 2, 3, 5, 3), (2, 3, 3, 4), (1, 2, 3, 5, 4), (1, 2, 4), 3
    ),
    "matmul of a vector": Case("MatMul", (2, 3), (3,), (2,), (), None),
    "matmul weight first": Case("MatMul", (3, 2), (4, 3), (4, 2), (0,), 0, slot=0),
    "matmul weight first of a batch": Case(
        "MatMul", (2, 3, 5), (2, 4, 3), (2, 4, 5), (0, 1), 1, slot=0
    ),
    "matmul vector first": Case("MatMul", (3, 2), (3,), (2,), (), None, slot=0),
    "deformable conv": Case(
        "DeformConv",
        (2, 4, 5, 5),
        (6, 2, 3, 3),
        (2, 6, 3, 3),
        (1,),
        0,
        attributes={"group": 2, "kernel_shape": [3, 3]},
        others={2: np.full((2, 18, 3, 3), 0.25, np.float32), 3: (6,)},
        opset=19,
    ),
    # --- Einsum: the labels of the weight that reach the output count filters
    "einsum as matmul": Case(
        "Einsum", (2, 5, 3), (3, 4), (2, 5, 4), (2,), 1, attributes={"equation": "bti,io->bto"}
    ),
    "einsum of rows": Case(
        "Einsum", (2, 3), (4, 3), (2, 4), (1,), 0, attributes={"equation": "bi , oi -> bo"}
    ),
    "einsum weight first": Case(
        "Einsum", (3, 2), (3, 4), (2, 4), (1,), 1, 0, attributes={"equation": "io,ib->bo"}
    ),
    "einsum into heads": Case(
        "Einsum",
        (2, 5, 3),
        (3, 4, 2),
        (2, 4, 5, 2),
        (1, 3),
        None,
        attributes={"equation": "bti,ihd->bhtd"},
    ),
    "einsum into heads, turned": Case(
        "Einsum",
        (2, 5, 3),
        (4, 2, 3),
        (2, 5, 2, 4),
        (2, 3),
        None,
        attributes={"equation": "bti,hdi->btdh"},
    ),
    "einsum out of heads": Case(
        "Einsum",
        (2, 5, 4, 2),
        (4, 2, 3),
        (2, 5, 3),
        (2,),
        2,
        attributes={"equation": "bthd,hdo->bto"},
    ),
    "einsum without an arrow": Case(
        "Einsum", (2, 3), (3, 4), (2, 4), (1,), 1, attributes={"equation": "ab,bc"}
    ),
    "einsum with an ellipsis of the input's": Case(
        "Einsum",
        (2, 5, 3),
        (3, 4),
        (2, 5, 4),
        (2,),
        1,
        attributes={"equation": "...i,io->...o"},
    ),
    "einsum with an ellipsis of both": Case(
        "Einsum",
        (2, 5, 3),
        (2, 3, 4),
        (2, 5, 4),
        (0, 2),
        None,
        attributes={"equation": "...ti,...io->...to"},
    ),
    "einsum with an implicit ellipsis": Case(
        "Einsum",
        (2, 5, 3),
        (2, 3, 4),
        (2, 4, 5),
        (0, 1),
        None,
        attributes={"equation": "...ti,...io"},
    ),
    "einsum of one filter": Case(
        "Einsum", (2, 3), (3,), (2,), (), None, attributes={"equation": "bi,i->b"}
    ),
    "einsum of three, the last": Case(
        "Einsum",
        (2, 3),
        (5, 4),
        (2, 4),
        (1,),
        1,
        2,
        attributes={"equation": "bi,ih,ho->bo"},
        others={1: np.float32(np.random.default_rng(2).standard_normal((3, 5)))},
    ),
    "einsum of four, the last": Case(
        "Einsum",
        (2, 3),
        (4,),
        (2, 4),
        (1,),
        0,
        3,
        attributes={"equation": "bi,ih,ho,o->bo"},
        others={
            1: np.float32(np.random.default_rng(2).standard_normal((3, 5))),
            2: np.float32(np.random.default_rng(3).standard_normal((5, 4))),
        },
    ),
    # --- recurrent layers, one step: gate row g of unit h makes unit h
    **{
        f"{op}, {kind}, {'both ways' if ways == 2 else 'one way'}": Case(
            op,
            (1, 3, 2),
            (ways, gates * 4, 2 if slot == 1 else 4),
            (1, ways, 3, 4),
            (1, 3),
            1,
            slot,
            attributes={
                "hidden_size": 4,
                "direction": "bidirectional" if ways == 2 else "forward",
            }
            | ({"linear_before_reset": 1} if op == "GRU" else {}),
            others={
                3 - slot: (ways, gates * 4, 4 if slot == 1 else 2),
                3: (ways, 2 * gates * 4),
                5: (ways, 3, 4),
            }
            | ({6: (ways, 3, 4), 7: (ways, 12)} if op == "LSTM" else {}),
            channel_of=lambda j, gates=gates: j // (gates * 4) * 4 + j % 4,
        )
        for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
        for slot, kind in ((1, "input"), (2, "recurrence"))
        for ways in (1, 2)
    },
    # --- embeddings: a row makes its token
    "embedding": Case("Gather", (), (7, 4), (7, 4), (0,), 0, 0, others={1: counting(7)}),
    "embedding along the last axis": Case(
        "Gather", (), (4, 7), (4, 7), (1,), 1, 0, {"axis": -1}, {1: counting(7)}
    ),
    "embedding of several axes": Case(
        "Gather", (), (2, 5, 3), (2, 5, 3), (1,), 1, 0, {"axis": 1}, {1: counting(5)}
    ),
    # --- what ONNX Runtime writes
    "fused conv": microsoft(
        "FusedConv",
        (2, 4, 6, 6),
        (6, 2, 3, 3),
        (2, 6, 4, 4),
        (1,),
        0,
        attributes={"group": 2, "activation": "LeakyRelu", "activation_params": [0.5]},
        others={2: (6,), 3: np.zeros((2, 6, 4, 4), np.float32)},
    ),
    "conv transpose with dynamic pads": microsoft(
        "ConvTransposeWithDynamicPads",
        (2, 3, 4, 4),
        (3, 5, 2, 2),
        (2, 5, 5, 5),
        (1,),
        1,
        others={2: np.zeros(4, np.int64), 3: (5,)},
    ),
    "fused gemm": microsoft(
        "FusedGemm", (2, 3), (3, 4), (2, 4), (1,), 1, 1, {"activation": "Tanh"}, {2: (4,)}
    ),
    "fused gemm transB": microsoft(
        "FusedGemm", (2, 3), (4, 3), (2, 4), (1,), 0, 1, {"activation": "Tanh", "transB": 1}
    ),
    "fused gemm weight first": microsoft(
        "FusedGemm", (3, 2), (4, 3), (4, 2), (0,), 0, 0, {"activation": "Tanh"}
    ),
    "fused matmul": microsoft("FusedMatMul", (2, 3), (3, 4), (2, 4), (1,), 1),
    "fused matmul transB": microsoft(
        "FusedMatMul", (2, 5, 3), (4, 3), (2, 5, 4), (2,), 0, 1, {"transB": 1}
    ),
    "fused matmul of a batch": microsoft(
        "FusedMatMul", (2, 5, 3), (2, 4, 3), (2, 5, 4), (0, 2), 1, 1, {"transB": 1}
    ),
    "fused matmul transBatchB": microsoft(
        "FusedMatMul", (2, 5, 3), (3, 2, 4), (2, 5, 4), (0, 2), 2, 1, {"transBatchB": 1}
    ),
    "fused matmul transBatchB and transB": microsoft(
        "FusedMatMul",
        (2, 5, 3),
        (4, 2, 3),
        (2, 5, 4),
        (0, 2),
        0,
        1,
        {"transBatchB": 1, "transB": 1},
    ),
    "fused matmul weight first": microsoft("FusedMatMul", (3, 2), (4, 3), (4, 2), (0,), 0, 0),
    "fused matmul weight first, all turned": microsoft(
        "FusedMatMul",
        (2, 3, 5),
        (3, 2, 4),
        (2, 4, 5),
        (0, 1),
        2,
        0,
        {"transBatchA": 1, "transA": 1},
    ),
    "transpose matmul": microsoft(
        "TransposeMatMul", (2, 3), (4, 3), (2, 4), (1,), 0, 1, {"transB": 1}
    ),
    "transpose matmul weight first": microsoft(
        "TransposeMatMul", (3, 2), (3, 4), (4, 2), (0,), 1, 0, {"transA": 1}
    ),
    # Heads of one channel each: a filter of query, key or value makes its head.
    "attention": microsoft(
        "Attention",
        (2, 5, 3),
        (3, 12),
        (2, 5, 4),
        (2,),
        1,
        1,
        {"num_heads": 4},
        {2: (12,)},
        channel_of=lambda j: j % 4,
    ),
    "embedding of words": microsoft(
        "EmbedLayerNormalization",
        (),
        (7, 4),
        (1, 7, 4),
        (1,),
        0,
        2,
        {},
        {
            0: counting(1, 7, dtype=np.int32),
            1: np.zeros((1, 7), np.int32),
            3: (7, 4),
            4: (2, 4),
            5: (4,),
            6: (4,),
        },
        outputs=2,
    ),
    "embedding of positions": microsoft(
        "EmbedLayerNormalization",
        (),
        (7, 4),
        (1, 7, 4),
        (1,),
        0,
        3,
        {},
        {
            0: counting(1, 7, dtype=np.int32),
            1: np.zeros((1, 7), np.int32),
            2: (7, 4),
            4: (2, 4),
            5: (4,),
            6: (4,),
        },
        outputs=2,
    ),
    "embedding of segments": microsoft(
        "EmbedLayerNormalization",
        (),
        (2, 4),
        (1, 2, 4),
        (1,),
        0,
        4,
        {},
        {
            0: counting(1, 2, dtype=np.int32),
            1: counting(1, 2, dtype=np.int32),
            2: (7, 4),
            3: (7, 4),
            5: (4,),
            6: (4,),
        },
        outputs=2,
    ),
    # Two experts, the first tokens go to the first: [token of an expert, channel].
    "experts": microsoft(
        "MoE",
        (2, 3),
        (2, 3, 4),
        (2, 3),
        (0, 1),
        1,
        4,
        {"k": 1, "activation_type": "gelu"},
        {1: np.float32([[9, -9], [-9, 9]]), 2: (2, 4, 3), 3: (2, 4), 5: (2, 3)},
    ),
}


SAME_RULE = {
    ("com.microsoft.NhwcConv", 1): ("com.microsoft.FusedConv", 1),
    ("com.microsoft.NhwcFusedConv", 1): ("com.microsoft.FusedConv", 1),
    ("com.microsoft.CausalConvWithState", 1): ("com.microsoft.FusedConv", 1),
    ("CausalConvWithState", 1): ("com.microsoft.FusedConv", 1),
    ("com.microsoft.GemmFastGelu", 1): ("com.microsoft.Attention", 1),
    # The rows of a gate or an expert's first matrix are spread over channels by what follows.
    ("com.microsoft.MoE", 2): ("com.microsoft.MoE", 4),
    ("com.microsoft.MoE", 6): ("com.microsoft.MoE", 4),
}
"""Rows without a case, as ONNX Runtime has no such operator on the CPU, to rows with one."""


@pytest.fixture
def make_case(make_model):
    """Returns the model of a case; the weight reaches the operator through some nodes."""

    def make(case, views=(), source=None, **options):
        rng = np.random.default_rng(0)
        source = np.float32(rng.standard_normal(case.weight)) if source is None else source
        operands = {i: f"in{i}" for i in case.others}
        operands[case.slot] = "weight" if views else "source"
        if case.x:
            operands[min(set(range(9)) - operands.keys())] = "x"
        node = helper.make_node(
            case.op,
            [operands.get(i, "") for i in range(max(operands) + 1)],
            ["y", *(f"y{i}" for i in range(1, case.outputs))],
            domain=case.domain,
            **case.attributes,
        )
        fed = case.fed
        tensors = {
            f"in{i}": np.float32(rng.standard_normal(shape))
            for i, shape in case.others.items()
            if f"in{i}" not in fed
        }
        types = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in fed.items()}
        model = make_model(
            [*views, node],
            {name: array.shape for name, array in fed.items()},
            {"y": case.y},
            {"source": source, **tensors},
            types=types,
            **{"opset": case.opset} | options,
        )
        if case.domain:
            model.opset_import.append(helper.make_opsetid(case.domain, 1))
        return model

    return make


@pytest.fixture
def check_axes(run_model, edited):
    """Returns a check that each row of a layout makes one channel of the output."""

    def check(model, parameter, case):
        (center,) = run_model(model, case.fed)
        count = int(np.prod([case.y[axis] for axis in case.channels]))
        layout = parameter.layout
        assert {case.channel_of(j) for j in range(layout.filters)} == set(range(count))
        direction = random_direction([parameter], seed=0, axis=0).tensors[parameter.name]
        rows = layout.to_filters(parameter.values)
        steps = layout.to_filters(direction)
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
        np.testing.assert_allclose(
            np.linalg.norm(steps.astype(np.float64), axis=1), norms, rtol=1e-6
        )
        for j in range(layout.filters):
            moved_rows = rows.copy()
            moved_rows[j] += steps[j]
            moved = edited(model, {parameter.name: layout.from_filters(moved_rows)})
            (y,) = run_model(moved, case.fed)
            by_channel = np.moveaxis(
                y != center, case.channels, range(len(case.channels))
            ).reshape(count, -1)
            channel = case.channel_of(j)
            assert by_channel[channel].all(), f"filter {j} does not make all of {channel}"
            assert np.flatnonzero(by_channel.any(axis=1)).tolist() == [channel]

    return check


def test_there_is_a_case_for_every_row_of_the_table():
    rows = {(f"{case.domain}.{case.op}".lstrip("."), case.slot) for case in CASES.values()}
    assert rows | SAME_RULE.keys() | {("Slice", 0)} == set(WEIGHTS)  # that one is below
    assert not rows & SAME_RULE.keys()
    for row, other in SAME_RULE.items():
        assert WEIGHTS[row] is WEIGHTS[other]


@pytest.mark.parametrize("name", CASES)
def test_a_filter_makes_its_output_channel_and_no_other(name, make_case, analysed, check_axes):
    case = CASES[name]
    model = make_case(case)
    weight = analysed(model).parameters["source"]
    assert weight.role == "weight"
    check_axes(model, weight, case)


@pytest.mark.parametrize("name", CASES)
def test_the_filter_axis_is_that_of_the_table(name, make_case, analysed):
    case = CASES[name]
    weight = analysed(make_case(case)).parameters["source"]
    assert weight.filter_axis == case.axis
    assert weight.op == case.op
    if weight.filter_axis is not None and "group" not in case.attributes:
        numbers = np.arange(weight.values.size).reshape(weight.shape)
        count = weight.shape[weight.filter_axis]
        places = np.unravel_index(weight.layout.to_filters(numbers), weight.shape)
        along = places[weight.filter_axis]
        assert (along == along[:, :1]).all()
        assert set(along[:, 0]) == set(range(count))


def node(op, inputs, output="weight", **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def numbers(name, *values):
    return helper.make_node("Constant", [], [name], value_ints=list(values))


# Shape of the tensor in the file, the nodes that lead from it to the operator, its filter
# axis, and the operator set where it matters.
VIEWS = {
    "identity": ("conv", (4, 3, 3, 3), [node("Identity", ["source"])], 0, 17),
    "transpose": ("gemm", (4, 3), [node("Transpose", ["source"])], 0, 17),
    "transpose of a conv from HWIO": (
        "conv",
        (3, 3, 3, 4),
        [node("Transpose", ["source"], perm=[3, 2, 0, 1])],
        3,
        17,
    ),
    "reshape from a matrix": (
        "conv",
        (4, 27),
        [numbers("shape", 0, 3, 3, -1), node("Reshape", ["source", "shape"])],
        0,
        17,
    ),
    "reshape from a vector": (
        "gemm transB",
        (12,),
        [numbers("shape", 4, 3), node("Reshape", ["source", "shape"])],
        None,
        17,
    ),
    "squeeze of all": ("gemm", (1, 3, 1, 4), [node("Squeeze", ["source"])], 3, 17),
    "squeeze of axes": (
        "conv 1x1",
        (1, 4, 3, 1, 1),
        [numbers("axes", 0), node("Squeeze", ["source", "axes"])],
        1,
        17,
    ),
    "squeeze of the last axis by attribute": (
        "matmul",
        (3, 4, 1),
        [node("Squeeze", ["source"], axes=[-1])],
        1,
        11,
    ),
    "unsqueeze": (
        "conv 1x1",
        (4, 3),
        [numbers("axes", -1, 2), node("Unsqueeze", ["source", "axes"])],
        0,
        17,
    ),
    "unsqueeze by attribute": (
        "conv 1x1",
        (4, 3),
        [node("Unsqueeze", ["source"], axes=[2, 3])],
        0,
        12,
    ),
    "flatten": ("gemm transB", (4, 3, 1), [node("Flatten", ["source"])], 0, 17),
    "flatten from the end": (
        "gemm",
        (1, 3, 4),
        [node("Flatten", ["source"], axis=-1)],
        2,
        17,
    ),
    "flatten of a grouped conv transpose": (
        "grouped conv transpose",
        (6, 8),
        [numbers("shape", 6, 2, 2, 2), node("Reshape", ["source", "shape"])],
        None,
        17,
    ),
    "transpose of a quantized recurrent layer": (
        "LSTM, recurrence, both ways",
        (2, 4, 16),
        [node("Transpose", ["source"], perm=[0, 2, 1])],
        2,
        17,
    ),
    "chain": (
        "gemm",
        (2, 2, 3, 1),
        [
            node("Identity", ["source"], "a"),
            node("Squeeze", ["a"], "b"),
            numbers("shape", 4, 3),
            node("Reshape", ["b", "shape"], "c"),
            node("Transpose", ["c"]),
        ],
        None,
        17,
    ),
    "batch of matrices, transposed": (
        "matmul of a batch of matrices",
        (4, 3, 2),
        [node("Transpose", ["source"], perm=[2, 1, 0])],
        0,
        17,
    ),
}


@pytest.mark.parametrize("name", VIEWS)
def test_filters_behind_a_view_are_expressed_on_the_tensor_of_the_file(
    name, make_case, analysed, check_axes
):
    key, shape, views, axis, opset = VIEWS[name]
    source = np.float32(np.random.default_rng(0).standard_normal(shape))
    model = make_case(CASES[key], views, source, opset=opset)
    weight = analysed(model).parameters["source"]
    assert weight.role == "weight"
    assert weight.shape == shape
    assert weight.filter_axis == axis
    check_axes(model, weight, CASES[key])


def test_an_operator_of_another_domain_is_not_known(make_model, analysed):
    custom = helper.make_node("Gemm", ["x", "w"], ["y"], domain="my.own")
    w = np.ones((3, 4), np.float32)
    found = analysed(make_model([custom], {"x": [2, 3]}, {"y": [2, 4]}, {"w": w}))
    assert found.parameters["w"].role == "constant"


@pytest.fixture
def positions(make_model):
    """Returns a model that adds the first rows of a table, as many as the input has."""

    def make(start=0, adds="Add"):
        nodes = [
            node("Shape", ["x"], "shape"),
            node("Slice", ["shape", "one", "two", "zero"], "length"),
            node("Slice", ["table", "start", "length", "zero"], "rows"),
            node(adds, ["x", "rows"], "y"),
        ]
        tensors = {
            "table": np.float32(np.random.default_rng(0).standard_normal((7, 4))),
            "start": np.array([start]),
            **{name: np.array([i]) for i, name in enumerate(("zero", "one", "two"))},
        }
        return make_model(nodes, {"x": ["n", "t", 4]}, {"y": ["n", "t", 4]}, tensors)

    return make


def test_the_first_rows_of_a_table_make_their_positions(
    positions, analysed, edited, run_model
):
    model = positions()
    table = analysed(model).parameters["table"]
    assert (table.role, table.op, table.filter_axis) == ("weight", "Slice", 0)
    x = {"x": np.zeros((2, 5, 4), np.float32)}
    (center,) = run_model(model, x)
    for j, row in enumerate(table.layout.to_filters(np.eye(28).reshape(28, 7, 4).sum(0))):
        assert row.tolist() == [1, 1, 1, 1]
        values = table.layout.to_filters(table.values).copy()
        values[j] += 1
        moved = edited(model, {"table": table.layout.from_filters(values)})
        (y,) = run_model(moved, x)
        assert np.unique(np.nonzero(y != center)[1]).tolist() == ([j] if j < 5 else [])


@pytest.mark.parametrize("options", [{"start": 1}, {"adds": "Mul"}])
def test_other_pieces_of_a_table_are_no_embedding(options, positions, analysed):
    found = analysed(positions(**options))
    assert found.parameters["table"].role == "constant"
    assert "tensor 'table' [7, 4] of Slice is not moved" in found.warnings[0]
