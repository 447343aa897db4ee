"""Every field of an order that means nothing is named by its path."""

from __future__ import annotations

import pytest
from google.rpc.error_details_pb2 import BadRequest

from onnxscape.core.loss import LABELS_OF, metrics_of
from onnxscape.service.answers.findings import Findings
from onnxscape.service.answers.names import JOBS, identifier
from onnxscape.service.answers.rich_errors import BadRequestError
from onnxscape.service.orders.checks import (
    BUILT_IN_METRICS,
    LONGEST_AXIS,
    OrderLimits,
    refuse_violations,
)
from onnxscape.v1.blobs_pb2 import Digest
from onnxscape.v1.jobs_pb2 import Axis, CreateJobRequest, JobSpec

NAN, INF = float("nan"), float("inf")
GOOD = {"sha256": "a" * 64, "size": 1}


def request(**fields):
    spec = {"model": "models/m", "data": "dataSets/digits"}
    return CreateJobRequest(spec=spec | fields.pop("spec", {}), **fields)


def violations(message, limits=OrderLimits()):  # noqa: B008 - frozen
    """Return path and description of all that is found."""
    try:
        refuse_violations(message, limits)
    except BadRequestError as error:
        detail = BadRequest()
        error.to_status().details[1].Unpack(detail)
        return {v.field: v.description for v in detail.field_violations}
    return {}


def test_all_built_in_metrics_are_known():
    assert {metric for loss in LABELS_OF for metric in metrics_of(loss)} < set(
        BUILT_IN_METRICS
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"spec": {"split": "test", "precision": "native"}},
        {"spec": {"samples": {"count": 1}}},
        {"spec": {"samples": {"all": True}}},
        {"spec": {"samples": {"auto": True}, "savings": {"stderr": 0.1}}},
        {"spec": {"grid": {"y": {"start": -1, "stop": 1, "num": 2}}}},
        {"spec": {"directions": {"seed": 2**32 - 1, "file": GOOD, "include": ["*"]}}},
        {"spec": {"loss": {"name": "mse", "metrics": ["error", "top5", "clamped"]}}},
        {"spec": {"loss": {"name": "Own.ONNX", "graphs": {"Own.ONNX": GOOD}}}},
        {"spec": {"loss": {"label_smoothing": 1.0, "huber_delta": 1e-300, "class_axis": -1}}},
        {"spec": {"input_format": {"layout": "flat", "mean": [-1.0], "scale": "2.5"}}},
        {"spec": {"savings": {"adaptive": True, "tolerance": 0.1}}},
        {"spec": {"savings": {"two_level": 1}, "weights": GOOD}},
        {"execution": {"device": "cpu", "strategy": "constant", "batch_size": 7}},
        {"display_name": "Ärger 7", "priority": 100, "request_id": "a b"},
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(fields):
    assert violations(request(**fields)) == {}


SHA = {"sha256": "A" * 64, "size": 1}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("spec.model", {"spec": {"model": "m"}}),
        ("spec.model", {"spec": {"model": "models/../../etc"}}),
        ("spec.model", {"spec": {"model": "dataSets/m"}}),
        ("spec.data", {"spec": {"data": "dataSets/"}}),
        ("spec.data", {"spec": {"data": "dataSets/a/b"}}),
        ("spec.split", {"spec": {"split": "valid"}}),
        ("spec.samples.count", {"spec": {"samples": {"count": 0}}}),
        ("spec.samples.all", {"spec": {"samples": {"all": False}}}),
        ("spec.savings.stderr", {"spec": {"samples": {"auto": True}}}),
        ("spec.grid.x.start", {"spec": {"grid": {"x": {"start": NAN, "stop": 1, "num": 3}}}}),
        ("spec.grid.y.stop", {"spec": {"grid": {"y": {"start": 0, "stop": INF, "num": 3}}}}),
        ("spec.grid.x.stop", {"spec": {"grid": {"x": {"start": 1, "stop": 1, "num": 3}}}}),
        ("spec.grid.x.num", {"spec": {"grid": {"x": {"start": 0, "stop": 1, "num": 1}}}}),
        ("spec.grid.x", {"spec": {"grid": {"x": {"start": -1e308, "stop": 1e308, "num": 3}}}}),
        ("spec.directions.seed", {"spec": {"directions": {"seed": 2**32}}}),
        ("spec.directions.normalization", {"spec": {"directions": {"normalization": "l2"}}}),
        ("spec.directions.ignore", {"spec": {"directions": {"ignore": "bias"}}}),
        ("spec.directions.file.sha256", {"spec": {"directions": {"file": SHA}}}),
        ("spec.directions.file.size", {"spec": {"directions": {"file": GOOD | {"size": 0}}}}),
        ("spec.directions.include[1]", {"spec": {"directions": {"include": ["a", ""]}}}),
        ("spec.directions.exclude[0]", {"spec": {"directions": {"exclude": ["a" * 1025]}}}),
        ("spec.directions.filter_axis[0]", {"spec": {"directions": {"filter_axis": {"": 1}}}}),
        ("spec.loss.name", {"spec": {"loss": {"name": "hinge"}}}),
        ("spec.loss.name", {"spec": {"loss": {"name": "/etc/passwd.onnx"}}}),
        ("spec.loss.metrics[1]", {"spec": {"loss": {"metrics": ["error", "server.onnx"]}}}),
        ("spec.loss.metrics[0]", {"spec": {"loss": {"metrics": [""]}}}),
        (
            "spec.loss.no_metrics",
            {"spec": {"loss": {"metrics": ["error"], "no_metrics": True}}},
        ),
        ("spec.loss.label_smoothing", {"spec": {"loss": {"label_smoothing": NAN}}}),
        ("spec.loss.label_smoothing", {"spec": {"loss": {"label_smoothing": 1.5}}}),
        ("spec.loss.huber_delta", {"spec": {"loss": {"huber_delta": 0.0}}}),
        ("spec.loss.graphs['l.onnx']", {"spec": {"loss": {"graphs": {"l.onnx": GOOD}}}}),
        (
            "spec.loss.graphs['../l.onnx']",
            {"spec": {"loss": {"name": "../l.onnx", "graphs": {"../l.onnx": GOOD}}}},
        ),
        (
            "spec.loss.graphs['l.pkl']",
            {"spec": {"loss": {"name": "l.pkl", "graphs": {"l.pkl": GOOD}}}},
        ),
        (
            "spec.loss.graphs['l.onnx'].sha256",
            {"spec": {"loss": {"name": "l.onnx", "graphs": {"l.onnx": SHA}}}},
        ),
        ("spec.input_format.layout", {"spec": {"input_format": {"layout": "HWC"}}}),
        ("spec.input_format.mean[1]", {"spec": {"input_format": {"mean": [0, INF]}}}),
        ("spec.input_format.std[0]", {"spec": {"input_format": {"std": [0]}}}),
        ("spec.input_format.scale", {"spec": {"input_format": {"scale": "nan"}}}),
        ("spec.input_format.scale", {"spec": {"input_format": {"scale": "-1"}}}),
        ("spec.precision", {"spec": {"precision": "fp64"}}),
        ("spec.weights.sha256", {"spec": {"weights": SHA}}),
        ("spec.savings.tolerance", {"spec": {"savings": {"tolerance": 0.1}}}),
        ("spec.savings.tolerance", {"spec": {"savings": {"adaptive": True, "tolerance": 0}}}),
        ("spec.savings.stderr", {"spec": {"savings": {"stderr": 0.1}}}),
        ("spec.savings.two_level", {"spec": {"savings": {"two_level": 0}}}),
        ("spec.savings.two_level", {"spec": {"savings": {"adaptive": True, "two_level": 9}}}),
        ("execution.device", {"execution": {"device": "cuda:0"}}),
        ("execution.device", {"execution": {"device": "cuda"}}),
        ("execution.strategy", {"execution": {"strategy": "fast"}}),
        ("execution.batch_size", {"execution": {"batch_size": -1}}),
        ("display_name", {"display_name": "a\nb"}),
        ("display_name", {"display_name": "a" * 257}),
        ("priority", {"priority": 101}),
        ("priority", {"priority": -1}),
        ("request_id", {"request_id": "ü"}),
        ("request_id", {"request_id": "a" * 129}),
    ],
)
def test_what_means_nothing_is_named(path, fields):
    found = violations(request(**fields))
    assert list(found) == [path]
    assert found[path].startswith("expected ")
    assert ", got " in found[path]


def test_all_that_is_wrong_is_told_at_once():
    found = violations(request(spec={"split": "a", "precision": "b"}, priority=-1))
    assert set(found) == {"spec.split", "spec.precision", "priority"}


def test_an_order_of_nothing_is_refused():
    assert set(violations(CreateJobRequest())) == {"spec"}


def test_a_grid_may_have_as_many_points_as_the_server_allows():
    def square(num):
        axis = Axis(start=-1, stop=1, num=num)
        return request(spec={"grid": {"x": axis, "y": axis}})

    assert violations(square(10), OrderLimits(grid_points=100)) == {}
    found = violations(square(11), OrderLimits(grid_points=100))
    assert found == {"spec.grid": "expected at most 100 points, got 121"}


def test_an_axis_is_so_short_that_its_coordinates_fit_into_a_message():
    assert 8 * LONGEST_AXIS < 4 << 20
    line = {"grid": {"x": {"start": 0, "stop": 1, "num": LONGEST_AXIS + 1}}}
    assert set(violations(request(spec=line))) == {"spec.grid.x.num"}


def test_a_server_with_a_gpu_takes_orders_for_it():
    limits = OrderLimits(devices=frozenset({"cuda"}))
    assert violations(request(execution={"device": "cuda"}), limits) == {}
    assert set(violations(request(execution={"device": "cpu"}), limits)) == {
        "execution.device"
    }


def test_a_spec_that_would_not_fit_into_an_answer_is_refused():
    patterns = [f"{number:01000d}" for number in range(1100)]
    found = violations(request(spec={"directions": {"include": patterns}}))
    assert set(found) == {"spec"}


@pytest.mark.parametrize("name", ["directions.include", "input_format.mean", "loss.metrics"])
def test_long_lists_are_looked_at_up_to_their_limit_only(name):
    spec = JobSpec(model="models/m", data="dataSets/d")
    part, field = name.split(".")
    bad = NAN if field == "mean" else ""
    getattr(getattr(spec, part), field).extend([bad] * 20_000)
    found = violations(CreateJobRequest(spec=spec))
    assert f"spec.{name}" in found
    assert len(found) < 100


@pytest.mark.parametrize(
    "name", ["", "jobs", "jobs/", "jobs/a/b", "models/a", "jobs/../a", "jobs/.", " jobs/a"]
)
def test_what_is_no_name_of_a_job_is_refused(name):
    with pytest.raises(BadRequestError, match="jobs/ID"):
        identifier(JOBS, name, "name")


def test_ids_may_begin_with_any_letter_that_is_safe_in_urls():
    assert identifier(JOBS, "jobs/-_aZ9", "name") == "-_aZ9"


def test_digests_are_checked_to_the_letter():
    findings = Findings()
    findings.digest("d", Digest(sha256="a" * 64 + "\n", size=1))
    assert [v.field for v in findings.violations] == ["d.sha256"]
