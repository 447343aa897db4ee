"""The loss and metrics of a run: named or proposed, and checked against output and labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import (
    ACCURACY,
    CLAMPED,
    CUSTOM,
    IGNORE_INDEX,
    Labels,
    Loss,
    class_axes,
    is_clamped,
    labels_of,
    metrics_of,
    of_samples,
)
from onnxscape.errors import DataError, UnsupportedModelError, UsageError
from onnxscape.evaluation.custom_checks import check_custom
from onnxscape.evaluation.probe import check_per_batch
from onnxscape.evaluation.request import is_file
from onnxscape.evaluation.score_checks import check_classes, check_scores, check_values
from onnxscape.graph.heads import labels_input, read_custom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.probe import Probe
    from onnxscape.evaluation.request import EvalRequest
    from onnxscape.graph.model_file import ModelFile

_RESERVED = frozenset(
    {"loss", "loss_stderr", "samples_used", "evaluated", "xcoordinates", "ycoordinates"}
)
"""Arrays of a surface file that no metric may be called like."""


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What is computed from a model's outputs.

    Attributes:
        loss: The loss and its metrics.
        custom: Graphs by the name of the metric, or `loss`.
        spec: The fields of the spec that it defines.
        text: For people.
    """

    loss: Loss
    custom: Mapping[str, ModelFile]
    spec: Mapping[str, Any]
    text: str


def custom_files(request: EvalRequest) -> dict[str, ModelFile]:
    """Read the losses and metrics that are given as graphs.

    Args:
        request: The request.

    Returns:
        Graphs by the name of the metric, or `loss`.

    Raises:
        UsageError: If two metrics would have one name.
        OnnxscapeError: If a file cannot be read or used.
    """
    found: dict[str, ModelFile] = {}
    if request.loss is not None and is_file(request.loss):
        found["loss"] = _custom(request, request.loss)
    for path in filter(is_file, request.metrics or ()):
        name = re.sub(r"\W", "_", Path(path).stem, flags=re.ASCII).lstrip("_")
        if name != "loss" and name in found:
            raise UsageError(
                f"two metrics would be called {name!r} in the surface, the second of them "
                f"{path}; rename one of the files"
            )
        taken = {*_RESERVED, *found, CLAMPED, *metrics_of("cross-entropy")}
        if not name or name in taken or name.endswith(("_loss", "_acc")):
            raise UsageError(
                f"the metric {path} would be called {name!r} in the surface, which has "
                "another meaning there; rename the file"
            )
        found[name] = _custom(request, path)
    return found


def _custom(request: EvalRequest, name: str) -> ModelFile:
    """Return a graph that comes with the request, or is a file."""
    content = request.graphs.get(name)
    return read_custom(name if content is None else content, name)


def ignored_label(request: EvalRequest) -> int:
    """Return the class number of positions that do not count.

    Args:
        request: The request.
    """
    return IGNORE_INDEX if request.ignore_index is None else request.ignore_index


def wanted_labels(
    name: str, probe: Probe, request: EvalRequest, custom: Mapping[str, ModelFile]
) -> dict[str, Any]:
    """Return what `prepare_samples` must know of a loss.

    Args:
        name: The loss.
        probe: The model's outputs for a few samples.
        request: The request.
        custom: From `custom_files`.

    Returns:
        Arguments of `prepare_samples`.

    Raises:
        UsageError: If an option does not go with the loss.
        UnsupportedModelError: If the output has no classes.
    """
    kind = labels_of(name)
    options = {
        "class-axis": request.class_axis is not None and kind is not Labels.CLASSES,
        "ignore-index": request.ignore_index is not None and kind is not Labels.CLASSES,
        "label-smoothing": request.label_smoothing != 0.0
        and name not in {"cross-entropy", "next-token"},
        "huber-delta": request.huber_delta != 1.0 and name != "huber",
    }
    for option, wrong in options.items():
        if wrong:
            raise UsageError(
                f"--{option} means nothing for the loss {_called(name, request)}; leave it out"
            )
    if kind is Labels.NONE and any(
        labels_input(f, tuple(probe.others)) for f in custom.values()
    ):
        return {"labels": Labels.ANY}  # for a metric
    if kind is not Labels.CLASSES:
        return {"labels": kind}
    shape = probe.values.shape
    if len(shape) < 2 or max(shape[1:]) < 2:
        raise UnsupportedModelError(
            f"{name} needs scores of classes, such as [batch, classes]; the output "
            f"{probe.output!r} is {of_samples(shape[1:])}; for regression use --loss mse, for "
            "two classes in one number bce or bce-with-logits"
        )
    wanted = {"labels": kind, "ignore_index": ignored_label(request)}
    if name == "next-token":
        return wanted | {"next_token": True}
    labels = probe.samples.labels
    axes = [] if labels is None else class_axes(shape, labels.shape)
    if request.class_axis is not None:
        axes = [_checked_axis(request.class_axis, probe)]
    if not axes and len(shape) == 2:
        axes = [1]  # the only one: the labels are what does not fit
    if len(axes) == 1:
        rest = [size for at, size in enumerate(shape) if at not in {0, axes[0]} and size > 1]
        wanted |= {"classes": shape[axes[0]], "positions": len(rest)}
    return wanted


def make_objective(
    request: EvalRequest,
    name: str,
    probe: Probe,
    samples: Samples,
    custom: Mapping[str, ModelFile],
    *,
    reason: str | None,
    default_output: str | None,
    batch: int | None,
    observer: Observer,
) -> Objective:
    """Put the loss together and check that it makes sense of output and labels.

    Args:
        request: The request.
        name: The loss.
        probe: The model's outputs for a few samples.
        samples: All samples, with the labels that the loss takes.
        custom: From `custom_files`.
        reason: Why it was proposed; None if the user named it.
        default_output: The output that is taken where none is named; None if it takes the
            user to tell.
        batch: Batch size that the model demands; None if it takes any.
        observer: Told of what is odd.

    Returns:
        The objective.

    Raises:
        DataError: If the labels do not fit.
        UsageError: If the loss or a metric does not.
        UnsupportedModelError: If a custom graph does not.
    """
    loss = Loss(
        name=name,
        output=probe.output,
        shape=probe.shape,
        ignore_index=ignored_label(request),
        label_smoothing=request.label_smoothing,
        huber_delta=request.huber_delta,
        per_batch=probe.per_batch and name == "none",
        label_type=None if samples.labels is None else samples.labels.dtype,
        metrics=_metrics(request, name, custom),
    )
    found_axis = None
    if labels_of(name) is Labels.CLASSES:
        axis, found_axis = _class_axis(request, probe, samples)
        loss = replace(loss, class_axis=axis)
    _check(loss, probe, samples, batch, observer)
    for metric, file in custom.items():
        check_custom(metric, file, probe, samples)
    spec = _spec(loss, custom) | {
        "output": None if probe.output == default_output else probe.output,
        "class_axis": None if loss.class_axis == found_axis else loss.class_axis,
    }
    return Objective(
        loss, custom, spec, _text(loss, request, reason, _read(loss, probe, custom))
    )


def _check(
    loss: Loss, probe: Probe, samples: Samples, batch: int | None, observer: Observer
) -> None:
    """Check a built-in loss against output and labels.

    Raises:
        DataError: If the labels do not fit.
        UsageError: If the loss does not.
        UnsupportedModelError: If the output is one number for a whole batch, and may not be.
    """
    kind = labels_of(loss.name)
    if kind is Labels.CLASSES:
        check_classes(loss, samples)
        check_scores(loss, probe, observer)
    elif kind is Labels.VALUES:
        check_values(loss, probe, samples, observer)
    if loss.name == "none":
        check_per_batch(probe, samples, batch, observer)
    elif probe.per_batch and kind is not Labels.ANY:
        raise UnsupportedModelError(
            f"the output {probe.output!r} is one number for a whole batch: it can only be the "
            "loss itself, --loss none"
        )


def _spec(loss: Loss, custom: Mapping[str, ModelFile]) -> dict[str, Any]:
    """Return the fields of the spec that a loss alone defines."""
    digests = {metric: file.digest for metric, file in custom.items()}
    return {
        "loss": loss.name,
        "metrics": loss.metrics,
        "ignore_index": loss.ignore_index,
        "label_smoothing": loss.label_smoothing,
        "huber_delta": loss.huber_delta,
        "loss_file": digests.pop("loss", None),
        "metric_files": digests,
    }


def _read(loss: Loss, probe: Probe, custom: Mapping[str, ModelFile]) -> str:
    """Return the outputs that a loss is computed from, with their shapes, for people."""
    shapes = {loss.output: loss.shape}
    if loss.name == CUSTOM:
        asked = [signature.name for signature in custom["loss"].inputs]
        shapes = {n: probe.others[n].shape[1:] for n in asked if n in probe.others} or shapes
    return " and ".join(
        f"{name!r} {'[]' if loss.per_batch else of_samples(shape)}"
        for name, shape in shapes.items()
    )


def _metrics(
    request: EvalRequest, name: str, custom: Mapping[str, ModelFile]
) -> tuple[str, ...]:
    """Return the metrics besides the loss, built-in ones first.

    Raises:
        UsageError: If the loss does not have one of them.
    """
    available = metrics_of(name)
    always = (CLAMPED,) if is_clamped(name) else ()
    wanted = {ACCURACY} if request.metrics is None else set(request.metrics)
    unknown = sorted(m for m in wanted - {*available, *always} if not is_file(m))
    if unknown and request.metrics is not None:
        expected = f"--metric from {', '.join(available)}, or" if available else "--metric as"
        raise UsageError(
            f"expected {expected} a file such as metric.onnx with the loss "
            f"{_called(name, request)}, got {', '.join(unknown)}"
        )
    own = tuple(metric for metric in available if metric in wanted)
    return (*own, *always, *(metric for metric in custom if metric != "loss"))


def _checked_axis(axis: int, probe: Probe) -> int:
    rank = probe.values.ndim
    normal = axis + rank if axis < 0 else axis
    if not 1 <= normal < rank or probe.values.shape[normal] < 2:
        raise UsageError(
            f"expected --class-axis to be an axis of two or more classes, got {axis} for the "
            f"output {probe.output!r} {of_samples(probe.values.shape[1:])}"
        )
    return normal


def _class_axis(
    request: EvalRequest, probe: Probe, samples: Samples
) -> tuple[int, int | None]:
    """Return the axis that counts classes, and the one that is found without being told.

    Raises:
        UsageError: If it takes the user to tell.
        DataError: If the labels fit none.
    """
    shape = probe.values.shape
    labels = np.asarray(samples.labels).shape
    axes = class_axes(shape, labels)
    found = axes[0] if len(axes) == 1 else None
    described = (
        f"the output {probe.output!r} {of_samples(shape[1:])} and labels "
        f"{of_samples(labels[1:])}"
    )
    if request.class_axis is not None:
        axis = _checked_axis(request.class_axis, probe)
        rest = [size for at, size in enumerate(shape) if at not in {0, axis}]
        if np.prod(rest) != np.prod(labels[1:]):
            raise DataError(
                f"with --class-axis {axis} every sample needs {rest} labels; got {described}"
            )
        return axis, found
    if found is None and axes:
        raise UsageError(
            f"any of the axes {', '.join(map(str, axes))} may count classes, given "
            f"{described}; say which one by --class-axis"
        )
    if found is None:
        raise DataError(
            f"expected labels shaped like the output without its axis of classes, got "
            f"{described}: one label per sample, or per position of a sample"
        )
    return found, found


def _text(loss: Loss, request: EvalRequest, reason: str | None, read: str) -> str:
    options = {
        "class axis": request.class_axis,
        "ignore index": request.ignore_index,
        "label smoothing": request.label_smoothing or None,
        "delta": None if loss.huber_delta == 1.0 else loss.huber_delta,
    }
    said = "".join(f", {key} {value}" for key, value in options.items() if value is not None)
    metrics = ", ".join(metric for metric in loss.metrics if metric != CLAMPED)
    text = f"{_called(loss.name, request)} of {read}{said}"
    text += f" (proposed: {reason})" if reason else ""
    return text + (f"; {metrics}" if metrics else "")


def _called(name: str, request: EvalRequest) -> str:
    """Return what people call a loss: the file's name if it is given as a graph."""
    return Path(request.loss).name if name == CUSTOM and request.loss else name
