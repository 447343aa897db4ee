"""The sign rule: folded, unfolded and renamed exports of a network get the same surface."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxscape.core.direction import random_direction
from onnxscape.graph.canonical import canonical
from onnxscape.graph.parameters import find_parameters
from onnxscape.graph.scales import batch_norm as read_batch_norm

GAMMA = [1.5, -0.5, 0.0, -2.0]
SIGNS = [1.0, -1.0, 1.0, -1.0]


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


@pytest.fixture
def signs_of(make_model, analysed):
    """Returns the signs of a weight [4, 3, 1, 1] of a Conv that some nodes follow."""

    def signs(nodes, tensors, *, op="Conv", outputs=("y",), **options):
        rank = {"Conv": 4, "Gemm": 2, "MatMul": 2, "Tokens": 3}[op]
        x = ["n", 3, 4, 4] if rank == 4 else ["n", *[7] * (rank - 2), 3]
        y = ["n", 4, 4, 4] if rank == 4 else ["n", *[7] * (rank - 2), 4]
        shape = (4, 3, 1, 1) if op == "Conv" else (3, 4)
        w = np.float32(np.random.default_rng(0).standard_normal(shape))
        layer = node("MatMul" if op == "Tokens" else op, ["x", "w"], "h")
        model = make_model(
            [layer, *nodes],
            {"x": x},
            dict.fromkeys(outputs, y),
            {"w": w, **{name: np.float32(value) for name, value in tensors.items()}},
            **options,
        )
        onnx.checker.check_model(model, full_check=True)
        found = analysed(model).parameters["w"].signs
        return None if found is None else found.tolist()

    return signs


@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul"])
def test_signs_are_those_of_the_gammas_and_zero_counts_as_plus(op, signs_of, batch_norm):
    norm, tensors = batch_norm("h", "y", 4, GAMMA)
    assert signs_of([norm], tensors, op=op) == SIGNS


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1)])
@pytest.mark.parametrize("swapped", [False, True])
def test_signs_of_a_product_per_channel_count(shape, swapped, signs_of):
    mul = node("Mul", ["m", "h"] if swapped else ["h", "m"], "y")
    assert signs_of([mul], {"m": np.reshape(GAMMA, shape)}) == SIGNS


@pytest.mark.parametrize("op", ["Gemm", "MatMul", "Tokens"])
@pytest.mark.parametrize("shape", [(4,), (1, 4)])
def test_signs_of_a_product_per_unit_of_a_dense_layer_count(op, shape, signs_of):
    mul = node("Mul", ["h", "m"], "y")
    assert signs_of([mul], {"m": np.reshape(GAMMA, shape)}, op=op) == SIGNS


def test_signs_multiply_along_a_chain_of_sums_and_identities(signs_of, batch_norm):
    norm, tensors = batch_norm("b", "c", 4, GAMMA)
    chain = [
        node("Identity", ["h"], "a"),
        node("Add", ["a", "bias"], "b"),
        norm,
        node("Mul", ["c", "m"], "y"),
    ]
    factors = np.array([-1.0, -1.0, -3.0, 2.0])
    tensors |= {"bias": np.ones((4, 1, 1)), "m": factors.reshape(1, 4, 1, 1)}
    # Of the third filter only the product counts: its gamma of 0 is taken for +1.
    assert signs_of(chain, tensors) == [-1.0, 1.0, -1.0, -1.0]


@pytest.mark.parametrize(
    "chain",
    {
        "nothing": [node("Identity", ["h"], "y")],
        "a sum": [node("Add", ["h", "b"], "y")],
        "an activation": [node("Relu", ["h"], "a"), node("Mul", ["a", "m"], "y")],
        "a scalar": [node("Mul", ["h", "s"], "y")],
        "another axis": [node("Mul", ["h", "width"], "y")],
        "yet another axis": [node("Mul", ["h", "height"], "y")],
        "a reciprocal": [node("Div", ["m", "h"], "y")],
        "two products": [node("Mul", ["h", "h"], "a"), node("Mul", ["a", "m"], "y")],
    }.items(),
    ids=lambda item: item[0],
)
def test_without_a_constant_product_per_channel_there_are_no_signs(chain, signs_of):
    names = {name for part in chain[1] for name in part.input}
    tensors = {
        "b": np.ones((4, 1, 1)),
        "m": np.reshape(GAMMA, (4, 1, 1)),
        "s": np.float32(-1),
        "width": -np.ones(4),
        "height": -np.ones((4, 1)),
    }
    assert signs_of(chain[1], {k: v for k, v in tensors.items() if k in names}) is None


def test_signs_end_where_something_else_uses_the_output(signs_of, batch_norm):
    norm, tensors = batch_norm("h", "a", 4, GAMMA)
    chain = [norm, node("Add", ["a", "h"], "y")]
    assert signs_of(chain, tensors) is None
    assert signs_of([norm, node("Neg", ["a"], "y")], tensors, outputs=("y", "h")) is None


def test_the_normalization_of_tokens_is_not_that_of_the_last_axis(signs_of, batch_norm):
    # BatchNormalization counts channels along axis 1; here that is 4 tokens, by accident.
    norm, tensors = batch_norm("h", "y", 4, GAMMA)

    def shape_of(name):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4, 4])

    w = np.float32(np.random.default_rng(0).standard_normal((3, 4)))
    nodes = [node("MatMul", ["x", "w"], "h"), norm]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4, 3])],
        [shape_of("y")],
        [onnx.numpy_helper.from_array(v, k) for k, v in {"w": w, **tensors}.items()],
        value_info=[shape_of("h")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (linear, *_) = canonical(model).model.graph
    assert linear.outputs[0].shape is not None
    assert signs_from(model) is None


def signs_from(model):
    parameters, _ = find_parameters(canonical(model).model)
    return next(p for p in parameters if p.name == "w").signs


def test_arithmetic_of_a_normalization_is_that_of_onnx_runtime(
    make_model, run_model, batch_norm
):
    norm, tensors = batch_norm("x", "y", 4, GAMMA, epsilon=0.01)
    model = make_model([norm], {"x": [2, 4, 3]}, {"y": [2, 4, 3]}, tensors)
    x = np.float32(np.random.default_rng(0).standard_normal((2, 4, 3)))
    found = read_batch_norm(canonical(model).model.graph[0])
    ours = found.scale[:, None] * x + found.shift[:, None]
    np.testing.assert_allclose(ours, run_model(model, {"x": x})[0], rtol=1e-5, atol=1e-6)
    assert found.sources == tuple(tensors)


def test_a_normalization_by_computed_tensors_is_not_read(make_model, batch_norm):
    norm, tensors = batch_norm("x", "y", 4)
    del tensors["bn.gamma"]
    model = make_model([norm], {"x": [2, 4, 3], "bn.gamma": [4]}, {"y": [2, 4, 3]}, tensors)
    assert read_batch_norm(canonical(model).model.graph[0]) is None


def test_a_normalization_by_a_negative_variance_is_left_to_onnx_runtime(
    make_model, batch_norm
):
    norm, tensors = batch_norm("x", "y", 4)
    tensors["bn.var"][2] = -1.0
    model = make_model([norm], {"x": [2, 4, 3]}, {"y": [2, 4, 3]}, tensors)
    assert read_batch_norm(canonical(model).model.graph[0]) is None


def test_tensors_of_a_normalization_behind_a_view_are_read_through_it(make_model, batch_norm):
    norm, tensors = batch_norm("x", "y", 6)
    gamma = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors["bn.gamma"], tensors["flat"] = gamma, np.array([6])
    norm.input[1] = "gamma"
    views = [node("Transpose", ["bn.gamma"], "t"), node("Reshape", ["t", "flat"], "gamma")]
    model = make_model([*views, norm], {"x": [2, 6]}, {"y": [2, 6]}, tensors)
    found = read_batch_norm(
        next(n for n in canonical(model).model.graph if len(n.inputs) == 5)
    )
    expected = np.array([0, 3, 1, 4, 2, 5]) / np.sqrt(tensors["bn.var"].astype(float) + 1e-5)
    np.testing.assert_allclose(found.scale, expected, rtol=1e-6)


# --- what the rule is for -----------------------------------------------------------------


def folded_by_hand(model, scales):
    """Return a model whose first weight and bias carry a normalization, as exporters do."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    scale, shift = scales
    weight = tensors["w"] * scale[:, None, None, None]
    del other.graph.initializer[:]
    for name, array in (("w", weight), ("folded.b", shift)):
        other.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(array), name))
    del other.graph.node[:]
    other.graph.node.append(node("Conv", ["x", "w", "folded.b"], "y"))
    return other


def test_a_step_of_the_unfolded_export_is_the_same_step_of_the_folded_one(
    make_model, analysed, batch_norm, run_model, edited
):
    rng = np.random.default_rng(0)
    norm, tensors = batch_norm("h", "y", 4, [1.5, -0.5, 0.3, -2.0])
    weight = np.float32(rng.standard_normal((4, 3, 3, 3)))
    plain = make_model(
        [node("Conv", ["x", "w"], "h"), norm],
        {"x": ["n", 3, 6, 6]},
        {"y": ["n", 4, 4, 4]},
        {"w": weight, **tensors},
    )
    scale = tensors["bn.gamma"] / np.sqrt(tensors["bn.var"].astype(float) + 1e-5)
    shift = tensors["bn.beta"] - tensors["bn.mean"] * scale
    folded = folded_by_hand(plain, (scale, shift))
    x = {"x": np.float32(rng.standard_normal((2, 3, 6, 6)))}
    outputs = []
    for model in (plain, folded):
        w = analysed(model).parameters["w"]
        step = random_direction([w], seed=3, axis=0).tensors["w"]
        outputs.append(run_model(edited(model, {"w": w.values + 0.7 * step}), x)[0])
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


def test_the_reference_network_has_the_same_step_in_both_exports(
    analysed, reference, weights_of
):
    plain, folded = (
        analysed(reference / name) for name in ("model.onnx", "model_bn_folded.onnx")
    )
    steps = [
        random_direction(tuple(a.parameters.values()), seed=0, axis=0).tensors
        for a in (plain, folded)
    ]
    tensors = weights_of(reference / "model.onnx")
    for conv, norm in (("c1", "b1"), ("c2", "b2"), ("dw", "b3"), ("f1", None), ("f2", None)):
        name = f"{conv}.weight"
        scale = np.ones(len(tensors[name]))
        if norm is not None:
            variance = tensors[f"{norm}.running_var"]
            scale = tensors[f"{norm}.weight"] / np.sqrt(variance + 1e-5)
        expected = (scale * steps[0][name].T.astype(float)).T
        np.testing.assert_allclose(
            steps[1][name], expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max()
        )


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (1, 1, 1, 1)])
def test_any_single_number_is_the_product_of_a_single_channel(shape, make_model, analysed):
    w = np.ones((1, 3, 1, 1), dtype=np.float32)
    model = make_model(
        [node("Conv", ["x", "w"], "h"), node("Mul", ["h", "m"], "y")],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 1, 4, 4]},
        {"w": w, "m": np.full(shape, -2.0, dtype=np.float32)},
    )
    assert analysed(model).parameters["w"].signs.tolist() == [-1.0]


def test_a_normalization_by_tensors_of_different_sizes_is_left_to_onnx_runtime(
    make_model, batch_norm
):
    norm, tensors = batch_norm("x", "y", 4)
    tensors["bn.mean"] = tensors["bn.mean"][:1]
    model = make_model([norm], {"x": [2, 4, 3]}, {"y": [2, 4, 3]}, tensors)
    assert read_batch_norm(canonical(model).model.graph[0]) is None


@pytest.mark.parametrize(
    ("chain", "turned"),
    [
        ([node("Div", ["h", "m"], "y")], [1, -1, 1, -1]),
        ([node("Sub", ["h", "b"], "a"), node("Mul", ["a", "m"], "y")], [1, -1, 1, -1]),
        ([node("Sub", ["b", "h"], "a"), node("Mul", ["a", "m"], "y")], [-1, 1, -1, 1]),
    ],
)
def test_quotients_and_differences_are_parts_of_a_written_out_normalization(
    chain, turned, signs_of
):
    names = {name for part in chain for name in part.input}
    tensors = {"b": np.ones((4, 1, 1)), "m": np.reshape(GAMMA, (4, 1, 1))}
    found = signs_of(chain, {k: v for k, v in tensors.items() if k in names})
    assert list(found) == turned
