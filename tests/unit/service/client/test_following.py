"""What an observer is told of a job is what it is told of a run here."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from onnxscape.core.grid import Point
from onnxscape.evaluation.observer import Outline
from onnxscape.service.answers.times import duration
from onnxscape.service.client.following import Following
from onnxscape.service.client.job_info import PointResult, job_info, point_results
from onnxscape.service.client.watching import JobChanged, PointsDone
from onnxscape.v1 import jobs_pb2

OUTLINE = Outline(
    model="m", moved=1, elements=2, others=3, directions="from /srv/blob", loss="mse",
    data="d", samples=4, population=5, points=6, reused=0, center_apart=True, known=None,
    device="cpu", strategy="constant", seconds_per_point=0.5, two_level=(1, 2),
    calibration=("a", "b"),
)  # fmt: skip


class Told:
    """An observer that remembers."""

    def __init__(self):
        self.all = []

    def note(self, text):
        self.all.append(("note", text))

    def warning(self, text):
        self.all.append(("warning", text))

    def outline(self, outline):
        self.all.append(("outline", outline))

    def point(self, point, metrics, done, total):
        self.all.append(("point", point.column, metrics["loss"], done, total))


def changed(revision=1, **fields):
    fields = {"state": jobs_pb2.JOB_STATE_RUNNING, "point_total": 4} | fields
    return JobChanged(job_info(jobs_pb2.Job(name="jobs/x", **fields)), revision)


def points(*losses, start=0):
    results = [
        PointResult(Point(0, start + at, 0.5, 0.0), {"loss": loss})
        for at, loss in enumerate(losses)
    ]
    return PointsDone(tuple(results), 1)


def outlined(**fields):
    return {"outline_json": json.dumps(dataclasses.asdict(OUTLINE) | fields)}


@pytest.fixture
def told():
    return Told()


@pytest.mark.parametrize(
    ("completion", "device", "state", "notes"),
    [
        (50.0, 10.0, "QUEUED", ["queue       behind about 40 s of other work"]),
        (1000.0, 10.0, "QUEUED", ["queue       behind about 16 min of other work"]),
        (11.0, 10.0, "QUEUED", []),
        (50.0, 10.0, "RUNNING", []),
        (None, 10.0, "QUEUED", []),
    ],
)
def test_a_job_that_has_to_wait_is_said_to_once(told, completion, device, state, notes):
    estimate = jobs_pb2.CostEstimate(device_time=duration(device))
    if completion is not None:
        estimate.completion.CopyFrom(duration(completion))
    following = Following(told)
    for _ in range(2):
        following.take(changed(state=f"JOB_STATE_{state}", estimate=estimate))
    assert told.all == [("note", text) for text in notes]


def test_a_new_job_is_outlined_when_its_worker_is_ready_then_its_points_come(told):
    following = Following(told)
    following.take(changed(notes=["n"]))
    following.take(changed(**outlined(), notes=["n", "later"], warnings=["w"]))
    following.take(points(3.0, 1.0))
    following.finish()
    assert told.all == [
        ("note", "n"),
        ("note", "later"),
        ("warning", "w"),
        ("outline", OUTLINE),
        ("point", 0, 3.0, 1, 4),
        ("point", 1, 1.0, 2, 4),
    ]
    assert (following.computed, following.reused) == (2, 0)


def test_points_that_were_there_are_part_of_the_outline(told):
    following = Following(told, directions="mine.h5")
    following.take(changed(**outlined(), point_count=3))
    following.take(points(3.0, math.nan))
    following.take(points(1.0, 9.0, start=2))
    (kind, outline), point = told.all
    assert kind == "outline"
    assert (outline.reused, outline.known) == (3, (1.0, 3.0))
    assert outline.directions == "from mine.h5"
    assert point == ("point", 3, 9.0, 4, 4)


def test_the_center_off_the_grid_is_no_part_of_the_range(told):
    following = Following(told)
    following.take(changed(**outlined(), point_count=1))
    center = PointResult(Point(-1, -1, 0.0, 0.0), {"loss": 0.0})
    following.take(PointsDone((center,), 2))
    assert told.all[0][1].known is None


def test_the_total_is_never_below_what_is_done(told):
    following = Following(told)
    following.take(changed(**outlined(), point_total=1))
    following.take(points(1.0, 2.0))
    assert told.all[-1] == ("point", 1, 2.0, 2, 2)


def test_many_points_that_fail_are_counted_after_the_first(told):
    following = Following(told)
    following.take(changed(**outlined()))
    failed = tuple(PointResult(Point(0, n, n / 4, 0.0), {}, "died") for n in range(8))
    following.take(PointsDone(failed, 2))
    following.finish()
    warnings = [text for kind, text in (t[:2] for t in told.all) if kind == "warning"]
    assert warnings[0] == "no loss at (0, 0): died"
    assert warnings[5:] == ["3 more points could not be evaluated"]


def test_an_outline_of_another_version_is_read_as_far_as_it_goes():
    assert changed(**outlined(new_field=1)).job.outline == OUTLINE
    values = dataclasses.asdict(OUTLINE)
    del values["model"]
    assert changed(outline_json=json.dumps(values)).job.outline is None


def test_values_that_are_not_finite_arrive():
    batch = jobs_pb2.PointBatch(metrics=["loss", "accuracy"])
    batch.points.add(row=1, column=2, alpha=0.5, values=[math.nan, math.inf])
    (result,) = point_results(batch)
    assert math.isnan(result.metrics["loss"])
    assert result.metrics["accuracy"] == math.inf
