from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from onnxscape.core.direction import Ignore, random_direction
from onnxscape.core.loss import Loss
from onnxscape.errors import ModelFileError, UnsupportedModelError, UsageError
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse, rebuilt

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


@pytest.fixture
def network(make_model, batch_norm):
    """A network with a normalization that is folded, and a weight that is not."""
    norm, tensors = batch_norm("a", "b", 6, [1.0, -2.0, 0.5, 1.0, -1.0, 0.0])
    nodes = [
        node("Gemm", ["x", "w1", "b1"], "a"),
        norm,
        node("Relu", ["b"], "c"),
        node("MatMul", ["c", "w2"], "d"),
        node("Add", ["d", "b2"], "y"),
    ]
    weights = {"w1": tensor(4, 6), "b1": tensor(6), "w2": tensor(6, 3), "b2": tensor(3)}
    return make_model(
        nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, weights | tensors | {"unused": tensor(9)}
    )


FEEDS = {"x": tensor(8, 4)}
LABELS = RNG.integers(0, 3, (8, 1))


def tensors_of(content):
    return {t.name: numpy_helper.to_array(t) for t in content.graph.initializer}


# --- the prepared graph -------------------------------------------------------------------


def test_every_moved_parameter_has_one_slot(network, analysed):
    for fold in (True, False):
        slots = analysed(network).prepared({"w1", "w2"}, fold=fold).slots
        assert sorted(slot.parameter.name for slot in slots) == ["w1", "w2"]
    moved = {"w1", "w2", "b1", "b2", "bn.gamma", "bn.beta"}
    prepared = analysed(network).prepared(moved)
    assert {slot.tensor for slot in prepared.slots} == moved
    assert prepared.folded == 0


def test_the_tensors_of_slots_are_the_weights_at_the_center(network, analysed):
    prepared = analysed(network).prepared()
    found = tensors_of(prepared.proto)
    for slot in prepared.slots:
        assert (found[slot.tensor] == slot.transfer(slot.parameter.values)).all()


def test_transferring_a_step_is_linear(network, analysed):
    slot = next(s for s in analysed(network).prepared().slots if s.scale is not None)
    theta, d = slot.parameter.values.astype(float), RNG.standard_normal((4, 6))
    np.testing.assert_allclose(
        slot.transfer(theta + 0.3 * d), slot.transfer(theta) + 0.3 * slot.transfer(d)
    )


def test_a_transferred_step_is_scaled_by_channel(network, analysed):
    slot = next(s for s in analysed(network).prepared().slots if s.scale is not None)
    tensors = tensors_of(network)
    scale = tensors["bn.gamma"] / np.sqrt(tensors["bn.var"].astype(float) + 1e-5)
    step = RNG.standard_normal((4, 6))
    np.testing.assert_allclose(slot.transfer(step), step * scale, rtol=1e-6)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 1.0, -5.0])
def test_the_prepared_model_is_the_users_with_other_weights(
    alpha, fold, network, analysed, run_prepared, run_model
):
    found = analysed(network)
    ignore = Ignore.BIASBN if fold else Ignore.NONE
    parameters = tuple(found.parameters.values())
    step = random_direction(parameters, seed=0, axis=0, ignore=ignore).tensors
    prepared = found.prepared(set(step), fold=fold)
    moved = {n: np.float32(found.parameters[n].values + alpha * step[n]) for n in step}
    (truth,) = run_model(rebuilt(found.file, moved), FEEDS)
    ours, loss = run_prepared(prepared, FEEDS, LABELS, step, alpha)
    np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-5 * np.abs(truth).max())
    wide = truth.astype(float)
    expected = np.log(np.exp(wide - wide.max(axis=1, keepdims=True)).sum(axis=1))
    chosen = np.take_along_axis(wide, LABELS, 1)[:, 0] - wide.max(axis=1)
    np.testing.assert_allclose(loss[:, 0], expected - chosen, rtol=1e-4, atol=1e-5)


def test_preparing_leaves_the_users_model_as_it_is(network, analysed):
    found = analysed(network)
    before = found.file.proto.SerializeToString(deterministic=True)
    found.prepared()
    assert found.file.proto.SerializeToString(deterministic=True) == before


def test_preparing_twice_gives_the_same_bytes(network, analysed):
    first, second = (analysed(network).prepared() for _ in range(2))
    assert first.with_overridable_weights() == second.with_overridable_weights()
    assert first.with_external_weights() == second.with_external_weights()


def test_overridable_weights_are_optional_inputs(network, analysed, run_model):
    prepared = analysed(network).prepared()
    content = prepared.with_overridable_weights()
    feeds = FEEDS | {"onnxscape::labels": LABELS}
    defaults = run_model(content, feeds)
    center = {s.tensor: s.transfer(s.parameter.values) for s in prepared.slots}
    fed = run_model(content, feeds | center)
    zeros = run_model(
        content, feeds | {s.tensor: 0 * center[s.tensor] for s in prepared.slots}
    )
    assert all((a == b).all() for a, b in zip(defaults, fed, strict=True))
    assert (zeros[0] != fed[0]).any()


def test_external_weights_are_given_to_the_session(network, analysed, run_model):
    prepared = analysed(network).prepared()
    content = prepared.with_external_weights()
    feeds = FEEDS | {"onnxscape::labels": LABELS}

    def run(weights):
        options = ort.SessionOptions()
        values = [ort.OrtValue.ortvalue_from_numpy(w) for w in weights.values()]
        options.add_external_initializers(list(weights), values)
        session = ort.InferenceSession(content, options, ["CPUExecutionProvider"])
        return session.run(None, feeds)

    center = {s.tensor: s.transfer(s.parameter.values) for s in prepared.slots}
    for weights in (center, {name: 2 * array for name, array in center.items()}):
        truth = run_model(prepared.with_overridable_weights(), feeds | weights)
        for ours, theirs in zip(run(weights), truth, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_external_weights_leave_no_weight_in_the_bytes(network, analysed):
    prepared = analysed(network).prepared()
    content = prepared.with_external_weights()
    for slot in prepared.slots:
        assert slot.transfer(slot.parameter.values).tobytes() not in content


def test_weights_stored_as_numbers_can_be_left_out_too(make_model, analysed):
    # Some exporters write float_data instead of raw bytes.
    model = make_model([node("MatMul", ["x", "w"], "y")], {"x": ["n", 4]}, {"y": ["n", 3]}, {})
    w = tensor(4, 3)
    model.graph.initializer.append(
        helper.make_tensor("w", onnx.TensorProto.FLOAT, w.shape, w.ravel().tolist())
    )
    prepared = analysed(model).prepared()
    proto = onnx.ModelProto.FromString(prepared.with_external_weights())
    (left,) = [t for t in proto.graph.initializer if t.name == "w"]
    assert {entry.key: entry.value for entry in left.external_data} == {
        "location": "weights",
        "offset": "0",
        "length": str(w.nbytes),
    }
    assert not left.float_data


def test_a_loss_that_is_not_known_is_refused(network, analysed):
    with pytest.raises(UsageError, match="'hinge' is not known"):
        analysed(network).prepared(loss="hinge")


def test_an_output_that_the_model_does_not_have_is_refused(network, analysed):
    with pytest.raises(UnsupportedModelError, match="no output 'c', only y"):
        analysed(network).prepared(loss=Loss(name="mse", output="c"))


# --- rebuilt models -----------------------------------------------------------------------


def test_in_a_rebuilt_model_only_the_named_tensors_change(network):
    file = read_model(network)
    new = tensor(6, 3)
    proto = onnx.ModelProto.FromString(rebuilt(file, {"w2": new}))
    (changed,) = [t for t in proto.graph.initializer if t.name == "w2"]
    assert (numpy_helper.to_array(changed) == new).all()
    original = next(t for t in network.graph.initializer if t.name == "w2")
    changed.CopyFrom(original)
    assert proto == network


def test_a_model_rebuilt_with_its_own_weights_is_the_same(network):
    file = read_model(network)
    own = {name: array for name, array in tensors_of(network).items() if name != "unused"}
    proto = onnx.ModelProto.FromString(rebuilt(file, own))
    assert proto == network
    assert file.proto == network


def test_the_order_in_memory_does_not_matter_to_a_rebuilt_model(network):
    new = np.asfortranarray(tensor(6, 3))
    proto = onnx.ModelProto.FromString(rebuilt(read_model(network), {"w2": new}))
    assert (tensors_of(proto)["w2"] == new).all()


def test_a_scalar_stays_a_scalar_in_a_rebuilt_model(make_model):
    nodes = [node("PRelu", ["x", "slope"], "y")]
    file = read_model(
        make_model(nodes, {"x": ["n", 4]}, {"y": ["n", 4]}, {"slope": np.float32(0.1)})
    )
    moved = {"slope": np.float32(0.5).reshape(())}
    proto = onnx.ModelProto.FromString(rebuilt(file, moved))
    assert tensors_of(proto)["slope"].shape == ()
    assert tensors_of(proto)["slope"] == np.float32(0.5)


@pytest.mark.parametrize("how", ["value", "value_floats"])
def test_weights_in_constant_nodes_are_rebuilt(how, make_model, run_model):
    w = tensor(4)
    value = (
        {"value": numpy_helper.from_array(w, "")}
        if how == "value"
        else {"value_floats": w.tolist()}
    )
    constant = helper.make_node("Constant", [], ["w"], **value)
    model = make_model(
        [constant, node("Add", ["x", "w"], "y")], {"x": [2, 4]}, {"y": [2, 4]}, {}
    )
    x = tensor(2, 4)
    (y,) = run_model(rebuilt(read_model(model), {"w": 10 * w}), {"x": x})
    assert (y == x + 10 * w).all()


def test_external_data_is_part_of_a_rebuilt_model(network, tmp_path, run_model):
    path = tmp_path / "net.onnx"
    copy = onnx.ModelProto.FromString(network.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, size_threshold=0)
    file = read_model(path)
    assert file.external
    (truth,) = run_model(network, FEEDS)
    (ours,) = run_model(rebuilt(file, {}), FEEDS)
    assert (ours == truth).all()


@pytest.mark.parametrize("name", ["absent", "x", "c"])
def test_what_is_no_tensor_of_the_file_cannot_be_rebuilt(name, network):
    with pytest.raises(KeyError, match=name):
        rebuilt(read_model(network), {name: tensor(3)})


# --- broken graphs ------------------------------------------------------------------------


def broken(network, how):
    tensors = {t.name: t for t in network.graph.initializer}
    nodes = network.graph.node
    match how:
        case "too few bytes":
            tensors["w1"].raw_data = tensors["w1"].raw_data[:-3]
        case "too many bytes":
            tensors["w1"].raw_data += b"1234"
        case "a negative size":
            tensors["w1"].dims[0] = -4
        case "an unknown type":
            tensors["w1"].data_type = 1234
        case "a weight without axes":
            tensors["w2"].dims[:] = []
            tensors["w2"].raw_data = b"1234"
        case "an attribute of another type":
            nodes[0].attribute.append(helper.make_attribute("transB", "yes"))
        case "an impossible transpose":
            nodes[3].input[1] = "turned"
            nodes.insert(0, node("Transpose", ["w2"], "turned", perm=[0, 7]))
        case "groups that do not divide":
            nodes[3].op_type = "ConvTranspose"
            tensors["w2"].dims[:] = [6, 3, 1]
            nodes[3].attribute.append(helper.make_attribute("group", 4))
        case "groups of nothing":
            nodes[3].op_type = "ConvTranspose"
            tensors["w2"].dims[:] = [6, 3, 1]
            nodes[3].attribute.append(helper.make_attribute("group", 0))
    return network


@pytest.mark.parametrize(
    "how",
    [
        "too few bytes",
        "too many bytes",
        "a negative size",
        "an unknown type",
        "a weight without axes",
        "an attribute of another type",
        "an impossible transpose",
        "groups that do not divide",
        "groups of nothing",
    ],
)
def test_a_broken_graph_is_an_error_in_one_line(how, network):
    file = read_model(broken(network, how))
    with pytest.raises(
        ModelFileError, match=r"model's graph is broken: .*; export it"
    ) as caught:
        analyse(file)
    assert "\n" not in str(caught.value)
