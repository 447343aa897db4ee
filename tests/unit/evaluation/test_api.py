from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxscape as ox
from onnxscape.errors import (
    DataError,
    GridError,
    ModelFileError,
    NoParametersError,
    OutputError,
    UnsupportedModelError,
    UsageError,
)
from onnxscape.evaluation.observer import OnnxscapeWarning, QuietObserver


@pytest.fixture
def model(reference):
    return reference / "model.onnx"


@pytest.fixture
def evaluate(model, digits_arrays):
    """`onnxscape.evaluate` of the reference network on 20 samples and 3 points."""

    def call(data=None, **options):
        options = {"samples": 20, "grid": "3"} | options
        return ox.evaluate(
            options.pop("model", model), digits_arrays if data is None else data, **options
        )

    return call


def test_a_landscape_holds_what_was_asked_for(evaluate):
    landscape = evaluate(grid="5x3", radius=0.5, seed=3)
    assert landscape.loss.shape == landscape.accuracy.shape == (3, 5)
    assert landscape.loss_stderr.shape == (3, 5)
    assert landscape.alphas.tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert landscape.betas.tolist() == [-0.5, 0.0, 0.5]
    assert landscape.complete
    assert landscape.loss[1, 2] == landscape.center["loss"]
    assert landscape.accuracy[1, 2] == landscape.center["accuracy"]
    assert (landscape.spec.seed, landscape.spec.samples) == (3, 20)
    assert landscape.spec.population == 300
    assert landscape.plan.folded


def test_nothing_is_written_without_an_output(evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate()
    assert list(tmp_path.iterdir()) == []


def test_memory_and_file_hold_the_same(evaluate, tmp_path):
    in_memory = evaluate(grid="3x3")
    evaluate(grid="3x3", out=str(tmp_path / "s.h5"))
    loaded = ox.load(str(tmp_path / "s.h5"))
    for name, surface in in_memory.surfaces.items():
        assert np.array_equal(loaded.surfaces[name], surface)
    assert loaded.spec == in_memory.spec
    assert loaded.plan == in_memory.plan
    assert loaded.center == in_memory.center


def test_the_same_request_gives_the_same_bits(evaluate):
    assert np.array_equal(evaluate(grid="3x3").loss, evaluate(grid="3x3").loss)


def test_another_seed_gives_another_surface_around_the_same_center(evaluate):
    a, b = (evaluate(grid="3x3", seed=seed) for seed in (0, 1))
    assert a.center == b.center
    assert np.count_nonzero(a.loss == b.loss) == 1


def test_a_model_may_be_a_path_its_bytes_or_parsed(evaluate, model):
    expected = evaluate().loss
    for given in (str(model), model.read_bytes(), onnx.load(model)):
        assert np.array_equal(evaluate(model=given).loss, expected)


@pytest.mark.parametrize("strategy", ["constant", "overriding"])
@pytest.mark.parametrize("samples", [7, 40])
def test_a_model_of_fixed_batch_gives_the_same_landscape(
    evaluate, model, fixed_to, samples, strategy
):
    options = {"samples": samples, "strategy": strategy}
    fixed = evaluate(model=fixed_to(model, 32, bound=True), **options)
    free = evaluate(batch_size=32, **options)
    assert fixed.plan.batch == 32
    for name, surface in free.surfaces.items():
        np.testing.assert_allclose(fixed.surfaces[name], surface, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("exported", [1, 3, 32])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_model_freed_from_its_batch_has_the_plan_and_landscape_of_one_of_any(
    evaluate, model, fixed_to, exported, batch_size
):
    fixed = evaluate(model=fixed_to(model, exported), batch_size=batch_size)
    free = evaluate(batch_size=batch_size)
    assert fixed.plan == free.plan
    assert fixed.plan.batch == (batch_size or 256)
    for name, surface in free.surfaces.items():
        np.testing.assert_allclose(fixed.surfaces[name], surface, rtol=1e-6, err_msg=name)


def test_another_batch_size_than_a_bound_models_is_refused(evaluate, model, fixed_to):
    bound = fixed_to(model, 3, bound=True)
    with pytest.raises(UsageError, match="batches of 3 only"):
        evaluate(model=bound, batch_size=7)
    assert evaluate(model=bound, batch_size=3).plan.batch == 3


@pytest.mark.parametrize("bound", [False, True])
def test_what_becomes_of_a_fixed_batch_is_said(evaluate, model, fixed_to, bound):
    notes = []

    class Notes(QuietObserver):
        def note(self, text):
            notes.append(text)

    evaluate(model=fixed_to(model, 3, bound=bound), observer=Notes())
    pieces = "run in pieces of 3: Where 'masked' has a constant [3, 1] that differs between "
    how = pieces + "the samples" if bound else "made dynamic"
    assert notes == [f"the model was exported for batches of 3 only; {how}"]


def test_data_may_be_arrays_by_input_name_or_a_file(evaluate, digits_arrays, reference):
    x, y = digits_arrays
    expected = evaluate(samples="all").loss
    for data in ({"input": x, "y": y}, (x.tolist(), y.tolist()), reference / "data.npz"):
        assert np.array_equal(evaluate(data, samples="all").loss, expected)


def test_a_grid_may_be_given_in_every_form(evaluate):
    expected = evaluate(grid="3x5").loss
    grid = ox.Grid(ox.Axis(-1, 1, 3), ox.Axis(-1, 1, 5))
    assert np.array_equal(evaluate(grid=grid).loss, expected)
    assert np.array_equal(evaluate(x="-1:1:3", y=ox.Axis(-1, 1, 5)).loss, expected)
    assert np.array_equal(evaluate(grid=3).loss, evaluate(x="-1:1:3").loss)


def test_lines_cut_the_plane(evaluate):
    plane = evaluate(grid="3x5")
    along_delta = evaluate(x="-1:1:3")
    along_eta = evaluate(y="-1:1:5")
    assert np.array_equal(along_delta.loss, plane.loss[2])
    assert np.array_equal(along_eta.loss, plane.loss[:, 1])
    assert along_delta.betas is None
    assert along_eta.alphas is None
    assert along_eta.loss.shape == (5,)


def test_a_subset_holds_every_smaller_one_whatever_the_seed(evaluate, digits_arrays):
    _, y = digits_arrays
    ten, twenty = (evaluate(samples=n, seed=n).center["accuracy"] * n for n in (10, 20))
    assert ten == pytest.approx(round(ten))
    assert ten <= twenty <= ten + 10
    assert evaluate(samples=len(y)).spec.samples == evaluate(samples="all").spec.samples


def test_by_default_up_to_1000_samples_are_used(evaluate):
    assert evaluate(samples=None).spec.samples == 300


def test_metrics_can_be_left_out(evaluate):
    landscape = evaluate(metrics=())
    assert landscape.accuracy is None
    assert set(landscape.surfaces) == {"loss", "loss_stderr"}


def test_orthogonal_directions_change_eta_only(evaluate):
    plain, orthogonal = (evaluate(grid="3x3", orthogonal=flag) for flag in (False, True))
    assert np.array_equal(plain.loss[1], orthogonal.loss[1])
    assert not np.array_equal(plain.loss[0], orthogonal.loss[0])


@pytest.mark.parametrize("name", ["sed", "normalization", "metric", "server"])
def test_an_unknown_option_is_refused(evaluate, name):
    with pytest.raises(UsageError, match=f"unknown option {name}"):
        evaluate(**{name: "filter"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "bn"}, "normalize to be one of filter, .*got 'bn'"),
        ({"ignore": "bias"}, "ignore to be one of biasbn, none, got 'bias'"),
        ({"loss": "hinge"}, "--loss as one of cross-entropy, nll, .*, got 'hinge'"),
        ({"metrics": ("top9",)}, "from accuracy, top5, error, or a file .*, got top9"),
        (
            {"loss": "mse", "metrics": ("error",)},
            "--metric as a file .* with the loss mse, got error",
        ),
        ({"loss": "mse", "ignore_index": 0}, "--ignore-index means nothing for the loss mse"),
        ({"loss": "mae", "class_axis": 1}, "--class-axis means nothing for the loss mae"),
        (
            {"loss": "nll", "label_smoothing": 0.1},
            "--label-smoothing means nothing for .* nll",
        ),
        ({"huber_delta": 0.5}, "--huber-delta means nothing for the loss cross-entropy"),
        ({"loss": "huber", "huber_delta": 0.0}, "--huber-delta above 0, got 0"),
        ({"label_smoothing": 1.5}, "--label-smoothing from 0 to 1, got 1.5"),
        ({"output": "probabilities"}, "--output to be one of .*, got 'probabilities'"),
        ({"class_axis": 2}, "--class-axis to be an axis of two or more classes, got 2"),
        ({"samples": "most"}, "number of samples, 'all' or 'auto', got 'most'"),
        ({"samples": 0}, "at least 1 sample"),
        ({"seed": -1}, "seed from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed from 0 to 4294967295"),
        ({"batch_size": 0}, "batch size of at least 1, got 0"),
        ({"threads": 0}, "from 1 to .* threads on this machine, got 0"),
        ({"strategy": "fast"}, "--strategy constant, .* or shared, got"),
        ({"store": "."}, "need out"),
        ({"save_directions": "d.h5"}, "need out"),
    ],
)
def test_an_option_that_means_nothing_is_refused(evaluate, options, message):
    with pytest.raises(UsageError, match=message):
        evaluate(**options)


@pytest.mark.parametrize(
    "options",
    [{"grid": "0x0"}, {"grid": (3, 3)}, {"grid": "3", "radius": -1}, {"x": "1:1:5"}],
)
def test_a_grid_without_points_is_refused(evaluate, options):
    with pytest.raises(GridError):
        evaluate(**options)


def test_directions_are_not_written_over_the_surface(evaluate, tmp_path):
    out = tmp_path / "s.h5"
    evaluate(out=out)
    before = out.read_bytes()
    with pytest.raises(UsageError, match="two files"):
        evaluate(out=out, save_directions=tmp_path / "." / "s.h5")
    assert out.read_bytes() == before


def test_a_place_where_directions_cannot_be_written_is_refused_early(evaluate, tmp_path):
    with pytest.raises(OutputError, match="there is no folder"):
        evaluate(out=tmp_path / "s.h5", save_directions=tmp_path / "no" / "d.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"input": np.zeros((3, 1, 8, 8), dtype=np.float32)}, "no labels for the output.*'y'"),
        ({"y": np.zeros(3)}, "no inputs"),
        ({}, "no inputs"),
        (7, "labels under 'y'"),
        (([1], [2], [3]), "labels under 'y'"),
    ],
)
def test_arrays_without_inputs_or_labels_are_refused(evaluate, data, message):
    with pytest.raises(DataError, match=message):
        evaluate(data)


def test_labels_out_of_range_are_refused(evaluate, digits_arrays):
    x, y = digits_arrays
    with pytest.raises(DataError, match=r"0\.\.9.*got 10"):
        evaluate((x, y + 1))


def test_labels_out_of_range_are_refused_where_only_the_output_tells(
    evaluate, model, digits_arrays
):
    x, y = digits_arrays
    proto = onnx.load(model)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(DataError, match=r"labels in 0\.\.9.*got 10"):
        evaluate((x, y + 1), model=proto, samples="all")


def test_probabilities_are_evaluated_with_a_warning(dense_model):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    weight = random.normal(size=(4, 3))
    with pytest.warns(OnnxscapeWarning, match="'out' looks like probabilities"):
        ox.evaluate(
            dense_model(weight, np.zeros(3), softmax=True),
            (x, y),
            grid=3,
            loss="cross-entropy",
        )
    ox.evaluate(dense_model(weight, np.zeros(3)), (x, y), grid=3)  # a warning is an error


def test_a_model_with_two_outputs_is_refused_until_one_is_named(dense_model):
    model = dense_model(np.eye(3), np.zeros(3), outputs=("out", "extra"))
    data = np.eye(3, dtype=np.float32), np.arange(3)
    with pytest.raises(
        UnsupportedModelError, match=r"this one has 2: out .*, extra .*--output"
    ):
        ox.evaluate(model, data, grid=3)
    assert ox.evaluate(model, data, grid=3, output="extra").spec.output == "extra"


def test_cross_entropy_of_one_number_is_refused_with_advice(dense_model):
    data = np.zeros((5, 4), dtype=np.float32), np.zeros(5, dtype=np.int64)
    with pytest.raises(UnsupportedModelError, match=r"is \[N, 1\]; for reg.*--loss mse"):
        ox.evaluate(
            dense_model(np.ones((4, 1)), np.zeros(1)), data, grid=3, loss="cross-entropy"
        )


def test_targets_that_do_not_fit_a_regression_are_refused(dense_model):
    data = np.zeros((5, 4), dtype=np.float32), np.zeros((5, 2), dtype=np.float32)
    with pytest.raises(DataError, match=r"expected 3 target.*have 2: \[N, 2\]"):
        ox.evaluate(dense_model(np.ones((4, 3)), np.zeros(3)), data, grid=3, loss="mse")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x00\x01\x02" * 50)
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        ox.evaluate(path, "digits")


def test_a_model_with_nothing_to_move_is_refused(dense_model, digits_arrays):
    model = dense_model(np.eye(3), np.zeros(3))
    del model.graph.initializer[:]
    model.graph.node[0].CopyFrom(onnx.helper.make_node("Relu", ["x"], ["raw"]))
    data = np.eye(3, dtype=np.float32), np.arange(3)
    with pytest.raises(NoParametersError, match="nothing to move"):
        ox.evaluate(model, data, grid=3)


def test_why_nothing_moves_is_said_once(make_model, recorder):
    layer = onnx.helper.make_node(
        "LinearRegressor", ["x"], ["y"], "linear", domain="ai.onnx.ml", coefficients=[1.0, 2.0]
    )
    model = make_model([layer], {"x": ["n", 2]}, {"y": ["n", 1]}, {})
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    told = recorder()
    with pytest.raises(NoParametersError, match="LinearRegressor 'linear' has learned"):
        ox.evaluate(model, (np.eye(2), np.ones(2)), grid=3, observer=told)
    assert told.warnings == []


def test_the_names_of_the_package_are_what_it_exports():
    assert all(hasattr(ox, name) for name in ox.__all__)
    assert sorted(ox.__all__) == ox.__all__
