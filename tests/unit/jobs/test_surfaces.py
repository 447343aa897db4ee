"""Surfaces of jobs: from whatever points there are, and written whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from coordination import SPEC, spec_of
from fake_executor import PLAN, bowl

from onnxscape.errors import StorageError, SurfaceFileError
from onnxscape.jobs import surfaces
from onnxscape.jobs.executor import Ready
from onnxscape.jobs.surfaces import landscape_of, surface_path, sweep, write_surface
from onnxscape.storage import load_landscape


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "surfaces"
    made.mkdir()
    return made


def results_of(spec, count=None):
    points = list(spec.grid.points())[:count]
    return {(p.row, p.column): bowl(p) for p in points}


def ready():
    return Ready(
        plan=PLAN.to_json(),
        provenance={"model": "m", "data": "d", "split": "test"},
        outline={},
        seconds_per_point=1.0,
    )


def test_a_job_without_points_has_an_empty_landscape(site):
    job = site.job(site.order())
    landscape = landscape_of(job, {})
    assert not landscape.evaluated.any()
    assert np.isnan(landscape.loss).all()
    assert landscape.spec == SPEC
    assert landscape.plan is None
    assert landscape.center == {}


def test_a_partial_landscape_holds_what_is_there(site):
    job_id = site.order()
    site.store.record_ready(job_id, ready())
    landscape = landscape_of(site.job(job_id), results_of(SPEC, 10))
    assert landscape.evaluated.sum() == 10
    assert not landscape.complete
    assert landscape.plan == PLAN
    assert landscape.provenance == {"model": "m", "data": "d", "split": "test"}


def test_nothing_is_interpolated_before_all_points_are_there(site):
    spec = spec_of("17x17", tolerance=0.05)
    job = site.job(site.order(spec))
    partial = landscape_of(job, results_of(spec, 100))
    assert partial.interpolation is None
    assert np.isnan(partial.loss[~partial.evaluated]).all()
    whole = landscape_of(job, results_of(spec))
    assert whole.interpolation is not None
    assert np.isfinite(whole.loss).all()


def test_a_surface_is_the_file_that_a_local_run_writes(site, folder):
    job_id = site.order()
    site.store.record_ready(job_id, ready())
    path = write_surface(folder, site.job(job_id), results_of(SPEC))
    assert path == folder / f"{job_id}.h5"
    found = load_landscape(path)
    assert found.complete
    assert found.loss[0, 0] == 4.0
    assert found.center == {"loss": 1.0, "accuracy": 1.0, "loss_stderr": 0.0}
    assert found.provenance["split"] == "test"


@pytest.mark.parametrize("name", ["../jobs", "a/b", "", ".", "a.h5", "x" * 65, "a\n"])
def test_no_path_is_made_of_what_is_no_id(folder, name):
    with pytest.raises(ValueError, match="ID of a job"):
        surface_path(folder, name)


def test_a_full_disk_leaves_nothing_behind(site, folder, monkeypatch):
    def full(name):
        if name == "surface.before_rename":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(surfaces, "reach", full)
    job = site.job(site.order())
    with pytest.raises(StorageError, match="No space left"):
        write_surface(folder, job, results_of(SPEC))
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    write_surface(folder, job, results_of(SPEC))
    assert [path.name for path in folder.iterdir()] == [f"{job.id}.h5"]


def test_sweeping_leaves_what_is_known(tmp_path):
    folder = tmp_path / "new"
    sweep(folder, lambda job_id: job_id == "known")
    for name in ("known.h5", "gone.h5", ".onnxscape-12ab.tmp", "notes.txt"):
        (folder / name).write_text("x")
    sweep(folder, lambda job_id: job_id == "known")
    assert {path.name for path in folder.iterdir()} == {"known.h5", "notes.txt"}


def test_a_spec_of_another_version_is_named(site):
    job_id = site.order()
    with site.store._database.writing() as connection:
        text = json.dumps(json.loads(SPEC.to_json()) | {"dimension": 4})
        connection.execute("UPDATE jobs SET spec = ? WHERE id = ?", (text, job_id))
    with pytest.raises(SurfaceFileError, match="dimension"):
        landscape_of(site.job(job_id), {})
