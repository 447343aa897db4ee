"""What is said of a landscape when it is there: in words, or as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from onnxscape.core.loss import CLAMPED
from onnxscape.core.samples import SUBSET
from onnxscape.errors import UsageError
from onnxscape.plots import save_all
from onnxscape_cli.terminal import Terminal, duration

if TYPE_CHECKING:
    from pathlib import Path

    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.report import Report


def draw(landscape: Landscape, path: Path, terminal: Terminal) -> list[Path]:
    """Draw the pictures; a landscape that cannot be drawn is still a result."""
    try:
        return save_all(landscape, path.with_suffix(""))
    except UsageError as error:
        terminal.warning(f"no pictures: {error}")
        return []


def summarize(
    path: Path, report: Report, pictures: list[Path], terminal: Terminal, *, wrote: bool
) -> None:
    """Say what there is to say when all is done."""
    landscape = report.landscape
    center = landscape.center
    if not math.isfinite(center.get("loss", math.nan)):
        terminal.warning(
            "the loss at the center is not finite: check the weights, the data and its scale"
        )
    text = f"center      loss {center.get('loss', math.nan):.4g}"
    for name, value in center.items():
        if name in {"accuracy", "top5", "error"}:
            text += f", {name} {value:.2%}".replace("%", " %")
        elif name not in {"loss", "loss_stderr", CLAMPED} and not name.startswith(SUBSET):
            text += f", {name} {value:.4g}"
    terminal.note(text)
    if center.get(CLAMPED):
        terminal.note(
            f"clamped     {center[CLAMPED]:.0f} of {landscape.provenance.get('samples', '?')} "
            "samples at the center: probability 0, taken as 1e-45"
        )
    loss = landscape.loss[landscape.known]
    finite = loss[[math.isfinite(value) for value in loss]]
    if finite.size:
        text = f"grid        loss {finite.min():.4g} to {finite.max():.4g}"
        if finite.size < loss.size:
            text += f"; {loss.size - finite.size} points are not finite"
        terminal.note(text)
    if landscape.interpolation is not None:
        terminal.note(f"points      {landscape.interpolation}")
    if report.computed and "evaluation" in report.seconds:
        seconds = report.seconds["evaluation"]
        rate = report.computed / max(seconds, 1e-9)
        terminal.note(
            f"time        {duration(seconds)} for {report.computed} points ({rate:.3g}/s)"
        )
    written = [*([path] if wrote else []), *pictures]
    if written:
        terminal.note(f"wrote       {', '.join(map(str, written))}")


def print_json(
    path: Path, report: Report, pictures: list[Path], warnings: list[str], **more: Any
) -> None:
    """Say the same for programs, on stdout."""
    landscape = report.landscape
    finite = landscape.loss[np.isfinite(landscape.loss)]
    interpolation = landscape.interpolation
    values: dict[str, Any] = {
        "out": str(path),
        "pictures": [str(picture) for picture in pictures],
        "complete": landscape.complete,
        "points": report.computed + report.reused,
        "points_computed": report.computed,
        "points_reused": report.reused,
        "points_not_finite": int(landscape.known.sum()) - finite.size,
        "interpolation": interpolation and interpolation.to_dict(),
        "loss_min": _finite(finite.min(initial=math.inf)),
        "loss_max": _finite(finite.max(initial=-math.inf)),
        "center_loss": _finite(landscape.center.get("loss")),
        "center_accuracy": _finite(landscape.center.get("accuracy")),
        "center": {name: _finite(value) for name, value in landscape.center.items()},
        "seconds": {phase: round(value, 6) for phase, value in report.seconds.items()},
        "warnings": warnings,
        "spec": None if landscape.spec is None else landscape.spec.to_dict(),
        "plan": None if landscape.plan is None else landscape.plan.to_dict(),
        **more,
    }
    click.echo(json.dumps(values, allow_nan=False))


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: null stands for them."""
    return float(value) if value is not None and math.isfinite(value) else None
