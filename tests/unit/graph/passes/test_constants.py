"""Constant folding: what a chain computes has a name and values, and bombs do not go off."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.canonical import canonical
from onnxscape.graph.model_file import read_model
from onnxscape.graph.operands import resolve
from onnxscape.graph.prepared import rebuilt

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


X = {"x": tensor(5, 3)}


@pytest.fixture
def chain(make_model, node):
    """Returns the model x @ w, where nodes make w [3, 4] of tensors."""

    def build(entries, tensors, **options):
        nodes = [node(op, ins, out, **extra) for op, ins, out, extra in entries]
        nodes.append(node("MatMul", ["x", "w"], "y"))
        return make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 4]}, tensors, **options)

    return build


INT = {
    name: np.array(values)
    for name, values in {
        "zero": [0],
        "one": [1],
        "three": [3],
        "s34": [3, 4],
        "s43": [4, 3],
    }.items()
}

CHAINS = {
    "slice": ([("Slice", ["b", "zero", "three", "zero"], "w", {})], {"b": tensor(8, 4)}),
    "split": ([("Split", ["b"], ["w", "rest"], {})], {"b": tensor(6, 4)}),
    "concat": (
        [("Concat", ["b", "c"], "w", {"axis": 0})],
        {"b": tensor(1, 4), "c": tensor(2, 4)},
    ),
    "gather": (
        [("Gather", ["b", "i"], "w", {})],
        {"b": tensor(9, 4), "i": np.array([7, 0, 3])},
    ),
    "weight norm": (
        [
            ("ReduceL2", ["v"], "n", {"axes": [0], "keepdims": 1}),
            ("Div", ["v", "n"], "u", {}),
            ("Mul", ["u", "g"], "w", {}),
        ],
        {"v": tensor(3, 4), "g": tensor(1, 4)},
    ),
    "cast and scale": (
        [("Cast", ["q"], "f", {"to": 1}), ("Mul", ["f", "s"], "w", {})],
        {"q": RNG.integers(-9, 9, (3, 4)), "s": np.float32(0.1)},
    ),
    "low rank": (
        [("MatMul", ["l", "r"], "d", {}), ("Add", ["b", "d"], "w", {})],
        {"l": tensor(3, 2), "r": tensor(2, 4), "b": tensor(3, 4)},
    ),
    "filled": (
        [("ConstantOfShape", ["s34"], "w", {"value": helper.make_tensor("", 1, [1], [0.5])})],
        {},
    ),
    "expanded": ([("Expand", ["b", "s34"], "w", {})], {"b": tensor(1, 4)}),
    "tiled": ([("Tile", ["b", "t"], "w", {})], {"b": tensor(1, 4), "t": np.array([3, 1])}),
    "view, then more": (
        [("Transpose", ["b"], "t", {}), ("Neg", ["t"], "w", {})],
        {"b": tensor(4, 3)},
    ),
}


@pytest.mark.parametrize("case", CHAINS)
def test_a_computed_weight_is_a_tensor_of_the_name_at_its_operator(
    case, chain, unchanged, ops
):
    entries, tensors = CHAINS[case]
    form = unchanged(chain(entries, tensors | INT), X)
    assert ops(form) == ["MatMul"]
    assert form.model.graph.initializers["w"].const_value.shape == (3, 4)
    assert not form.warnings
    assert not form.loosened


@pytest.mark.parametrize("case", CHAINS)
def test_a_computed_weight_is_rebuilt_in_the_users_file(case, chain, run_model):
    entries, tensors = CHAINS[case]
    model = chain(entries, tensors | INT)
    new = tensor(3, 4)
    content = rebuilt(read_model(model), {"w": new})
    (y,) = run_model(content, X)
    np.testing.assert_allclose(y, X["x"] @ new, rtol=1e-5, atol=1e-6)
    # Edited, not replaced by ours.
    kept = [n.op_type for n in onnx.ModelProto.FromString(content).graph.node]
    assert kept == [n.op_type for n in model.graph.node]


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21, 23])
def test_views_stay_views_of_what_is_behind_them(opset, chain, unchanged, ops):
    entries = [
        ("Neg", ["b"], "c", {}),
        ("Reshape", ["c", "s43"], "d", {}),
        ("Transpose", ["d"], "w", {}),
    ]
    form = unchanged(chain(entries, {"b": tensor(12)} | INT, opset=opset, ir_version=8), X)
    assert ops(form) == ["Reshape", "Transpose", "MatMul"]
    operand = resolve(form.model.graph[2].inputs[1])
    assert operand.source.name == "c"


def test_shapes_that_are_computed_make_a_view(chain, unchanged):
    entries = [
        ("Concat", ["three", "four"], "shape", {"axis": 0}),
        ("Reshape", ["b", "shape"], "w", {}),
    ]
    form = unchanged(chain(entries, {"b": tensor(12), "four": np.array([4])} | INT), X)
    (reshape, matmul) = form.model.graph
    assert resolve(matmul.inputs[1]).source.name == "b"
    assert reshape.inputs[1].name == "shape"


def test_a_chain_from_a_weight_in_use_moves_with_it(make_model, node, unchanged, ops):
    # An embedding whose scaled transpose is the output layer: one tensor, one direction.
    nodes = [
        node("MatMul", ["x", "w"], "h"),
        node("Transpose", ["w"], "t"),
        node("Mul", ["t", "s"], "u"),
        node("MatMul", ["h", "u"], "y"),
    ]
    model = make_model(
        nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, {"w": tensor(3, 4), "s": np.float32(0.5)}
    )
    form = unchanged(model, X)
    assert ops(form) == ["MatMul", "Transpose", "Mul", "MatMul"]


def test_what_depends_on_an_input_is_no_constant(make_model, node, unchanged, ops):
    nodes = [node("Mul", ["w", "s"], "u"), node("MatMul", ["x", "u"], "y")]
    model = make_model(nodes, {"x": ["n", 3], "s": []}, {"y": ["n", 4]}, {"w": tensor(3, 4)})
    form = unchanged(model, X | {"s": np.array(2, np.float32)})
    assert ops(form) == ["Mul", "MatMul"]


def test_an_output_that_is_constant_stays_one(make_model, node, unchanged):
    nodes = [node("MatMul", ["x", "w"], "y"), node("Neg", ["w"], "z")]
    model = make_model(
        nodes, {"x": ["n", 3]}, {"y": ["n", 4], "z": [3, 4]}, {"w": tensor(3, 4)}
    )
    unchanged(model, X)


def test_other_operators_are_left_to_onnx_runtime(chain, unchanged, ops):
    form = unchanged(chain([("Erf", ["b"], "w", {})], {"b": tensor(3, 4)}), X)
    assert ops(form) == ["Erf", "MatMul"]


# --- sizes that the file states ------------------------------------------------------------


def sized(make_model, node, batch):
    """Return x @ w[:k], where k is the size of the last axis of x."""
    nodes = [
        node("Shape", ["x"], "k", start=1),
        node("Slice", ["b", "zero", "k", "zero"], "w"),
        node("MatMul", ["x", "w"], "y"),
    ]
    return make_model(
        nodes, {"x": [batch, 3]}, {"y": [batch, 4]}, {"b": tensor(8, 4), "zero": INT["zero"]}
    )


def test_a_size_that_the_file_states_is_a_constant(make_model, node, unchanged, ops):
    form = unchanged(sized(make_model, node, "n"), X)
    assert ops(form) == ["MatMul"]
    assert "w" in form.model.graph.initializers


def test_sizes_of_a_fixed_batch_are_left_alone(make_model, node, unchanged, ops):
    # Some of them may be multiples of it, and the batch is yet to be made dynamic.
    form = unchanged(sized(make_model, node, 5), X)
    assert ops(form) == ["Shape", "Slice", "MatMul"]


def test_a_size_that_the_file_does_not_state_is_left_alone(make_model, node, unchanged, ops):
    model = sized(make_model, node, "n")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "k"
    assert ops(unchanged(model, X)) == ["Shape", "Slice", "MatMul"]


def sized_inside(make_model, node, *, state="n"):
    """Return x @ w[:k], where k is the last axis of zeros that no size is stated of."""
    nodes = [
        node("Shape", ["x"], "n", end=1),
        node("Concat", ["n", "three"], "shape", axis=0),
        node("Expand", ["nought", "shape"], "zeros"),
        node("Shape", ["zeros"], "k", start=1),
        node("Slice", ["b", "zero", "k", "zero"], "w"),
        node("MatMul", ["x", "w"], "product"),
        node("ReduceSum", ["zeros", "one"], "nothing", keepdims=1),
        node("Add", ["product", "nothing"], "y"),
    ]
    tensors = {"b": tensor(8, 4), "nought": np.float32(0)}
    tensors |= {name: INT[name] for name in ("zero", "one", "three")}
    return make_model(nodes, {"x": [state, 3]}, {"y": [state, 4]}, tensors)


def test_a_size_that_follows_is_a_constant_where_a_weight_waits_for_it(
    make_model, node, unchanged
):
    form = unchanged(sized_inside(make_model, node), X)
    assert form.model.graph.initializers["w"].const_value.shape == [3, 4]


@pytest.mark.parametrize("how", ["contradiction", "fixed batch", "time", "size"])
def test_a_size_that_cannot_be_inferred_is_left_alone(
    how, make_model, node, unchanged, ops, monkeypatch
):
    model = sized_inside(make_model, node, state=5 if how == "fixed batch" else "n")
    module = "onnxscape.graph.passes.inferred_sizes"
    if how == "contradiction":
        stated = helper.make_tensor_value_info("product", TensorProto.FLOAT, ["n", 4, 4, 4])
        model.graph.value_info.append(stated)
    if how == "time":
        monkeypatch.setattr(f"{module}.INFERENCE_SECONDS", 0)
    if how == "size":
        monkeypatch.setattr(f"{module}._MOST_BYTES", 100)
    assert "Slice" in ops(unchanged(model, X))


# --- bodies -------------------------------------------------------------------------------


@pytest.fixture
def branches(make_model, node):
    """Returns a model whose two bodies compute x @ w, each from its own tensors."""

    def body(nodes, tensors, name):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])
        weights = [numpy_helper.from_array(a, n) for n, a in tensors.items()]
        return helper.make_graph(nodes, name, [], [output], weights)

    def build(left, right):
        then, other = body(*left, "l"), body(*right, "r")
        choice = node("If", ["flag"], "y", then_branch=then, else_branch=other)
        return make_model(
            [choice],
            {"x": ["n", 3], "flag": []},
            {"y": ["n", 4]},
            {},
            types={"flag": TensorProto.BOOL},
        )

    return build


@pytest.mark.parametrize("flag", [True, False])
def test_tensors_of_bodies_are_hoisted_and_renamed_on_a_clash(flag, branches, node, unchanged):
    model = branches(
        ([node("MatMul", ["x", "w"], "l")], {"w": tensor(3, 4)}),
        ([node("Neg", ["v"], "w"), node("MatMul", ["x", "w"], "r")], {"v": tensor(3, 4)}),
    )
    form = unchanged(model, X | {"flag": np.array(flag)})
    assert len({"w", "w_1"} & form.model.graph.initializers.keys()) == 2
    assert all(not g.initializers for g in form.model.graphs() if g is not form.model.graph)


@pytest.mark.parametrize("flag", [True, False])
def test_same_names_in_two_bodies_stay_two_tensors(flag, branches, node, unchanged, run_model):
    weights = tensor(3, 4), tensor(3, 4)
    model = branches(
        ([node("MatMul", ["x", "w"], "l")], {"w": weights[0]}),
        ([node("MatMul", ["x", "w"], "r")], {"w": weights[1]}),
    )
    feeds = X | {"flag": np.array(flag)}
    form = unchanged(model, feeds)
    assert form.model.graph.initializers.keys() == {"w", "w_1"}
    moved = {"w": tensor(3, 4), "w_1": tensor(3, 4)}
    (y,) = run_model(rebuilt(read_model(model), moved), feeds)
    tensors = form.model.graph.initializers
    by_branch = {
        bool((tensors[name].const_value.numpy() == weights[0]).all()): values
        for name, values in moved.items()
    }
    np.testing.assert_allclose(y, X["x"] @ by_branch[flag], rtol=1e-5, atol=1e-6)


def test_a_weight_of_a_body_is_rebuilt_where_it_is(branches, node, run_model):
    model = branches(
        ([node("MatMul", ["x", "w"], "l")], {"w": tensor(3, 4)}),
        ([node("MatMul", ["x", "v"], "r")], {"v": tensor(3, 4)}),
    )
    new = tensor(3, 4)
    content = rebuilt(read_model(model), {"v": new})
    (y,) = run_model(content, X | {"flag": np.array(False)})
    np.testing.assert_allclose(y, X["x"] @ new, rtol=1e-5, atol=1e-6)
    assert not onnx.ModelProto.FromString(content).graph.initializer


# --- bombs --------------------------------------------------------------------------------

HUGE = 2**40


@pytest.mark.parametrize(
    ("entries", "tensors"),
    [
        ([("ConstantOfShape", ["n"], "c", {})], {"n": np.array([HUGE])}),
        ([("ConstantOfShape", ["n"], "c", {})], {"n": np.array([2**31, 2**31, 4])}),
        ([("Expand", ["b", "n"], "c", {})], {"b": tensor(1), "n": np.array([HUGE])}),
        ([("Tile", ["b", "n"], "c", {})], {"b": tensor(8), "n": np.array([HUGE])}),
        (
            [("Range", ["a", "n", "s"], "c", {})],
            {"a": np.array(0), "n": np.array(HUGE), "s": np.array(1)},
        ),
        ([("MatMul", ["l", "r"], "c", {})], {"l": tensor(10**5, 1), "r": tensor(1, 10**5)}),
        ([("Add", ["l", "r"], "c", {})], {"l": tensor(10**5, 1), "r": tensor(1, 10**5)}),
        (
            [
                *[("ConstantOfShape", ["n"], f"c{i}", {}) for i in range(5)],
                ("Concat", [f"c{i}" for i in range(5)], "c", {"axis": 0}),
            ],
            {"n": np.array([2**24])},
        ),
    ],
    ids=["filled", "filled axes", "expand", "tile", "range", "outer", "broadcast", "many"],
)
def test_constants_out_of_nothing_are_refused_before_they_are_made(entries, tensors, chain):
    total = [("ReduceMax", ["c"], "m", {"keepdims": 0}), ("Mul", ["v", "m"], "w", {})]
    model = chain([*entries, *total], tensors | {"v": tensor(3, 4)})
    with pytest.raises(UnsupportedModelError, match="makes constants of more than 67108864"):
        canonical(model)


def test_a_damaged_chain_is_left_as_it_is(chain):
    form = canonical(chain([("Add", ["b", "c"], "w", {})], {"b": tensor(3), "c": tensor(4)}))
    assert [n.op_type for n in form.model.graph] == ["Add", "MatMul"]
    assert isinstance(form.model, ir.Model)


def test_a_node_stays_of_which_only_the_shape_of_one_output_is_asked(
    make_model, node, run_model
):
    nodes = [
        node("Split", ["x"], ["first", "second"], axis=1),
        node("Shape", ["first"], "shape"),
        node("Reshape", ["second", "shape"], "again"),
        node("MatMul", ["again", "w"], "y"),
    ]
    file = make_model(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, {"w": tensor(2, 3)})
    file.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    file.graph.value_info.append(
        helper.make_tensor_value_info("first", TensorProto.FLOAT, [5, 2])
    )
    form = ir.to_proto(canonical(file).model)
    assert not [n for n in form.graph.node if n.op_type == "Shape"]
    feeds = {"x": tensor(5, 4)}
    np.testing.assert_array_equal(run_model(form, feeds)[0], run_model(file, feeds)[0])


def test_a_long_chain_of_which_only_the_shape_is_asked_goes(make_model, node):
    nodes = [node("Relu", [f"h{i}" if i else "x"], f"h{i + 1}") for i in range(3000)]
    nodes += [node("Shape", ["h3000"], "shape"), node("Expand", ["one", "shape"], "wide")]
    nodes += [node("Mul", ["x", "wide"], "m"), node("MatMul", ["m", "w"], "y")]
    tensors = {"w": tensor(3, 4), "one": np.float32([[1]])}
    file = make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 4]}, tensors)
    file.graph.value_info.append(
        helper.make_tensor_value_info("h3000", TensorProto.FLOAT, [5, 3])
    )
    assert {n.op_type for n in canonical(file).model.graph} == {"Mul", "MatMul"}
