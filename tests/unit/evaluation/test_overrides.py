"""What the user says about single tensors, from the request to the surface."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from onnxscape import evaluate
from onnxscape.errors import DirectionError, SpecConflictError, UsageError


@pytest.fixture
def moved(reference, digits_arrays, tmp_path):
    """Returns the directions of an evaluation by tensor, and its landscape."""

    def run(**options):
        path = tmp_path / "d.h5"
        path.unlink(missing_ok=True)
        landscape = evaluate(
            reference / "model.onnx",
            digits_arrays,
            **{"grid": "3", "samples": 20, "threads": 1, "restart": True} | options,
            out=tmp_path / "s.h5",
            save_directions=path,
        )
        with h5py.File(path) as file:
            stored = {d.attrs["name"]: d[()] for d in file["xdirection"].values()}
        return {name: d for name, d in stored.items() if np.any(d)}, landscape

    return run


WEIGHTS = {"c1.weight", "c2.weight", "dw.weight", "f1.weight", "f2.weight"}


def test_excluded_tensors_stay_and_the_others_move_as_before(moved):
    plain, all_of_them = moved()
    some, without = moved(exclude=["f*"])
    assert plain.keys() == WEIGHTS
    assert some.keys() == {"c1.weight", "c2.weight", "dw.weight"}
    for name, d in some.items():
        np.testing.assert_array_equal(d, plain[name])
    assert without.center["loss"] == all_of_them.center["loss"]
    assert without.loss[0] != all_of_them.loss[0]
    assert without.spec.exclude == ("f*",)


def test_included_tensors_move_and_the_surface_is_that_of_the_edited_file(
    moved, reference, digits_arrays, edited, weights_of, run_model
):
    directions, landscape = moved(include="b1.*", samples="all")
    assert directions.keys() == WEIGHTS | {"b1.weight", "b1.bias"}
    theta = weights_of(reference / "model.onnx")
    model = edited(
        reference / "model.onnx", {name: theta[name] - d for name, d in directions.items()}
    )
    x, labels = digits_arrays
    (y,) = run_model(model, {"input": x})
    y = y.astype(np.float64)
    log_sum = np.log(np.exp(y - y.max(1, keepdims=True)).sum(1)) + y.max(1)
    truth = np.mean(log_sum - y[np.arange(len(y)), labels])
    assert landscape.loss[0] == pytest.approx(truth, rel=2e-4)
    norms = [np.linalg.norm(a["b1.weight"]) for a in (directions, theta)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    assert np.abs(directions["b1.weight"] - theta["b1.weight"]).max() > 0.1  # noise, not w


def test_another_filter_axis_normalizes_along_it(moved, reference, weights_of):
    directions, landscape = moved(filter_axis={"f1.weight": -1})
    w = weights_of(reference / "model.onnx")["f1.weight"]
    np.testing.assert_allclose(
        np.linalg.norm(directions["f1.weight"], axis=0), np.linalg.norm(w, axis=0), rtol=1e-5
    )
    assert landscape.spec.filter_axis == {"f1.weight": 1}


def test_the_same_wishes_in_other_words_are_the_same_spec(moved):
    _, first = moved(include=("b1.*", "b2.*"), filter_axis={"f1.weight": -1})
    _, again = moved(include=["b2.*", "b1.*", "b2.*"], filter_axis={"f1.weight": 1})
    assert first.spec == again.spec
    assert first.spec.digest() == again.spec.digest()


def test_a_surface_is_not_continued_with_other_wishes(moved):
    moved()
    with pytest.raises(SpecConflictError, match="exclude"):
        moved(exclude="f*", restart=False)


def test_what_is_excluded_stays_along_directions_of_a_file(moved, tmp_path):
    plain, _ = moved()
    saved = (tmp_path / "d.h5").rename(tmp_path / "saved.h5")
    some, landscape = moved(directions=saved, exclude="c*")
    assert some.keys() == {"dw.weight", "f1.weight", "f2.weight"}
    for name, d in some.items():
        np.testing.assert_array_equal(d, plain[name])
    assert landscape.spec.exclude == ()  # the digest of what moves says it all
    with pytest.raises(DirectionError, match="zero everywhere it may move"):
        moved(directions=saved, include="b1.bias", exclude="*.weight")


def test_directions_with_included_tensors_can_be_used_again(moved, tmp_path):
    before, first = moved(include="b1.*")
    saved = (tmp_path / "d.h5").rename(tmp_path / "saved.h5")
    after, again = moved(directions=saved)
    assert before.keys() == after.keys()
    np.testing.assert_array_equal(first.loss, again.loss)


def test_excluding_everything_leaves_nothing_to_move(moved):
    with pytest.raises(UsageError, match="nothing to move: --exclude matches all weights"):
        moved(exclude="*")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": "c1.wieght"}, "matches no float tensor.*'c1.weight'"),
        ({"include": "*running_var"}, "running statistic"),
        ({"filter_axis": {"c1.weight": 4}}, "from -4 to 3, got 4"),
    ],
)
def test_wishes_that_cannot_be_are_refused(moved, options, message):
    with pytest.raises(UsageError, match=message):
        moved(**options)
