"""Audits of models whose parameters, axes and filters are known by construction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxscape as ox
from onnxscape.core.direction import Ignore, random_direction
from onnxscape.errors import ModelFileError, UnsupportedModelError, UsageError
from onnxscape.graph.canonical import canonical_of
from onnxscape.graph.folding import fold_batch_norms
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse

MODELS = Path(__file__).parents[4] / "models"
KNOWN = {
    entry["file"]: entry for entry in json.loads((MODELS / "known_answers.json").read_text())
}
RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


@pytest.fixture(scope="module")
def zoo(make_model):
    """A model with one layer of each kind; every number below follows from its shapes."""
    nodes = [
        node("Conv", ["x", "conv.w"], "a", group=2),
        node("BatchNormalization", ["a", "bn.g", "bn.b", "bn.m", "bn.v"], "b"),
        node("ConvTranspose", ["b", "deconv.w", "deconv.b"], "c", group=2),
        node("GlobalAveragePool", ["c"], "d"),
        node("Flatten", ["d"], "e"),
        node("Gemm", ["e", "gemm.w", "gemm.b"], "f", transB=1),
        node("Gemm", ["f", "other.w"], "g"),
        node("MatMul", ["g", "matmul.w"], "h"),
        node("Add", ["h", "matmul.b"], "i"),
        node("Mul", ["i", "half"], "y"),
    ]
    tensors = {
        "conv.w": tensor(6, 2, 3, 3),
        "bn.g": tensor(6),
        "bn.b": tensor(6),
        "bn.m": tensor(6),
        "bn.v": np.abs(tensor(6)) + 1,
        "deconv.w": tensor(6, 4, 2, 2),
        "deconv.b": tensor(8),
        "gemm.w": tensor(5, 8),
        "gemm.b": tensor(5),
        "other.w": tensor(5, 7),
        "matmul.w": tensor(7, 3),
        "matmul.b": tensor(3),
        "half": np.float32(0.5),
    }
    return make_model(nodes, {"x": ["n", 4, 5, 5]}, {"y": ["n", 3]}, tensors)


def test_roles_axes_and_filters_are_those_of_the_operators(zoo):
    found = {
        p.name: (p.op, str(p.role), p.filter_axis, p.filters)
        for p in ox.inspect(zoo).parameters
    }
    assert found == {
        "conv.w": ("Conv", "weight", 0, 6),
        "bn.g": ("BatchNormalization", "normalization", None, None),
        "bn.b": ("BatchNormalization", "normalization", None, None),
        "bn.m": ("BatchNormalization", "statistic", None, None),
        "bn.v": ("BatchNormalization", "statistic", None, None),
        "deconv.w": ("ConvTranspose", "weight", 1, 8),
        "deconv.b": ("ConvTranspose", "bias", None, None),
        "gemm.w": ("Gemm", "weight", 0, 5),
        "gemm.b": ("Gemm", "bias", None, None),
        "other.w": ("Gemm", "weight", 1, 7),
        "matmul.w": ("MatMul", "weight", 1, 3),
        "matmul.b": ("Add", "bias", None, None),
        "half": ("Mul", "constant", None, None),
    }


def test_shapes_and_nodes_are_those_of_the_file(zoo):
    by_name = {p.name: p for p in ox.inspect(zoo).parameters}
    assert by_name["deconv.w"].shape == (6, 4, 2, 2)
    assert by_name["deconv.w"].nodes == ("c.node",)
    assert list(by_name) == [t.name for t in zoo.graph.initializer]


WEIGHTS = {"conv.w", "deconv.w", "gemm.w", "other.w", "matmul.w"}
OTHERS = {"bn.g", "bn.b", "deconv.b", "gemm.b", "matmul.b"}


@pytest.mark.parametrize(
    ("ignore", "moves"), [("biasbn", WEIGHTS), ("none", WEIGHTS | OTHERS)]
)
def test_what_moves_is_what_a_direction_moves(zoo, ignore, moves):
    audit = ox.inspect(zoo, ignore=ignore)
    assert {p.name for p in audit.parameters if p.perturbed} == moves
    assert all(p.reason for p in audit.parameters)


def test_the_reason_names_the_option_that_would_move_a_bias(zoo):
    reasons = {p.name: p.reason for p in ox.inspect(zoo).parameters}
    assert "--ignore none" in reasons["gemm.b"]
    assert "running statistic" in reasons["bn.v"]
    assert "not known to be trained" in reasons["half"]


def test_totals_are_sums_over_the_shapes(zoo):
    totals = ox.inspect(zoo).to_dict()["totals"]
    weights = 6 * 2 * 9 + 6 * 4 * 4 + 5 * 8 + 5 * 7 + 7 * 3
    biases, normalization = 8 + 5 + 3, 6 + 6
    assert totals == {
        "tensors": 13,
        "values": weights + biases + normalization + 12 + 1,
        "perturbed_tensors": 5,
        "perturbed_values": weights,
        "filters": 6 + 8 + 5 + 7 + 3,
        "trainable_values": weights + biases + normalization,
        "unknown_values": 0,
        "share": weights / (weights + biases + normalization),
        "roles": {
            "weight": {"tensors": 5, "values": weights},
            "bias": {"tensors": 3, "values": biases},
            "normalization": {"tensors": 2, "values": normalization},
            "statistic": {"tensors": 2, "values": 12},
            "constant": {"tensors": 1, "values": 1},
        },
    }


@pytest.fixture(scope="module")
def stacked(make_model):
    """A Scan over six stacked layers of 8 by 8 and their biases, and a head of 8 by 4."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("MatMul", ["h", "w"], "p"), node("Add", ["p", "b"], "next")],
        "body",
        [info(*entry) for entry in (("h", 1, ["n", 8]), ("w", 1, [8, 8]), ("b", 1, [8]))],
        [info("next", 1, ["n", 8])],
    )
    nodes = [
        node("Scan", ["x", "layers", "biases"], "h", body=body, num_scan_inputs=2),
        node("Gemm", ["h", "head"], "y"),
    ]
    tensors = {"layers": tensor(6, 8, 8), "biases": tensor(6, 8), "head": tensor(8, 4)}
    return make_model(nodes, {"x": ["n", 8]}, {"y": ["n", 4]}, tensors)


def test_totals_count_what_may_be_trained_where_no_weights_are_known(stacked):
    audit = ox.inspect(stacked)
    totals = audit.totals
    assert (totals.perturbed_values, totals.trainable_values) == (32, 32 + 6 * 64 + 6 * 8)
    assert totals.unknown_values == 6 * 64 + 6 * 8
    assert totals.share == 32 / 464
    line = "32 of 464 values that are or may be trained move (6.9 %), in 1 tensor and 4"
    assert line in " ".join(audit.text().split())
    assert repr(audit).startswith("Audit(model: 32 of 464 values that are or may be trained")


def test_totals_count_what_is_included_as_moving(stacked):
    totals = ox.inspect(stacked, include=["layers"]).totals
    assert totals.perturbed_values == 32 + 6 * 64
    assert (totals.trainable_values, totals.unknown_values) == (464, 6 * 8)


def test_totals_count_weights_that_stay_since_they_are_integers(make_model):
    nodes = [
        node("MatMulInteger", ["x", "q"], "i"),
        node("Cast", ["i"], "c", to=TensorProto.DOUBLE),
        node("Cast", ["c"], "f", to=TensorProto.FLOAT),
        node("Gemm", ["f", "w"], "y"),
    ]
    tensors = {"q": RNG.integers(-9, 9, (8, 8), dtype=np.int8), "w": tensor(8, 4)}
    types = {"x": TensorProto.UINT8}
    audit = ox.inspect(
        make_model(nodes, {"x": ["n", 8]}, {"y": ["n", 4]}, tensors, types=types)
    )
    totals = audit.totals
    assert (totals.perturbed_values, totals.trainable_values) == (32, 32 + 64)
    assert totals.unknown_values == 64
    assert any(str(w).startswith("little moves: only 32 of the 96") for w in audit.warnings)


def test_totals_do_not_count_tables_that_are_known_or_indices(make_model):
    nodes = [
        node("Gather", ["numbers", "x"], "i"),
        node("Gather", ["words", "i"], "e"),
        node("Add", ["e", "mask"], "m"),
        node("Max", ["m", "zero"], "y"),
    ]
    tensors = {
        "numbers": np.arange(64).reshape(8, 8),
        "words": tensor(64, 8),
        "mask": np.where(np.tril(np.ones((8, 8))) > 0, 0, -np.inf).astype(np.float32),
        "zero": np.float32(0),
    }
    types = {"x": TensorProto.INT64}
    audit = ox.inspect(make_model(nodes, {"x": ["n"]}, {"y": None}, tensors, types=types))
    totals = audit.totals
    assert (totals.trainable_values, totals.unknown_values) == (512, 0)


@pytest.mark.parametrize(
    "name", ["digits_cnn", "resnet20_cifar10", "resnet20_noshort_cifar10"]
)
def test_the_bundled_networks_are_counted_as_plain_onnx_counts_them(name):
    proto = onnx.load(MODELS / f"{name}.onnx")
    sizes = {t.name: int(np.prod(t.dims)) for t in proto.graph.initializer}
    kernels = [t for t in proto.graph.initializer if len(t.dims) > 1]
    trained = sum(n for tensor, n in sizes.items() if "running" not in tensor)
    totals = ox.inspect(MODELS / f"{name}.onnx").totals
    assert totals.perturbed_values == sum(sizes[t.name] for t in kernels)
    assert totals.filters == sum(t.dims[0] for t in kernels)
    assert totals.trainable_values == trained
    merged = 32 + 64 if name == "resnet20_cifar10" else 0  # two shifts are stored once
    assert trained == KNOWN[f"{name}.onnx"]["parameters"] - merged


def test_the_json_has_the_keys_and_types_of_the_contract(zoo):
    audit = json.loads(json.dumps(ox.inspect(zoo).to_dict(), allow_nan=False))
    assert list(audit) == ["format", "model", "parameters", "totals", "warnings"]
    assert audit["format"] == 1
    assert all(isinstance(text, str) for text in audit["warnings"])
    roles = {"weight", "bias", "normalization", "statistic", "constant"}
    for parameter in audit["parameters"]:
        assert list(parameter) == [
            "name", "shape", "op", "role", "filter_axis", "filters", "perturbed", "reason",
            "nodes",
        ]  # fmt: skip
        assert all(isinstance(n, int) for n in parameter["shape"])
        assert parameter["role"] in roles
        assert isinstance(parameter["filter_axis"], int | None)
        assert isinstance(parameter["filters"], int | None)
        assert isinstance(parameter["perturbed"], bool)
        assert all(isinstance(text, str) for text in parameter["nodes"])


def test_the_facts_about_the_model_are_the_files_own():
    path = MODELS / "digits_cnn.onnx"
    model = ox.inspect(path).to_dict()["model"]
    assert model == {
        "name": "digits_cnn",
        "bytes": path.stat().st_size,
        "sha256": KNOWN["digits_cnn.onnx"]["sha256"],
        "ir_version": 8,
        "opsets": {"ai.onnx": 17},
        "producer": f"pytorch {onnx.load(path).producer_version}",
        "inputs": [{"name": "input", "shape": [None, 1, 8, 8], "type": "float32"}],
        "outputs": [{"name": "logits", "shape": [None, 10], "type": "float32"}],
        "nodes": 13,
        "operators": {
            "Conv": 3, "BatchNormalization": 3, "Relu": 3, "Add": 1, "GlobalAveragePool": 1,
            "Flatten": 1, "Gemm": 1,
        },
        "weight_types": {"float32": 28_576},
        "external_data": False,
        "batch": {"size": None, "made_dynamic": False},
        "batch_norms": {"nodes": 3, "folded": 3},
        "loss": None,
    }  # fmt: skip


def test_moving_the_normalization_means_not_folding_it():
    audit = ox.inspect(MODELS / "digits_cnn.onnx", ignore="none")
    assert (audit.model.batch_norms, audit.model.folded_batch_norms) == (3, 0)


def test_external_data_is_said(tmp_path):
    proto = onnx.load(MODELS / "digits_cnn.onnx")
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    audit = ox.inspect(tmp_path / "m.onnx")
    assert audit.model.external_data
    assert audit.totals == ox.inspect(MODELS / "digits_cnn.onnx").totals


def test_operators_in_bodies_and_functions_are_counted(make_model):
    body = helper.make_graph(
        [node("Neg", ["x"], "inner")],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    function = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], "b")],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = make_model(
        [
            helper.make_node("If", ["yes"], ["h"], then_branch=body, else_branch=body),
            helper.make_node("Twice", ["h"], ["t"], domain="mine"),
            node("Gemm", ["t", "w"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 2]},
        {"yes": np.array(True), "w": tensor(3, 2)},
        functions=[function],
    )
    assert ox.inspect(model).model.operators == {
        "Neg": 2, "If": 1, "Twice": 1, "Gemm": 1, "Add": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "loss"),
    [
        (["Softmax"], "log-loss"),
        (["LogSoftmax"], "nll"),
        (["Softmax", "Log"], "nll"),
        (["Sigmoid"], "bce"),
        (["Softmax", "Identity"], "log-loss"),
        (["Relu"], None),
        (["Softmax", "Relu"], None),
    ],
)
def test_the_end_of_the_graph_tells_the_loss(make_model, ends, loss):
    names = ["h0", *(f"h{i + 1}" for i in range(len(ends)))]
    nodes = [node("Gemm", ["x", "w"], "h0")]
    nodes += [node(op, [a], b) for op, a, b in zip(ends, names, names[1:], strict=False)]
    model = make_model(nodes, {"x": ["n", 3]}, {names[-1]: ["n", 2]}, {"w": tensor(3, 2)})
    assert ox.inspect(model).model.loss == loss


def test_a_path_bytes_and_a_parsed_model_give_the_same_audit(tmp_path):
    path = MODELS / "digits_cnn.onnx"
    audits = [ox.inspect(source) for source in (path, str(path), path.read_bytes())]
    assert audits[0].to_dict() == audits[1].to_dict()
    assert audits[0].parameters == audits[2].parameters
    assert repr(audits[0]) == (
        "Audit(digits_cnn: 28,576 of 28,842 trainable values move, 0 warnings)"
    )


def test_weights_that_are_not_finite_leave_the_json_valid(dense_model):
    audit = ox.inspect(dense_model([[np.nan, 1.0], [np.inf, 2.0]], [0.0, -np.inf]))
    text = json.dumps(audit.to_dict(), allow_nan=False)
    assert json.loads(text)["totals"]["values"] == 6


def test_included_and_excluded_tensors_change_sides(zoo):
    audit = ox.inspect(zoo, include=["gemm.b"], exclude=["conv.*"], filter_axis={"gemm.w": 1})
    by_name = {p.name: p for p in audit.parameters}
    assert by_name["gemm.b"].perturbed
    assert "--include 'gemm.b'" in by_name["gemm.b"].reason
    assert not by_name["conv.w"].perturbed
    assert "--exclude 'conv.*'" in by_name["conv.w"].reason
    assert (by_name["gemm.w"].filter_axis, by_name["gemm.w"].filters) == (1, 8)
    with pytest.raises(UsageError, match="nothing like this"):
        ox.inspect(zoo, include=["nothing like this"])


def test_given_weights_move(make_model):
    model = make_model(
        [node("Gemm", ["x", "w"], "y")], {"x": ["n", 3], "w": [3, 2]}, {"y": ["n", 2]}, {}
    )
    audit = ox.inspect(model, weights={"w": tensor(3, 2)})
    assert [(p.name, p.perturbed) for p in audit.parameters] == [("w", True)]
    assert [value.name for value in audit.model.inputs] == ["x"]


def test_a_model_without_weights_has_an_audit_with_nothing_that_moves(make_model):
    model = make_model([node("Relu", ["x"], "y")], {"x": ["n", 3]}, {"y": ["n", 3]}, {})
    audit = ox.inspect(model)
    assert audit.totals.share is None
    assert "0 of 0 trainable values move, in 0 tensors and 0 filters" in str(audit)


@pytest.mark.parametrize(
    ("source", "error"),
    [(b"no model", ModelFileError), ("nope.onnx", ModelFileError)],
)
def test_what_is_no_model_is_refused(source, error):
    with pytest.raises(error):
        ox.inspect(source)


def test_a_model_that_cannot_be_handled_is_refused_with_its_reason(make_model):
    model = make_model(
        [node("RandomNormalLike", ["x"], "y")], {"x": ["n", 3]}, {"y": ["n", 3]}, {}
    )
    with pytest.raises(UnsupportedModelError, match="random numbers"):
        ox.inspect(model)


def test_an_unknown_word_for_ignore_is_refused():
    with pytest.raises(UsageError, match=r"biasbn, none.*'all'"):
        ox.inspect(MODELS / "digits_cnn.onnx", ignore="all")


def test_types_that_the_file_stores_are_reported(make_model):
    model = make_model(
        [node("Gemm", ["x", "w"], "y")], {"x": ["n", 3]}, {"y": ["n", 2]}, {},
        types={"x": TensorProto.DOUBLE, "y": TensorProto.DOUBLE},
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 2)), "w"))
    assert ox.inspect(model).model.weight_types == {"float64": 6}


@pytest.mark.parametrize(("ignore", "every"), [(Ignore.BIASBN, 3), (Ignore.NONE, 9)])
def test_an_audit_says_of_every_export_what_an_evaluation_does(audits, ignore, every):
    compared = 0
    for path, made in list(audits.items())[::every]:
        audit = made if ignore is Ignore.BIASBN else ox.inspect(path, ignore=ignore)
        moved = {p.name for p in audit.parameters if p.perturbed}
        if not moved:
            continue
        file = read_model(path)
        parameters, _ = analyse(file)
        direction = random_direction(parameters, seed=0, axis=0, ignore=ignore)
        assert moved == set(direction.tensors), path.stem
        model = canonical_of(file).model.clone()
        folded = fold_batch_norms(model, {p.name: p for p in parameters}, moved)
        assert audit.model.folded_batch_norms == len(folded), path.stem
        compared += 1
    assert compared > 80 // every
