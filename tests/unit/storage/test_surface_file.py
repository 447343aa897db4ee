from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.interpolation import Interpolation
from onnxscape.core.landscape import Landscape
from onnxscape.errors import StorageError, SurfaceFileError, UsageError
from onnxscape.storage import load_landscape, save_landscape
from onnxscape.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscape.core.spec import EvalSpec


def same_bits(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


def test_a_landscape_comes_back_whole(tmp_path: Path, landscape: Landscape) -> None:
    save_landscape(landscape, tmp_path / "s.h5")
    found = load_landscape(tmp_path / "s.h5")
    assert found.grid == landscape.grid
    assert found.spec == landscape.spec
    assert found.plan == landscape.plan
    assert found.center == landscape.center
    assert found.provenance == landscape.provenance
    assert found.evaluated.dtype == np.bool_
    assert np.array_equal(found.evaluated, landscape.evaluated)
    assert not found.complete
    assert set(found.surfaces) == {"loss", "accuracy", "loss_stderr"}
    for name, values in landscape.surfaces.items():
        assert same_bits(found.surfaces[name], values)


@pytest.mark.parametrize(
    ("claimed", "loss", "said"),
    [
        (2, 1.0, r"needs 2 points that were not evaluated, .* has 1.*--restart"),
        (1, np.nan, r"'loss' needs a value at all 1 interpolated points, 1 of .*--restart"),
    ],
)
def test_interpolated_points_are_as_many_as_said_and_have_a_loss(
    tmp_path: Path, landscape: Landscape, claimed: int, loss: float, said: str
) -> None:
    record = Interpolation(
        method="adaptive",
        scale="linear",
        tolerance=0.05,
        floor=1e-3,
        evaluated=14,
        interpolated=1,
        held_out=1,
        largest_error=0.01,
        errors={},
        rounds=1,
    )
    values = np.where(landscape.evaluated, landscape.loss, 1.0)
    whole = replace(
        landscape, surfaces={**landscape.surfaces, "loss": values}, interpolation=record
    )
    path = tmp_path / "s.h5"
    save_landscape(whole, path)
    assert load_landscape(path).complete
    values = np.where(landscape.evaluated, landscape.loss, loss)
    save_landscape(
        replace(
            whole,
            surfaces={**landscape.surfaces, "loss": values},
            interpolation=replace(record, interpolated=claimed),
        ),
        path,
    )
    with pytest.raises(SurfaceFileError, match=said):
        load_landscape(path)


axes = st.builds(
    lambda start, width, num: Axis(start, start + width, num),
    st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-9),
    st.floats(1e-3, 1e6),
    st.integers(2, 6),
)
grids = st.one_of(
    st.builds(Grid, axes, axes),
    st.builds(lambda axis: Grid(axis, None), axes),
    st.builds(lambda axis: Grid(None, axis), axes),
)


@st.composite
def landscapes(draw: st.DrawFn) -> Landscape:
    """Landscapes without a spec, with every bit pattern of float64 as a value."""
    grid = draw(grids)
    patterns = hnp.arrays(np.uint64, grid.shape, elements=st.integers(0, 2**64 - 1))
    special = st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    values = st.one_of(
        patterns.map(lambda array: array.view(np.float64)),
        hnp.arrays(np.float64, grid.shape, elements=st.one_of(st.floats(), special)),
    )
    evaluated = draw(hnp.arrays(np.bool_, grid.shape))
    names = draw(st.lists(st.sampled_from(["accuracy", "top5", "loss_stderr"]), unique=True))
    return Landscape(
        grid=grid,
        surfaces={
            name: np.where(evaluated, draw(values), np.nan) for name in ["loss", *names]
        },
        evaluated=evaluated,
        center=draw(st.dictionaries(st.sampled_from(["loss", "accuracy"]), st.floats())),
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=60,
)
@given(landscapes())
def test_any_values_survive_to_the_bit(tmp_path: Path, landscape: Landscape) -> None:
    save_landscape(landscape, tmp_path / "s.h5")
    found = load_landscape(tmp_path / "s.h5")
    assert found.grid == landscape.grid
    assert set(found.surfaces) == set(landscape.surfaces)
    for name, values in landscape.surfaces.items():
        assert same_bits(found.surfaces[name], values)
    assert np.array_equal(found.evaluated, landscape.evaluated)
    assert {k: np.float64(v).tobytes() for k, v in found.center.items()} == {
        k: np.float64(v).tobytes() for k, v in landscape.center.items()
    }
    assert (found.spec, found.plan) == (None, None)


def test_the_layout_on_the_disk_is_the_contract(tmp_path: Path, landscape: Landscape) -> None:
    """Read by plain h5py, as other programs do."""
    path = tmp_path / "s.h5"
    save_landscape(landscape, path)
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]
    assert landscape.spec is not None
    assert landscape.plan is not None
    with h5py.File(path, "r") as file:
        attributes = dict(file.attrs)
        assert attributes["onnxscape_format"] == 1
        assert attributes["onnxscape_version"] == __version__
        created = datetime.fromisoformat(attributes["created"])
        assert abs(datetime.now(UTC) - created) < timedelta(hours=1)
        assert json.loads(attributes["spec"]) == landscape.spec.to_dict()
        assert json.loads(attributes["plan"]) == landscape.plan.to_dict()
        assert json.loads(attributes["provenance"]) == landscape.provenance
        assert attributes["complete"].dtype == np.bool_
        assert not attributes["complete"]
        assert (attributes["center_loss"], attributes["center_accuracy"]) == (0.25, 0.97)
        assert set(file) == {
            "xcoordinates",
            "ycoordinates",
            "evaluated",
            "loss",
            "accuracy",
            "loss_stderr",
            "test_loss",
            "test_acc",
        }
        assert file["xcoordinates"][()].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
        assert file["ycoordinates"][()].tolist() == [-1.0, 0.0, 1.0]
        for name in set(file) - {"xcoordinates", "ycoordinates"}:
            assert file[name].shape == (3, 5)  # [n_beta, n_alpha]
            assert file[name].dtype == (np.uint8 if name == "evaluated" else np.float64)
        assert file["evaluated"][0].tolist() == [1, 0, 1, 1, 1]
        assert np.isnan(file["loss"][0, 1])
        assert file["loss"][2, 3] == np.inf  # a non-finite loss is data
        assert isinstance(file.get("test_loss", getlink=True), h5py.HardLink)
        assert file["test_loss"] == file["loss"]  # one object under two names
        accuracy = landscape.surfaces["accuracy"]
        assert np.allclose(file["test_acc"], accuracy * 100, rtol=1e-15, equal_nan=True)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_line_has_one_axis_only(tmp_path: Path, axis: str) -> None:
    line = Axis(-2.0, 1.0, 4)
    grid = Grid(line, None) if axis == "x" else Grid(None, line)
    landscape = Landscape(
        grid=grid,
        surfaces={"loss": np.arange(4.0)},
        evaluated=np.ones(4, dtype=np.bool_),
        center={},
    )
    save_landscape(landscape, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r") as file:
        assert set(file) == {f"{axis}coordinates", "loss", "evaluated", "train_loss"}
        assert file["loss"].shape == (4,)
        assert file.attrs["complete"]
        assert "center_loss" not in file.attrs
        assert "spec" not in file.attrs
    found = load_landscape(tmp_path / "s.h5")
    assert found.grid == grid
    assert found.complete


def test_a_point_not_evaluated_is_nan_whatever_stood_there(
    tmp_path: Path, landscape: Landscape
) -> None:
    loss = landscape.loss.copy()
    loss[0, 1] = 3.0
    changed = replace(landscape, surfaces={"loss": loss})
    save_landscape(changed, tmp_path / "s.h5")
    assert np.isnan(load_landscape(tmp_path / "s.h5").loss[0, 1])


def test_values_of_lower_precision_are_stored_as_float64(
    tmp_path: Path, landscape: Landscape
) -> None:
    loss: NDArray[Any] = landscape.loss.astype(np.float32)
    save_landscape(replace(landscape, surfaces={"loss": loss}), tmp_path / "s.h5")
    found = load_landscape(tmp_path / "s.h5").loss
    assert found.dtype == np.float64
    assert same_bits(found, np.where(landscape.evaluated, loss.astype(np.float64), np.nan))


def test_a_spec_larger_than_64_kb_is_kept(
    tmp_path: Path, landscape: Landscape, spec: EvalSpec
) -> None:
    large = replace(spec, preprocessing={"mean": [i / 7 for i in range(20_000)]})
    save_landscape(replace(landscape, spec=large), tmp_path / "s.h5")
    assert load_landscape(tmp_path / "s.h5").spec == large


def test_a_failed_write_keeps_the_old_surface(
    tmp_path: Path, landscape: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "s.h5"
    save_landscape(landscape, path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match="No space left"):
        save_landscape(replace(landscape, center={}), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["evaluated", "xcoordinates", "test_loss", "test_acc", "a/b", "", ".", "ä"]
)
def test_a_metric_with_a_taken_or_strange_name_is_refused(
    tmp_path: Path, landscape: Landscape, name: str
) -> None:
    surfaces = {**landscape.surfaces, name: landscape.loss}
    with pytest.raises(UsageError, match="a metric cannot be called"):
        save_landscape(replace(landscape, surfaces=surfaces), tmp_path / "s.h5")


def test_a_surface_that_does_not_fit_the_grid_is_refused(
    tmp_path: Path, landscape: Landscape
) -> None:
    for change in (
        {"surfaces": {"loss": landscape.loss.T}},
        {"evaluated": landscape.evaluated.T},
    ):
        with pytest.raises(UsageError, match=r"of shape \[3, 5\] on this grid, got \[5, 3\]"):
            save_landscape(replace(landscape, **change), tmp_path / "s.h5")
    with pytest.raises(UsageError, match="needs the surface 'loss'"):
        save_landscape(replace(landscape, surfaces={}), tmp_path / "s.h5")
    with pytest.raises(UsageError, match="expected a split"):
        save_landscape(replace(landscape, provenance={"split": "../x"}), tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_newer_format_is_refused(tmp_path: Path, landscape: Landscape) -> None:
    save_landscape(landscape, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["onnxscape_format"] = 2
    with pytest.raises(SurfaceFileError, match=r"format 2, this version reads 1; update"):
        load_landscape(tmp_path / "s.h5")


@pytest.mark.parametrize("name", ["loss", "evaluated", "accuracy"])
@pytest.mark.parametrize("shape", [(5, 3), (15,), (), (3, 5, 1)])
def test_an_array_of_another_shape_is_refused(
    tmp_path: Path, landscape: Landscape, name: str, shape: tuple[int, ...]
) -> None:
    save_landscape(landscape, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        dtype = file[name].dtype
        del file[name]
        file[name] = np.zeros(shape, dtype)
    with pytest.raises(SurfaceFileError, match=rf"{name!r} should have the grid's shape"):
        load_landscape(tmp_path / "s.h5")


@pytest.mark.parametrize("name", ["loss", "evaluated", "xcoordinates"])
def test_a_missing_array_is_refused(tmp_path: Path, landscape: Landscape, name: str) -> None:
    save_landscape(landscape, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file[name]
    with pytest.raises(SurfaceFileError, match=f"{name!r}"):
        load_landscape(tmp_path / "s.h5")


def test_coordinates_that_contradict_the_spec_are_refused(
    tmp_path: Path, landscape: Landscape
) -> None:
    save_landscape(landscape, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["xcoordinates"][2] = 1e-6
    with pytest.raises(SurfaceFileError, match="'xcoordinates' are not those of the stored"):
        load_landscape(tmp_path / "s.h5")


def test_a_damaged_spec_or_plan_is_refused(tmp_path: Path, landscape: Landscape) -> None:
    for name in ("spec", "plan", "provenance"):
        save_landscape(landscape, tmp_path / "s.h5")
        with h5py.File(tmp_path / "s.h5", "r+") as file:
            file.attrs[name] = '{"a": '
        with pytest.raises(SurfaceFileError, match=f"stored {name} is no JSON object"):
            load_landscape(tmp_path / "s.h5")


def test_extra_arrays_and_groups_of_others_do_no_harm(
    tmp_path: Path, landscape: Landscape
) -> None:
    save_landscape(landscape, tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["note"] = "made on a Monday"
        file.create_group("notes")["a"] = np.zeros(3)
        file.attrs["author"] = np.arange(3)
    assert set(load_landscape(tmp_path / "s.h5").surfaces) == set(landscape.surfaces)


def test_what_was_read_can_be_written_again_alike(
    tmp_path: Path, landscape: Landscape
) -> None:
    save_landscape(landscape, tmp_path / "a.h5")
    save_landscape(load_landscape(tmp_path / "a.h5"), tmp_path / "b.h5")
    with h5py.File(tmp_path / "a.h5", "r") as a, h5py.File(tmp_path / "b.h5", "r") as b:
        assert set(a) == set(b)
        for name in a:
            assert a[name][()].tobytes() == b[name][()].tobytes()
        assert {k: str(v) for k, v in a.attrs.items() if k != "created"} == {
            k: str(v) for k, v in b.attrs.items() if k != "created"
        }
