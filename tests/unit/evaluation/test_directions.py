"""Matching the tensors of a direction file to a model's parameters."""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import onnx
import pytest

from onnxscape import evaluate
from onnxscape.errors import DirectionError
from onnxscape.evaluation.directions import match_direction
from onnxscape.evaluation.observer import OnnxscapeWarning
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse
from onnxscape.storage import StoredTensor, load_directions

RENAMED = {"c1.weight": "z", "c2.weight": "y", "f1.weight": "a"}
"""Other names for some weights: along the graph they are not in the alphabet's order."""

WEIGHTS = ["c1.weight", "c2.weight", "dw.weight", "f1.weight", "f2.weight"]


def parameters_of(model):
    return analyse(read_model(model))[0]


@pytest.fixture(scope="module")
def parameters(reference):
    return parameters_of(reference / "model.onnx")


@pytest.fixture(scope="module")
def trainable(parameters):
    """Name and shape of what torch's `net.parameters()` has, in the file's order."""
    return [(p.name, p.shape) for p in parameters if "running" not in p.name]


def stored(pairs, named):
    return [StoredTensor(name if named else None, array) for name, array in pairs]


def drawn(trainable, only_weights=True):
    random = np.random.default_rng(0)
    return [
        (name, random.normal(size=shape) * (len(shape) > 1 or not only_weights))
        for name, shape in trainable
    ]


def renamed(pairs):
    return [(RENAMED.get(name, name), array) for name, array in pairs]


def same(direction, pairs):
    expected = {name: array for name, array in pairs if array.any()}
    assert direction.tensors.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(direction.tensors[name], array.astype(np.float32))


def test_names_win_over_order(parameters, trainable):
    pairs = drawn(trainable)[::-1]
    same(match_direction(stored(pairs, named=True), parameters, "f"), pairs)


def test_a_named_direction_may_move_a_few_tensors_only(parameters, trainable):
    pairs = [pair for pair in drawn(trainable) if pair[0] == "c2.weight"]
    same(match_direction(stored(pairs, named=True), parameters, "f"), pairs)


def test_biases_and_normalizations_move_if_the_file_says_so(parameters, trainable):
    pairs = drawn(trainable, only_weights=False)
    assert all(array.any() for _, array in pairs)
    same(match_direction(stored(pairs, named=True), parameters, "f"), pairs)
    same(match_direction(stored(pairs, named=False), parameters, "f"), pairs)


def test_a_name_that_the_model_lacks_is_an_error_if_it_moves(parameters):
    with pytest.raises(DirectionError, match=r"moves 'q'.*it has c1.weight, b1.weight"):
        match_direction([StoredTensor("q", np.ones(3))], parameters, "f")


def test_a_statistic_is_never_moved(parameters):
    with pytest.raises(DirectionError, match=r"moves 'b1.running_var'"):
        match_direction([StoredTensor("b1.running_var", np.ones(8))], parameters, "f")


def test_a_name_that_the_model_lacks_may_stand_there_unmoved(parameters, trainable):
    pairs = drawn(trainable)
    extra = [StoredTensor("folded.away", np.zeros(3))]
    same(match_direction(stored(pairs, named=True) + extra, parameters, "f"), pairs)


def test_a_named_tensor_of_another_shape_is_an_error_that_lists_both(parameters):
    with pytest.raises(DirectionError, match=r"\[8, 9\], the model's \[8, 1, 3, 3\]"):
        match_direction([StoredTensor("c1.weight", np.ones((8, 9)))], parameters, "f")


def test_nameless_tensors_follow_the_order_of_the_file(parameters, trainable):
    pairs = drawn(trainable)
    same(match_direction(stored(pairs, named=False), parameters, "f"), pairs)


@pytest.fixture(scope="module")
def other_order(reference):
    """The reference network with its initializers renamed and written in another order."""
    proto = onnx.load(reference / "model.onnx")
    tensors = sorted(proto.graph.initializer, key=lambda tensor: tensor.name[::-1])
    for tensor in tensors:
        tensor.name = RENAMED.get(tensor.name, tensor.name)
    for node in proto.graph.node:
        node.input[:] = [RENAMED.get(name, name) for name in node.input]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(tensors)
    return parameters_of(proto)


def test_other_orders_are_matched_along_the_graph_if_all_else_is_zero(other_order, trainable):
    pairs = drawn(trainable)
    same(match_direction(stored(pairs, named=False), other_order, "f"), renamed(pairs))


def test_weights_alone_are_matched_along_the_graph(parameters, other_order, trainable):
    pairs = [pair for pair in drawn(trainable) if pair[0] in WEIGHTS]
    same(match_direction(stored(pairs, named=False), parameters, "f"), pairs)
    same(match_direction(stored(pairs, named=False), other_order, "f"), renamed(pairs))


def test_in_another_order_nothing_but_weights_may_move(other_order, trainable):
    pairs = drawn(trainable, only_weights=False)
    with pytest.raises(DirectionError, match="does not fit"):
        match_direction(stored(pairs, named=False), other_order, "f")


def test_tensors_that_fit_no_way_are_an_error_that_lists_both(parameters):
    tensors = [StoredTensor(None, np.ones((7, 5)))]
    with pytest.raises(DirectionError, match=r"f does.*\[7, 5\];.*c1.weight \[8, 1, 3, 3\]"):
        match_direction(tensors, parameters, "f")


def test_one_nameless_tensor_makes_the_order_count(parameters, trainable):
    pairs = drawn(trainable)
    tensors = stored(pairs, named=True)
    tensors[0] = StoredTensor(None, tensors[0].array)
    same(match_direction(tensors, parameters, "f"), pairs)


@pytest.mark.parametrize("named", [True, False])
def test_a_direction_of_zeros_leads_nowhere(parameters, trainable, named):
    zeros = [(name, np.zeros(shape)) for name, shape in trainable]
    with pytest.raises(DirectionError, match="f is zero everywhere"):
        match_direction(stored(zeros, named), parameters, "f")


@pytest.fixture
def direction_file(tmp_path, weights_of, reference):
    """Writes a direction file as the reference implementation would."""

    def write(factor=1.0, groups=("xdirection", "ydirection")):
        path = tmp_path / "d.h5"
        weights = weights_of(reference / "model.onnx")
        with h5py.File(path, "w") as file:
            for group in groups:
                arrays = [a for name, a in weights.items() if "running" not in name]
                for number, array in enumerate(arrays):
                    values = factor * array if array.ndim > 1 else np.zeros_like(array)
                    file.create_dataset(f"{group}/{number}", data=values)
        return path

    return write


def warnings_of(reference, digits_arrays, path, **options):
    options = {"grid": "3x3", "samples": 20, "directions": path} | options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OnnxscapeWarning)
        evaluate(reference / "model.onnx", digits_arrays, **options)
    return [str(warning.message) for warning in caught]


def test_norms_like_the_weights_do_not_warn(reference, digits_arrays, direction_file):
    assert warnings_of(reference, digits_arrays, direction_file(1.04)) == []


@pytest.mark.parametrize("factor", [0.5, 1.06])
def test_norms_unlike_the_weights_warn(reference, digits_arrays, direction_file, factor):
    first, second = warnings_of(reference, digits_arrays, direction_file(factor))
    assert "xdirection" in first
    assert "ydirection" in second
    assert "c1.weight" in first
    assert "and 2 more" in first


def test_the_reference_directions_do_not_warn(reference, digits_arrays):
    assert warnings_of(reference, digits_arrays, reference / "directions.h5") == []


def test_a_plane_needs_both_groups(reference, digits_arrays, direction_file):
    path = direction_file(groups=["xdirection"])
    with pytest.raises(DirectionError, match="no group ydirection, which this grid needs"):
        warnings_of(reference, digits_arrays, path)
    assert warnings_of(reference, digits_arrays, path, grid="3") == []


def test_saved_directions_give_the_same_bits(reference, digits_arrays, tmp_path):
    model, saved = reference / "model.onnx", tmp_path / "d.h5"
    options = {"samples": 50, "grid": "5x3"}
    drawn = evaluate(
        model,
        digits_arrays,
        seed=5,
        out=tmp_path / "a.h5",
        save_directions=saved,
        **options,
    )
    again = evaluate(model, digits_arrays, directions=saved, **options)
    assert drawn.surfaces.keys() == again.surfaces.keys()
    for name, surface in drawn.surfaces.items():
        assert np.array_equal(again.surfaces[name], surface)
    assert again.spec.seed is None
    assert again.spec.directions is not None


@pytest.mark.parametrize("ignore", ["biasbn", "none"])
def test_saved_directions_name_every_trainable_tensor(
    reference, digits_arrays, tmp_path, trainable, weights_of, ignore
):
    model, saved = reference / "model.onnx", tmp_path / "d.h5"
    evaluate(
        model,
        digits_arrays,
        samples=20,
        grid="3",
        ignore=ignore,
        out=tmp_path / "a.h5",
        save_directions=saved,
    )
    file = load_directions(saved)
    assert file.y is None
    assert [(t.name, t.array.shape) for t in file.x] == trainable
    weights = weights_of(model)
    for tensor in file.x:
        if tensor.name in WEIGHTS:
            norms = [np.linalg.norm(a) for a in (tensor.array, weights[tensor.name])]
            assert norms[0] == pytest.approx(norms[1], rel=1e-5)
        else:
            moves = weights[tensor.name] if ignore == "none" else 0.0
            assert np.array_equal(tensor.array, moves + np.zeros_like(tensor.array))
