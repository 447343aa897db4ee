from __future__ import annotations

import pytest

from onnxscape.core.direction import Ignore


def test_the_outline_counts_what_moves_and_what_stays(run, recorder):
    observer = recorder()
    run(observer, grid="4x4")
    (outline,) = observer.outlines
    assert outline.model == "model"
    # c1, c2, dw, f1, f2; three normalizations of two tensors and two biases stay
    assert (outline.moved, outline.others) == (5, 8)
    assert outline.elements == 72 + 1152 + 144 + 8192 + 320
    assert (outline.samples, outline.population) == (40, 300)
    assert (outline.points, outline.reused) == (17, 0)
    assert outline.seconds_per_point > 0
    assert "seed 0" in outline.directions
    assert "filter" in outline.directions
    assert "constant weights, batches of 256, BatchNormalization folded" in outline.strategy


def test_with_ignore_none_all_move_and_nothing_is_folded(run, recorder):
    observer = recorder()
    report = run(observer, ignore=Ignore.NONE)
    (outline,) = observer.outlines
    assert (outline.moved, outline.others) == (13, 0)
    assert "folded" not in outline.strategy
    assert not report.landscape.plan.folded


def test_the_outline_names_the_direction_file(run, recorder, reference):
    observer = recorder()
    run(observer, directions=reference / "directions.h5")
    assert "directions.h5" in observer.outlines[0].directions


@pytest.mark.parametrize(("grid", "points"), [("3x3", 9), ("4x4", 17), ("5", 5), ("6", 7)])
def test_the_center_counts_where_it_is_off_the_grid(run, recorder, grid, points):
    observer = recorder()
    report = run(observer, grid=grid)
    assert observer.outlines[0].points == report.computed == points
    assert len(observer.points) == points
    assert observer.points[0][0].alpha == observer.points[0][0].beta == 0.0


def test_the_report_times_every_phase(run):
    seconds = run().seconds
    assert list(seconds) == ["start", "self_test", "evaluation"]
    assert all(value > 0 for value in seconds.values())


def test_provenance_says_where_the_landscape_comes_from(run):
    origin = run(threads=2).landscape.provenance
    assert origin["model"] == "model"
    assert origin["samples"] == 40
    assert origin["device"] == "cpu"
    assert origin["threads"] == 2
