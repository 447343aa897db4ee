"""What a run says: of surfaces that are flattened, of losses that were proposed, of files."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxscape as ox
from onnxscape.errors import DataError, OutputError, SurfaceFileError, UsageError
from onnxscape.storage import PointStore

X = np.float32([[0, 200], [200, 0], [0, 0], [1, 1]])
Y = np.array([0, 0, 1, 1])
CORNERS = {"x": (-1.0, 1.0, 2), "y": (-1.0, 1.0, 2)}


@pytest.fixture
def told(recorder):
    """Evaluates four points, returns the landscape and the observer."""

    def call(model, data, **options):
        observer = recorder()
        return ox.evaluate(model, data, **(CORNERS | options), observer=observer), observer

    return call


@pytest.fixture
def sharp(dense_model):
    """A model whose probabilities are 0 where its only label is wrong."""
    return dense_model(np.eye(2), np.zeros(2), softmax=True)


def test_a_surface_flattened_by_probabilities_of_zero_is_told(told, sharp, tmp_path):
    landscape, observer = told(sharp, (X, Y), out=tmp_path / "s.h5")
    clamped = landscape.surfaces["clamped"]
    (warning,) = observer.warnings
    points, share = int((clamped > 0).sum()), 100 * clamped.max() / 4
    assert points > 0
    assert warning.startswith(f"{points} of 4 points ")
    assert f"(up to {share:g} % of them)" in warning
    assert "export the model without its last operator" in warning
    _, again = told(sharp, (X, Y), out=tmp_path / "s.h5")
    assert again.warnings == [warning]


def test_probabilities_above_zero_are_no_reason_to_warn(told, sharp):
    _, observer = told(sharp, (X / 200, Y))
    assert observer.warnings == []


def test_weights_of_samples_are_told(told, sharp):
    data = {"x": X / 200, "y": Y}
    assert told(sharp, data)[1].outlines[0].data == "arrays: as is"
    weighted = data | {"sample_weight": np.ones(4)}
    assert (
        told(sharp, weighted, mean=0.5)[1].outlines[0].data
        == "arrays: mean 0.5, weighted by sample_weight"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 1, 2, 6],
            (
                r"got 6 .*\(cross-entropy was proposed because labels are classes, the output "
                r"looks like logits; if that is wrong: --loss mse for values, .*\)$"
            ),
        ),
        (
            [0, 1, 2, 6.5],
            (
                r"\[N, 3\].*\(mse was proposed because labels are no whole numbers; if that "
                r"is wrong: --loss cross-entropy for classes\)$"
            ),
        ),
    ],
)
def test_an_error_of_a_proposed_loss_says_so(labels, message, told, dense_model):
    model = dense_model(np.eye(3), np.zeros(3))
    x = np.float32(np.random.default_rng(0).standard_normal((4, 3)))
    with pytest.raises(DataError, match=message):
        told(model, (x, labels))
    named = "mse" if "mse" in message.split("proposed")[0] else "cross-entropy"
    with pytest.raises(DataError) as caught:
        told(model, (x, labels), loss=named)
    assert "proposed" not in str(caught.value)


def test_other_errors_do_not_blame_a_proposed_loss(told, sharp):
    for wrong in ({"samples": 9}, {"samples": 0}):
        with pytest.raises((DataError, UsageError)) as caught:
            told(sharp, (X, Y), **wrong)
        assert "proposed" not in str(caught.value)
    with pytest.raises(DataError) as caught:
        told(sharp, {"x": X, "y": Y, "sample_weight": -np.ones(4)})
    assert "proposed" not in str(caught.value)


def test_metrics_may_be_one_text(told, sharp):
    for metrics in ("error", "accuracy,error"):
        landscape, _ = told(sharp, (X / 200, Y), metrics=metrics)
        assert set(metrics.split(",")) <= set(landscape.surfaces)


@pytest.fixture
def own(make_model, tmp_path):
    """Returns the path of a metric in a folder of its own."""

    def write(folder):
        nodes = [helper.make_node("ReduceMax", ["out"], ["z"], axes=[1], keepdims=0)]
        path = tmp_path / folder / "own.onnx"
        path.parent.mkdir()
        onnx.save(make_model(nodes, {"out": ["n", 2]}, {"z": ["n"]}, {}), path)
        return str(path)

    return write


def test_two_metrics_of_one_name_are_refused_as_such(told, sharp, own):
    first, second = own("a"), own("b")
    with pytest.raises(UsageError, match=f"two metrics would be called 'own'.*{second}"):
        told(sharp, (X, Y), metrics=(first, second))


def test_a_loss_of_ones_own_is_called_by_its_file(told, sharp, own):
    path = own("a")
    with pytest.raises(UsageError, match=r"with the loss own\.onnx, got accuracy"):
        told(sharp, (X, Y), loss=path, metrics="accuracy")


def test_a_run_that_is_not_finished_is_no_missing_file(tmp_path):
    PointStore.location(tmp_path / "s.h5").touch()
    with pytest.raises(SurfaceFileError, match=r"not finished.*the same eval command"):
        ox.load(tmp_path / "s.h5")
    with pytest.raises(SurfaceFileError, match="cannot open"):
        ox.load(tmp_path / "t.h5")


def test_another_landscape_is_saved_over_only_if_asked(told, sharp, tmp_path):
    path = tmp_path / "s.h5"
    landscape, _ = told(sharp, (X / 200, Y))
    other, _ = told(sharp, (X / 200, Y), seed=1)
    landscape.save(path)
    landscape.save(path)  # the same one
    with pytest.raises(OutputError, match=r"differs in seed \(0, not 1\).*overwrite=True"):
        other.save(path)
    assert ox.load(path).spec == landscape.spec
    other.save(path, overwrite=True)
    assert ox.load(path).spec == other.spec


def test_a_file_of_another_kind_is_never_saved_over(told, sharp, tmp_path):
    landscape, _ = told(sharp, (X / 200, Y))
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is no landscape"):
            landscape.save(path, overwrite=overwrite)
    assert path.read_text() == "mine"
