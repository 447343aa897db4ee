"""What may stand in the fields of an order, checked before anything is looked up or read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.core.direction import MAX_SEED, Ignore
from onnxscape.core.execution import PRECISIONS, STRATEGY_NAMES
from onnxscape.core.grid import MAX_POINTS
from onnxscape.core.loss import CLAMPED, LABELS_OF, metrics_of
from onnxscape.core.normalization import Normalization
from onnxscape.data.layout import LAYOUTS
from onnxscape.service.answers.findings import TEXT, Findings
from onnxscape.service.answers.names import DATA_SETS, MODELS, check_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnxscape.v1 import jobs_pb2

SPLITS = ("train", "test")

DEVICES = ("auto", "cpu", "cuda")

BUILT_IN_METRICS = (*metrics_of("cross-entropy"), CLAMPED)

_GRAPH_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,250}\.onnx", re.IGNORECASE)

_ENTRIES = 10_000
_CHANNELS = 4096
_LARGEST_BATCH = 2**31 - 1
_SPEC_BYTES = 1 << 20
# A job tells its spec twice, and all of it has to fit into a message of 4 MiB.

LONGEST_AXIS = 250_000
"""Points along one axis: the coordinates have to fit into a message of 4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLimits:
    """What the server lets an order ask for.

    Attributes:
        grid_points: Most points of a grid.
        devices: Kinds of devices that it has: `cpu`, `cuda`.
    """

    grid_points: int = MAX_POINTS
    devices: frozenset[str] = frozenset({"cpu"})


def refuse_violations(request: jobs_pb2.CreateJobRequest, limits: OrderLimits) -> None:
    """Check all fields of an order that can be checked by themselves.

    Args:
        request: The order.
        limits: The server's.

    Raises:
        BadRequestError: With the path of each field that means nothing.
    """
    findings = Findings()
    spec, execution = request.spec, request.execution
    if not request.HasField("spec"):
        findings.add("spec", "what to evaluate", "nothing")
    if spec.ByteSize() > _SPEC_BYTES:
        findings.add("spec", f"at most {_SPEC_BYTES} bytes", spec.ByteSize())
    findings.refuse()
    for kind, name, path in (
        (MODELS, spec.model, "spec.model"),
        (DATA_SETS, spec.data, "spec.data"),
    ):
        check_name(kind, name, path, findings)
    findings.one_of("spec.split", SPLITS, spec.split, empty=True)
    findings.one_of("spec.precision", PRECISIONS, spec.precision, empty=True)
    if spec.HasField("weights"):
        findings.digest("spec.weights", spec.weights)
    _check_samples(spec, findings)
    _check_grid(spec.grid, limits, findings)
    _check_directions(spec.directions, findings)
    _check_loss(spec.loss, findings)
    _check_input_format(spec.input_format, findings)
    _check_savings(spec, findings)
    _check_execution(execution, limits, findings)
    _check_rest(request, findings)
    findings.refuse()


def _check_samples(spec: jobs_pb2.JobSpec, findings: Findings) -> None:
    samples = spec.samples
    match samples.WhichOneof("choice"):
        case "count":
            findings.number("spec.samples.count", samples.count, least=1)
        case "all" if not samples.all:
            findings.add("spec.samples.all", "true, or another choice", "false")
        case "auto" if not samples.auto:
            findings.add("spec.samples.auto", "true, or another choice", "false")


def _check_grid(grid: jobs_pb2.Grid, limits: OrderLimits, findings: Findings) -> None:
    points = 1
    for name in ("x", "y"):
        if not grid.HasField(name):
            continue
        axis: jobs_pb2.Axis = getattr(grid, name)
        path = f"spec.grid.{name}"
        before = len(findings.violations)
        findings.number(f"{path}.start", axis.start)
        findings.number(f"{path}.stop", axis.stop)
        if not 2 <= axis.num <= LONGEST_AXIS:
            findings.add(f"{path}.num", f"a number from 2 to {LONGEST_AXIS}", axis.num)
        if len(findings.violations) > before:
            continue
        if axis.start >= axis.stop:
            findings.add(f"{path}.stop", f"more than start, {axis.start:g}", f"{axis.stop:g}")
        elif not math.isfinite(axis.stop - axis.start):
            findings.add(path, "a range that float64 holds", f"{axis.start:g}:{axis.stop:g}")
        points *= axis.num
    most = min(limits.grid_points, MAX_POINTS)
    if points > most:
        findings.add("spec.grid", f"at most {most} points", points)


def _check_directions(directions: jobs_pb2.Directions, findings: Findings) -> None:
    path = "spec.directions"
    if directions.seed > MAX_SEED:
        findings.add(f"{path}.seed", f"a number from 0 to {MAX_SEED}", directions.seed)
    findings.one_of(
        f"{path}.normalization",
        [rule.value for rule in Normalization],
        directions.normalization,
        empty=True,
    )
    findings.one_of(
        f"{path}.ignore", [rule.value for rule in Ignore], directions.ignore, empty=True
    )
    if directions.HasField("file"):
        findings.digest(f"{path}.file", directions.file)
    for name in ("include", "exclude"):
        patterns: Iterable[str] = getattr(directions, name)
        _check_texts(f"{path}.{name}", list(patterns), findings)
    _check_texts(f"{path}.filter_axis", list(directions.filter_axis), findings)


def _check_texts(path: str, texts: list[str], findings: Findings) -> None:
    """Check patterns or names of tensors."""
    findings.count(path, len(texts), most=_ENTRIES)
    for at, text in enumerate(texts[:_ENTRIES]):
        if not text:
            findings.add(f"{path}[{at}]", "a name or pattern", text)
        findings.text(f"{path}[{at}]", text)


def _check_loss(loss: jobs_pb2.Loss, findings: Findings) -> None:
    path = "spec.loss"
    graphs = sorted(loss.graphs)
    findings.count(f"{path}.graphs", len(graphs), most=100)
    for name in graphs[:100]:
        here = f"{path}.graphs[{name[:100]!r}]"
        if _GRAPH_NAME.fullmatch(name) is None:
            # It never becomes a path; but a metric is called like its stem.
            findings.add(here, "the name of a file that ends in .onnx, without folders", name)
        if name != loss.name and name not in loss.metrics:
            findings.add(here, "a graph that name or metrics name", "one that neither does")
        findings.digest(here, loss.graphs[name])
    # A name that is neither built in nor among the graphs would be read as a file.
    findings.one_of(f"{path}.name", [*LABELS_OF, *graphs], loss.name, empty=True)
    findings.count(f"{path}.metrics", len(loss.metrics), most=100)
    for at, metric in enumerate(loss.metrics[:100]):
        findings.one_of(
            f"{path}.metrics[{at}]", [*BUILT_IN_METRICS, *graphs], metric, empty=False
        )
    if loss.no_metrics and loss.metrics:
        findings.add(f"{path}.no_metrics", "false where metrics are named", "true")
    findings.text(f"{path}.output", loss.output)
    if not 0.0 <= loss.label_smoothing <= 1.0:
        findings.add(
            f"{path}.label_smoothing", "a number from 0 to 1", f"{loss.label_smoothing:g}"
        )
    if loss.HasField("huber_delta"):
        findings.number(f"{path}.huber_delta", loss.huber_delta, above=0)


def _check_input_format(given: jobs_pb2.InputFormat, findings: Findings) -> None:
    path = "spec.input_format"
    findings.one_of(f"{path}.layout", LAYOUTS, given.layout, empty=True)
    for name, numbers, above in (("mean", given.mean, -math.inf), ("std", given.std, 0.0)):
        findings.count(f"{path}.{name}", len(numbers), most=_CHANNELS)
        for at, number in enumerate(numbers[:_CHANNELS]):
            findings.number(f"{path}.{name}[{at}]", number, above=above)
    if given.scale not in {"", "raw", "unit"}:
        try:
            number = float(given.scale[:TEXT])
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            findings.add(f"{path}.scale", "raw, unit or a number above 0", given.scale)


def _check_savings(spec: jobs_pb2.JobSpec, findings: Findings) -> None:
    savings, path = spec.savings, "spec.savings"
    auto = spec.samples.WhichOneof("choice") == "auto"
    if savings.HasField("tolerance"):
        findings.number(f"{path}.tolerance", savings.tolerance, above=0)
        if not savings.adaptive:
            findings.add(f"{path}.tolerance", "none where adaptive is false", "one")
    if savings.HasField("stderr"):
        findings.number(f"{path}.stderr", savings.stderr, above=0)
        if not auto:
            findings.add(f"{path}.stderr", "none where samples are not auto", "one")
    elif auto:
        findings.add(f"{path}.stderr", "a number above 0 where samples are auto", "none")
    if savings.HasField("two_level"):
        findings.number(f"{path}.two_level", savings.two_level, least=1)
        for name, wanted in (("adaptive", savings.adaptive), ("auto samples", auto)):
            if wanted:
                findings.add(f"{path}.two_level", f"none together with {name}", "one")


def _check_execution(
    execution: jobs_pb2.Execution, limits: OrderLimits, findings: Findings
) -> None:
    findings.one_of("execution.device", DEVICES, execution.device, empty=True)
    if execution.device in {"cpu", "cuda"} and execution.device not in limits.devices:
        findings.add(
            "execution.device",
            f"a kind of device that the server has: auto, {', '.join(sorted(limits.devices))}",
            execution.device,
        )
    findings.one_of("execution.strategy", STRATEGY_NAMES, execution.strategy, empty=True)
    if not 0 <= execution.batch_size <= _LARGEST_BATCH:
        findings.add(
            "execution.batch_size",
            f"a number of samples from 1 to {_LARGEST_BATCH}, or 0 for the rule",
            execution.batch_size,
        )


def _check_rest(request: jobs_pb2.CreateJobRequest, findings: Findings) -> None:
    findings.text("display_name", request.display_name, longest=256)
    if not request.display_name.isprintable():
        findings.add("display_name", "printable characters", request.display_name)
    if not 0 <= request.priority <= 100:
        findings.add("priority", "a number from 0 to 100", request.priority)
    identity = request.request_id
    if not (identity.isascii() and identity.isprintable()) or len(identity) > 128:
        findings.add("request_id", "at most 128 printable ASCII characters", identity)
