"""Orders and their messages: from a checked JobSpec to an Order, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscape.jobs.order import Order
from onnxscape.service.answers.names import DATA_SETS, MODELS
from onnxscape.v1 import blobs_pb2, jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onnxscape.jobs.order import DataRef

DEFAULT_AXIS = (-1.0, 1.0, 25)
"""Of both axes where no grid is given: that of the command line."""

DEFAULTS: Mapping[str, Any] = {
    "seed": 0,
    "normalization": "filter",
    "ignore": "biasbn",
    "orthogonal": False,
    "include": [],
    "exclude": [],
    "filter_axis": {},
    "loss": None,
    "metrics": None,
    "output": None,
    "class_axis": None,
    "ignore_index": None,
    "label_smoothing": 0.0,
    "huber_delta": 1.0,
    "split": "train",
    "samples": None,
    "layout": None,
    "mean": None,
    "std": None,
    "scale": None,
    "precision": "fp32",
    "adaptive": False,
    "tolerance": None,
    "stderr": None,
    "two_level": None,
}
"""Options that an order leaves out where they have these values; a test compares them with the
defaults of `EvalRequest`."""


def order_of(
    spec: jobs_pb2.JobSpec,
    execution: jobs_pb2.Execution,
    *,
    model: str,
    model_name: str,
    data: DataRef,
) -> Order:
    """Make the order that a checked spec asks for.

    Equal specs give equal orders, whether defaults are written out or not.

    Args:
        spec: The spec; `refuse_violations` found nothing wrong with it.
        execution: How to compute it, likewise.
        model: sha256 of the model that it names.
        model_name: What people call that.
        data: The data that it names.

    Returns:
        The order.
    """
    values = _options_of(spec)
    options = {name: value for name, value in values.items() if value != DEFAULTS[name]}
    return Order(
        model=model,
        model_name=model_name,
        data=data,
        options=options | _axes_of(spec.grid),
        graphs={name: digest.sha256 for name, digest in sorted(spec.loss.graphs.items())},
        directions=spec.directions.file.sha256 or None,
        weights=spec.weights.sha256 or None,
        device=execution.device or "auto",
        strategy=execution.strategy or None,
        batch_size=execution.batch_size or None,
    )


def _axes_of(grid: jobs_pb2.Grid) -> dict[str, list[float] | None]:
    if not grid.HasField("x") and not grid.HasField("y"):
        return {"x": list(DEFAULT_AXIS), "y": list(DEFAULT_AXIS)}
    return {
        name: [axis.start, axis.stop, axis.num] if grid.HasField(name) else None
        for name, axis in (("x", grid.x), ("y", grid.y))
    }


def _options_of(spec: jobs_pb2.JobSpec) -> dict[str, Any]:
    """Return the values of all options, in the types that JSON has for them."""
    directions, loss, given, savings = (
        spec.directions,
        spec.loss,
        spec.input_format,
        spec.savings,
    )
    metrics: list[str] | None = list(loss.metrics) or None
    samples: int | str | None = spec.samples.WhichOneof("choice")
    if samples == "count":
        samples = spec.samples.count
    return {
        "seed": directions.seed,
        "normalization": directions.normalization or "filter",
        "ignore": directions.ignore or "biasbn",
        "orthogonal": directions.orthogonal,
        "include": list(directions.include),
        "exclude": list(directions.exclude),
        "filter_axis": dict(directions.filter_axis),
        "loss": loss.name or None,
        "metrics": [] if loss.no_metrics else metrics,
        "output": loss.output or None,
        "class_axis": _optional(loss, "class_axis"),
        "ignore_index": _optional(loss, "ignore_index"),
        "label_smoothing": loss.label_smoothing,
        "huber_delta": loss.huber_delta if loss.HasField("huber_delta") else 1.0,
        "split": spec.split or "train",
        "samples": samples,
        "layout": given.layout or None,
        "mean": list(given.mean) or None,
        "std": list(given.std) or None,
        "scale": _scale_of(given.scale),
        "precision": spec.precision or "fp32",
        "adaptive": savings.adaptive,
        "tolerance": _optional(savings, "tolerance"),
        "stderr": _optional(savings, "stderr"),
        "two_level": _optional(savings, "two_level"),
    }


def _optional(message: jobs_pb2.Loss | jobs_pb2.Savings, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _scale_of(text: str) -> str | float | None:
    if text in {"raw", "unit"}:
        return text
    return float(text) if text else None


def spec_of(
    order: Order, *, model_id: str, data_id: str, size: Callable[[str], int]
) -> jobs_pb2.JobSpec:
    """Write an order as a spec, of which `order_of` makes the same order.

    Args:
        order: The order.
        model_id: ID of its model.
        data_id: ID of its data.
        size: Returns the size of a blob by its sha256.

    Returns:
        The spec.
    """
    values = {**DEFAULTS, **order.options}
    spec = jobs_pb2.JobSpec(
        model=f"{MODELS}/{model_id}",
        data=f"{DATA_SETS}/{data_id}",
        split=values["split"],
        precision=values["precision"],
        directions=jobs_pb2.Directions(
            seed=values["seed"],
            normalization=values["normalization"],
            ignore=values["ignore"],
            orthogonal=values["orthogonal"],
            include=values["include"],
            exclude=values["exclude"],
            filter_axis=values["filter_axis"],
        ),
        loss=_loss_message(values),
        savings=jobs_pb2.Savings(
            adaptive=values["adaptive"],
            tolerance=values["tolerance"],
            stderr=values["stderr"],
            two_level=values["two_level"],
        ),
    )
    for name in ("x", "y"):
        if values[name] is not None:
            start, stop, num = values[name]
            axis: jobs_pb2.Axis = getattr(spec.grid, name)
            axis.start, axis.stop, axis.num = start, stop, num
    match values["samples"]:
        case int() as count:
            spec.samples.count = count
        case "all":
            spec.samples.all = True
        case "auto":
            spec.samples.auto = True
    if given := _input_format(values):
        spec.input_format.CopyFrom(given)
    for name, sha256 in order.graphs.items():
        spec.loss.graphs[name].CopyFrom(_digest(sha256, size))
    if order.directions is not None:
        spec.directions.file.CopyFrom(_digest(order.directions, size))
    if order.weights is not None:
        spec.weights.CopyFrom(_digest(order.weights, size))
    return spec


def _loss_message(values: Mapping[str, Any]) -> jobs_pb2.Loss:
    metrics = values["metrics"]
    return jobs_pb2.Loss(
        name=values["loss"] or "",
        metrics=metrics or (),
        no_metrics=metrics == [],
        output=values["output"] or "",
        class_axis=values["class_axis"],
        ignore_index=values["ignore_index"],
        label_smoothing=values["label_smoothing"],
        huber_delta=values["huber_delta"],
    )


def _input_format(values: Mapping[str, Any]) -> jobs_pb2.InputFormat | None:
    """Return what an order says of its data's values; None if it says nothing."""
    names = ("layout", "mean", "std", "scale")
    if all(values[name] is None for name in names):
        return None
    scale = values["scale"]
    return jobs_pb2.InputFormat(
        layout=values["layout"] or "",
        mean=values["mean"] or (),
        std=values["std"] or (),
        scale="" if scale is None else scale if isinstance(scale, str) else repr(scale),
    )


def _digest(sha256: str, size: Callable[[str], int]) -> blobs_pb2.Digest:
    return blobs_pb2.Digest(sha256=sha256, size=size(sha256))


def execution_of(order: Order) -> jobs_pb2.Execution:
    """Write how an order is to be computed.

    Args:
        order: The order.

    Returns:
        The message, of which `order_of` makes the same order.
    """
    return jobs_pb2.Execution(
        device=order.device, strategy=order.strategy or "", batch_size=order.batch_size or 0
    )


def blobs_of(spec: jobs_pb2.JobSpec) -> list[blobs_pb2.Digest]:
    """Return the blobs that a spec names itself, besides those of its model and data.

    Args:
        spec: The spec.

    Returns:
        Their digests.
    """
    found = list(spec.loss.graphs.values())
    if spec.directions.HasField("file"):
        found.append(spec.directions.file)
    if spec.HasField("weights"):
        found.append(spec.weights)
    return found
