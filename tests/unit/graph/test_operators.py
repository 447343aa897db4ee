"""The axis test: a filter that moves changes the output channel it makes, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from onnx import helper

from onnxscape.graph.operators import WEIGHTS


@dataclass(frozen=True)
class Case:
    """An operator with a weight.

    `channels` are the axes of the output that count the channels a filter makes, the slowest
    first. `axis` is the filter axis of the weight (None: more than one axis counts filters).
    """

    op: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    channels: tuple[int, ...]
    axis: int | None
    slot: int = 1
    attributes: dict[str, object] = field(default_factory=dict)


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
        "MatMul", (2, 5, 3), (2, 3, 4), (2, 5, 4), (0, 2), None
    ),
    "matmul of one matrix in a batch": Case(
        "MatMul", (2, 5, 3), (1, 3, 4), (2, 5, 4), (2,), 2
    ),
    "matmul of a square batch": Case("MatMul", (3, 3, 3), (3, 3, 3), (3, 3, 3), (0, 2), None),
    "matmul of heads": Case(
        "MatMul", (1, 2, 3, 5, 3), (2, 3, 3, 4), (1, 2, 3, 5, 4), (1, 2, 4), None
    ),
    "matmul of a vector": Case("MatMul", (2, 3), (3,), (2,), (), None),
    "matmul weight first": Case("MatMul", (3, 2), (4, 3), (4, 2), (0,), 0, slot=0),
    "matmul weight first of a batch": Case(
        "MatMul", (2, 3, 5), (2, 4, 3), (2, 4, 5), (0, 1), None, slot=0
    ),
    "matmul vector first": Case("MatMul", (3, 2), (3,), (2,), (), None, slot=0),
}


@pytest.fixture
def make_case(make_model):
    """Returns the model of a case; the weight reaches the operator through some nodes."""

    def make(case, views=(), source=None, **options):
        rng = np.random.default_rng(0)
        source = np.float32(rng.standard_normal(case.weight)) if source is None else source
        operands = ["x", "weight" if views else "source"]
        node = helper.make_node(
            case.op, operands if case.slot == 1 else operands[::-1], ["y"], **case.attributes
        )
        return make_model(
            [*views, node], {"x": case.x}, {"y": case.y}, {"source": source}, **options
        )

    return make


@pytest.fixture
def check_axes(run_model, edited):
    """Returns a check that each row of a layout makes one channel of the output."""

    def check(model, parameter, case):
        rng = np.random.default_rng(1)
        feeds = {"x": np.float32(rng.standard_normal(case.x))}
        (center,) = run_model(model, feeds)
        count = int(np.prod([case.y[axis] for axis in case.channels]))
        layout = parameter.layout
        assert layout.filters == count
        for j in range(count):
            rows = layout.to_filters(parameter.values).copy()
            rows[j] += np.float32(rng.uniform(1, 2, layout.elements))
            moved = edited(model, {parameter.name: layout.from_filters(rows)})
            (y,) = run_model(moved, feeds)
            by_channel = np.moveaxis(
                y != center, case.channels, range(len(case.channels))
            ).reshape(count, -1)
            assert by_channel[j].all(), f"filter {j} does not make all of channel {j}"
            assert np.flatnonzero(by_channel.any(axis=1)).tolist() == [j]

    return check


def test_there_is_a_case_for_every_row_of_the_table():
    assert {(case.op, case.slot) for case in CASES.values()} == set(WEIGHTS)


@pytest.mark.parametrize("name", CASES)
def test_a_filter_makes_its_output_channel_and_no_other(name, make_case, analysed, check_axes):
    case = CASES[name]
    model = make_case(case)
    weight = analysed(model).parameters["source"]
    assert weight.role == "weight"
    check_axes(model, weight, case)


@pytest.mark.parametrize("name", CASES)
def test_the_filter_axis_is_that_of_the_table(name, make_case, analysed):
    weight = analysed(make_case(CASES[name])).parameters["source"]
    assert weight.filter_axis == CASES[name].axis
    if weight.filter_axis is not None and "group" not in CASES[name].attributes:
        numbers = np.arange(weight.values.size).reshape(weight.shape)
        for j, row in enumerate(weight.layout.to_filters(numbers)):
            assert set(row) == set(numbers.take(j, axis=weight.filter_axis).ravel())


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
        None,
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
