"""Surfaces written by the reference implementation itself, and imitations of its habits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.errors import SurfaceFileError
from onnxscape.storage import load_landscape, save_landscape

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("surface_2d", Grid(Axis(-1.0, 1.0, 11), Axis(-1.0, 1.0, 11))),
        ("surface_2d_7x5", Grid(Axis(-1.0, 1.0, 7), Axis(-0.5, 1.5, 5))),
        ("surface_1d", Grid(Axis(-1.0, 1.0, 21), None)),
        ("surface_1d_far", Grid(Axis(-20.0, 20.0, 9), None)),
    ],
)
def test_a_file_of_the_reference_is_read(reference: Path, name: str, grid: Grid) -> None:
    found = load_landscape(reference / f"{name}.h5")
    assert found.grid == grid
    assert found.complete
    assert (found.spec, found.plan) == (None, None)
    assert found.provenance["split"] == "test"
    # The center: the same network and samples in every file.
    assert found.center["loss"] == pytest.approx(0.08001286009947459, rel=1e-12)
    assert found.center["accuracy"] == pytest.approx(295 / 300, rel=1e-12)
    with h5py.File(reference / f"{name}.h5", "r") as file:
        assert np.array_equal(found.loss, file["test_loss"][()])
        assert found.accuracy is not None
        assert np.allclose(found.accuracy * 100, file["test_acc"][()], rtol=1e-14)


def test_rows_are_beta_and_columns_are_alpha(reference: Path) -> None:
    """Two files of the same two directions agree on the points they share."""
    square = load_landscape(reference / "surface_2d.h5")
    oblong = load_landscape(reference / "surface_2d_7x5.h5")
    # (alpha, beta) = (1, 0) is [5, 10] there and [1, 6] here; (-1, 0) [5, 0] and [1, 0];
    # (0, 1) [10, 5] and [3, 3].
    for here, there in (((1, 6), (5, 10)), ((1, 0), (5, 0)), ((3, 3), (10, 5))):
        assert oblong.loss[here] == pytest.approx(square.loss[there], rel=1e-6)
    assert len({float(square.loss[place]) for place in ((5, 10), (5, 0), (10, 5))}) == 3


def test_it_can_be_saved_as_ours(tmp_path: Path, reference: Path) -> None:
    first = load_landscape(reference / "surface_2d_7x5.h5")
    save_landscape(first, tmp_path / "ours.h5")
    second = load_landscape(tmp_path / "ours.h5")
    assert second.grid == first.grid
    assert np.array_equal(second.loss, first.loss)
    with h5py.File(tmp_path / "ours.h5", "r") as file:
        assert np.array_equal(file["test_loss"], first.loss)


def write(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def test_points_not_yet_computed_are_not_evaluated(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.h5",
        xcoordinates=np.linspace(-1, 1, 5),
        train_loss=np.array([-1.0, 2.0, 0.0, np.nan, np.inf]),
        train_acc=np.array([-1.0, 0.0, 50.0, 10.0, 10.0]),
    )
    found = load_landscape(path)
    assert found.evaluated.tolist() == [False, True, False, True, True]
    assert np.array_equal(found.loss, [np.nan, 2.0, np.nan, np.nan, np.inf], equal_nan=True)
    assert found.accuracy is not None
    assert np.array_equal(found.accuracy, [np.nan, 0.0, np.nan, 0.1, 0.1], equal_nan=True)
    assert found.center == {}


def test_the_training_loss_comes_first_and_accuracy_may_be_missing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.h5",
        ycoordinates=np.linspace(0, 1, 3),
        test_loss=np.full(3, 7.0),
        test_acc=np.full(3, 7.0),
        train_loss=np.array([1.0, 2.0, 3.0]),
    )
    found = load_landscape(path)
    assert found.grid == Grid(None, Axis(0.0, 1.0, 3))
    assert found.loss.tolist() == [1.0, 2.0, 3.0]
    assert found.accuracy is None
    assert found.center == {"loss": 1.0}
    assert found.provenance["split"] == "train"


def test_its_scrambled_oblong_planes_are_put_right(tmp_path: Path) -> None:
    """The reference fills [ny, nx] in C order into arrays that it shaped (nx, ny)."""
    right = np.arange(1.0, 13.0).reshape(3, 4)
    path = write(
        tmp_path / "s.h5",
        xcoordinates=np.linspace(-1, 1, 4),
        ycoordinates=np.linspace(-1, 1, 3),
        train_loss=right.ravel().reshape(4, 3),
    )
    assert np.array_equal(load_landscape(path).loss, right)


def test_coordinates_in_single_precision_are_read(tmp_path: Path) -> None:
    coordinates = np.linspace(-1, 1, 101).astype(np.float32)
    path = write(tmp_path / "s.h5", xcoordinates=coordinates, train_loss=np.ones(101))
    assert load_landscape(path).grid == Grid(Axis(-1.0, 1.0, 101), None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros(3)}, "found neither"),
        ({"xcoordinates": np.arange(3.0)}, "found neither"),
        ({"train_loss": np.ones(3)}, "found neither"),
        ({"xcoordinates": [0.0, 1.0, 3.0], "train_loss": np.ones(3)}, "not evenly spaced"),
        ({"xcoordinates": [1.0, 0.0, -1.0], "train_loss": np.ones(3)}, "MIN below MAX"),
        ({"xcoordinates": [0.0, np.nan, 1.0], "train_loss": np.ones(3)}, "evenly spaced"),
        ({"xcoordinates": [0.0, 1.0, np.inf], "train_loss": np.ones(3)}, "finite range"),
        ({"xcoordinates": [-1.7e308, 0, 1.7e308], "train_loss": np.ones(3)}, "no grid"),
        ({"xcoordinates": [0.0], "train_loss": np.ones(1)}, "at least 2 points"),
        ({"xcoordinates": np.zeros((2, 2)), "train_loss": np.ones(2)}, "list of numbers"),
        ({"xcoordinates": np.zeros(0), "train_loss": np.ones(0)}, "list of numbers"),
        ({"xcoordinates": [0.0, 1.0], "train_loss": np.ones(3)}, "grid's shape [2], has [3]"),
        ({"xcoordinates": ["a", "b"], "train_loss": np.ones(2)}, "cannot be read here"),
    ],
)
def test_what_is_no_surface_is_refused(
    tmp_path: Path, arrays: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "s.h5", **arrays)
    with pytest.raises(SurfaceFileError) as caught:
        load_landscape(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
