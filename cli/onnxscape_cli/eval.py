"""`onnxscape eval`: from a model file to a surface and its pictures."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from onnxscape.core.direction import MAX_SEED, Ignore
from onnxscape.core.loss import CLAMPED, LABELS_OF
from onnxscape.core.normalization import Normalization
from onnxscape.core.samples import SUBSET
from onnxscape.errors import UsageError
from onnxscape.evaluation.arguments import make_grid
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_to_file
from onnxscape.plots import save_all
from onnxscape.runtime.strategies import STRATEGIES
from onnxscape_cli.exit_status import DONE, INTERRUPTED
from onnxscape_cli.fewer_options import fewer_options
from onnxscape_cli.model_options import model_options
from onnxscape_cli.sections import SectionedCommand, section
from onnxscape_cli.terminal import Terminal, duration

if TYPE_CHECKING:
    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.report import Report


def _numbers(
    _context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    """Read `0.5` or `0.4914,0.4822,0.4465`."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"expected --{parameter.name} as numbers with commas, one per channel, "
            f"got {text!r}"
        ) from None


def _samples(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> int | str | None:
    """Read a number, `all` or `auto`."""
    if text is None or text in {"all", "auto"}:
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"expected --samples as a number, 'all' or 'auto', got {text!r}"
        ) from None


_data = section("Data")
_direction = section("Directions")
_grid = section("Grid")
_loss = section("Loss")
_run = section("Running")
_output = section("Output")


@click.command("eval", cls=SectionedCommand)
@click.argument("model", type=click.Path(path_type=Path))
@_data(
    "--data",
    required=True,
    metavar="DATA",
    help="digits, cifar10, ..., a file, a folder, or module:function.",
)
@_data("--split", metavar="NAME", default="train", show_default=True, help="train or test.")
@_data(
    "--samples",
    metavar="N|all|auto",
    callback=_samples,
    help="How many to use; auto: see --stderr.  [default: 1000]",
)
@_data("--layout", metavar="NAME", help="Axes of images in the data: NCHW, NHWC or flat.")
@_data(
    "--scale",
    metavar="NUMBER|unit|raw",
    help="Divides the data; unit: 255, raw: 1.  [default: raw for files]",
)
@_data("--mean", metavar="NUMBERS", callback=_numbers, help="Per channel, subtracted next.")
@_data("--std", metavar="NUMBERS", callback=_numbers, help="Per channel, divides next.")
@_data("--data-dir", type=click.Path(path_type=Path), help="Where data known by name is kept.")
@_grid(
    "--grid",
    metavar="NxM|N",
    default="25x25",
    show_default=True,
    help="25x25 (plane) or 51 (line).",
)
@_grid(
    "--radius",
    metavar="NUMBER",
    default=1.0,
    show_default=True,
    help="Largest coordinate of --grid.",
)
@_grid("--x", metavar="MIN:MAX:NUM", help="Steps along delta, instead of --grid.")
@_grid("--y", metavar="MIN:MAX:NUM", help="Steps along eta; alone: a line along eta.")
@_loss(
    "--loss",
    metavar="NAME|FILE.onnx",
    help=f"{', '.join(LABELS_OF)}, or a graph.  [default: proposed from the output]",
)
@_loss(
    "--metric",
    metavar="NAME|FILE.onnx,...",
    help="accuracy, top5, error, or graphs.  [default: accuracy of classes]",
)
@_loss("--output", metavar="NAME", help="Output of the model that the loss is of.")
@_loss(
    "--class-axis", metavar="AXIS", type=int, help="Axis of that output that counts classes."
)
@_loss(
    "--ignore-index",
    metavar="LABEL",
    type=int,
    help="Label that does not count.  [default: -100]",
)
@_loss(
    "--label-smoothing",
    metavar="SHARE",
    type=float,
    default=0.0,
    help="Share of the uniform distribution in labels.",
)
@_loss(
    "--huber-delta",
    metavar="NUMBER",
    type=float,
    default=1.0,
    show_default=True,
    help="Where huber goes from square to straight.",
)
@_direction(
    "--seed",
    metavar="NUMBER",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    show_default=True,
    help="Of the random directions.",
)
@_direction(
    "--normalize",
    metavar="HOW",
    type=click.Choice([n.value for n in Normalization]),
    default="filter",
    show_default=True,
    help=f"{', '.join(n.value for n in Normalization)}.",
)
@_direction("--orthogonal", is_flag=True, help="Make eta orthogonal to delta.")
@_direction("--directions", type=click.Path(path_type=Path), help="Use those of this file.")
@_direction("--save-directions", type=click.Path(path_type=Path), help="Write them here.")
@model_options
@fewer_options
@_run(
    "--device",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, cuda:1 or openvino (Intel processors).",
)
@_run(
    "--provider",
    metavar="NAME",
    help="Any other execution provider of ONNX Runtime, instead of --device.",
)
@_run(
    "--threads", type=click.IntRange(1), metavar="N", help="On the CPU.  [default: all cores]"
)
@_run(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Points at a time, which share the threads.  [default: the fastest]",
)
@_run("--batch-size", type=click.IntRange(1), metavar="N", help="Samples per forward pass.")
@_run(
    "--strategy",
    metavar="NAME",
    type=click.Choice(list(STRATEGIES)),
    help=f"How weights are fed: {', '.join(STRATEGIES)}.",
)
@_run("--explain", is_flag=True, help="Say why it is run the way it is.")
@_output("--out", type=click.Path(path_type=Path), help="Surface file.  [default: MODEL.h5]")
@_output("--restart", is_flag=True, help="Throw away what --out holds.")
@_output("--store", type=click.Path(path_type=Path), help="Folder for finished points.")
@_output("--no-plot", is_flag=True, help="Draw no pictures.")
@_output("--quiet", is_flag=True, help="Only warnings and errors.")
@_output("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    model: Path,
    *,
    grid: str,
    radius: float,
    x: str | None,
    y: str | None,
    normalize: str,
    ignore: str,
    save_directions: Path | None,
    metric: str | None,
    out: Path | None,
    restart: bool,
    store: Path | None,
    no_plot: bool,
    quiet: bool,
    explain: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Evaluate the loss of MODEL around its weights.

    Steps alpha and beta along two random, filter-normalized directions are added to the
    weights, and the loss over the samples is computed at each point of the grid. Finished
    points are kept at once: after an interrupt the same command continues.
    """
    request = EvalRequest(
        model=model,
        grid=make_grid(grid, radius, x, y),
        normalization=Normalization(normalize),
        ignore=Ignore(ignore),
        metrics=None if metric is None else tuple(filter(None, metric.split(","))),
        **options,
    )
    path = out or Path(f"{model.stem}.h5")
    output = OutputOptions(
        path=path, restart=restart, store=store, save_directions=save_directions
    )
    terminal = Terminal(quiet=quiet, to_stderr=as_json, explain=explain)
    _warn_of_ignored_options(terminal)
    try:
        report = run_to_file(request, output, terminal)
    except EvaluationInterrupted as interrupt:
        terminal.close()
        _tell_of_interrupt(path, interrupt.report, restart=restart)
        if as_json:
            _print_json(path, interrupt.report, [], terminal.warnings)
        return INTERRUPTED
    finally:
        terminal.close()
    started = time.perf_counter()
    pictures = [] if no_plot else _draw(report.landscape, path, terminal)
    seconds = dict(report.seconds) | {"pictures": time.perf_counter() - started}
    report = replace(report, seconds=seconds)
    _summarize(path, report, pictures, terminal)
    if as_json:
        _print_json(path, report, pictures, terminal.warnings)
    return DONE


def _tell_of_interrupt(path: Path, report: Report, *, restart: bool) -> None:
    """Say what is kept, and how to go on."""
    finished = report.computed + report.reused
    how = "without --restart continues" if restart else "continues"
    kept = f"{finished} points are kept in {path}" if finished else "before the first point"
    click.echo(f"onnxscape: interrupted: {kept}; the same command {how}", err=True)


def _warn_of_ignored_options(terminal: Terminal) -> None:
    """Say which explicit options another one makes meaningless."""
    context = click.get_current_context()

    def given(*names: str) -> list[str]:
        explicit = click.core.ParameterSource.COMMANDLINE
        return [
            f"--{name.replace('_', '-')}"
            for name in names
            if context.get_parameter_source(name) is explicit
        ]

    for stronger, weaker in (
        (("x", "y"), ("grid", "radius")),
        (
            ("directions",),
            ("seed", "normalize", "ignore", "orthogonal", "include", "filter_axis"),
        ),
    ):
        if given(*stronger) and given(*weaker):
            without = given(*weaker)
            terminal.warning(
                f"{' and '.join(without)} {'has' if len(without) == 1 else 'have'} no effect "
                f"besides {' and '.join(given(*stronger))}"
            )


def _draw(landscape: Landscape, path: Path, terminal: Terminal) -> list[Path]:
    """Draw the pictures; a landscape that cannot be drawn is still a result."""
    try:
        return save_all(landscape, path.with_suffix(""))
    except UsageError as error:
        terminal.warning(f"no pictures: {error}")
        return []


def _summarize(path: Path, report: Report, pictures: list[Path], terminal: Terminal) -> None:
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
    if report.computed:
        seconds = report.seconds["evaluation"]
        rate = report.computed / max(seconds, 1e-9)
        terminal.note(
            f"time        {duration(seconds)} for {report.computed} points ({rate:.3g}/s)"
        )
    written = [*([path] if report.computed else []), *pictures]
    if written:
        terminal.note(f"wrote       {', '.join(map(str, written))}")


def _print_json(path: Path, report: Report, pictures: list[Path], warnings: list[str]) -> None:
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
    }
    click.echo(json.dumps(values, allow_nan=False))


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: null stands for them."""
    return float(value) if value is not None and math.isfinite(value) else None
