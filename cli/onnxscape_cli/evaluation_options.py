"""Options that say what to evaluate, alike for a run here and an order from a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onnxscape.core.direction import MAX_SEED, Ignore
from onnxscape.core.execution import STRATEGY_NAMES
from onnxscape.core.loss import LABELS_OF
from onnxscape.core.normalization import Normalization
from onnxscape.errors import UsageError
from onnxscape.evaluation.arguments import make_grid
from onnxscape.evaluation.request import EvalRequest
from onnxscape_cli.fewer_options import fewer_options
from onnxscape_cli.model_options import model_options
from onnxscape_cli.sections import section

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxscape_cli.terminal import Terminal

_Command = TypeVar("_Command", bound="Callable[..., Any]")


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

_OPTIONS = (
    _data(
        "--data",
        required=True,
        metavar="DATA",
        help="digits, cifar10, ..., a file, a folder, or module:function.",
    ),
    _data(
        "--split", metavar="NAME", default="train", show_default=True, help="train or test."
    ),
    _data(
        "--samples",
        metavar="N|all|auto",
        callback=_samples,
        help="How many to use; auto: see --stderr.  [default: 1000]",
    ),
    _data("--layout", metavar="NAME", help="Axes of images in the data: NCHW, NHWC or flat."),
    _data(
        "--scale",
        metavar="NUMBER|unit|raw",
        help="Divides the data; unit: 255, raw: 1.  [default: raw for files]",
    ),
    _data(
        "--mean", metavar="NUMBERS", callback=_numbers, help="Per channel, subtracted next."
    ),
    _data("--std", metavar="NUMBERS", callback=_numbers, help="Per channel, divides next."),
    _data(
        "--data-dir", type=click.Path(path_type=Path), help="Where data known by name is kept."
    ),
    _grid(
        "--grid",
        metavar="NxM|N",
        default="25x25",
        show_default=True,
        help="25x25 (plane) or 51 (line).",
    ),
    _grid(
        "--radius",
        metavar="NUMBER",
        default=1.0,
        show_default=True,
        help="Largest coordinate of --grid.",
    ),
    _grid("--x", metavar="MIN:MAX:NUM", help="Steps along delta, instead of --grid."),
    _grid("--y", metavar="MIN:MAX:NUM", help="Steps along eta; alone: a line along eta."),
    _loss(
        "--loss",
        metavar="NAME|FILE.onnx",
        help=f"{', '.join(LABELS_OF)}, or a graph.  [default: proposed from the output]",
    ),
    _loss(
        "--metric",
        metavar="NAME|FILE.onnx,...",
        help="accuracy, top5, error, or graphs.  [default: accuracy of classes]",
    ),
    _loss("--output", metavar="NAME", help="Output of the model that the loss is of."),
    _loss(
        "--class-axis",
        metavar="AXIS",
        type=int,
        help="Axis of that output that counts classes.",
    ),
    _loss(
        "--ignore-index",
        metavar="LABEL",
        type=int,
        help="Label that does not count.  [default: -100]",
    ),
    _loss(
        "--label-smoothing",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="Share of the uniform distribution in labels.",
    ),
    _loss(
        "--huber-delta",
        metavar="NUMBER",
        type=float,
        default=1.0,
        show_default=True,
        help="Where huber goes from square to straight.",
    ),
    _direction(
        "--seed",
        metavar="NUMBER",
        type=click.IntRange(0, MAX_SEED),
        default=0,
        show_default=True,
        help="Of the random directions.",
    ),
    _direction(
        "--normalize",
        metavar="HOW",
        type=click.Choice([n.value for n in Normalization]),
        default="filter",
        show_default=True,
        help=f"{', '.join(n.value for n in Normalization)}.",
    ),
    _direction("--orthogonal", is_flag=True, help="Make eta orthogonal to delta."),
    _direction(
        "--directions", type=click.Path(path_type=Path), help="Use those of this file."
    ),
    model_options,
    fewer_options,
    _run(
        "--device",
        metavar="NAME",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda, cuda:1 or openvino (Intel processors).",
    ),
    _run(
        "--batch-size", type=click.IntRange(1), metavar="N", help="Samples per forward pass."
    ),
    _run(
        "--strategy",
        metavar="NAME",
        type=click.Choice(STRATEGY_NAMES),
        help=f"How weights are fed: {', '.join(STRATEGY_NAMES)}.",
    ),
)


def evaluation_options(command: _Command) -> _Command:
    """Add the argument MODEL and the options that a request is made of."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("model", type=click.Path(path_type=Path))(command)


def make_request(
    model: Path,
    *,
    grid: str,
    radius: float,
    x: str | None,
    y: str | None,
    normalize: str,
    ignore: str,
    metric: str | None,
    **options: Any,
) -> EvalRequest:
    """Make a request of these options, and of further ones that are fields of it."""
    return EvalRequest(
        model=model,
        grid=make_grid(grid, radius, x, y),
        normalization=Normalization(normalize),
        ignore=Ignore(ignore),
        metrics=None if metric is None else tuple(filter(None, metric.split(","))),
        **options,
    )


def given(*names: str) -> list[str]:
    """Return those of some options that stand on the command line, as users write them."""
    context = click.get_current_context()
    explicit = click.core.ParameterSource.COMMANDLINE
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if context.get_parameter_source(name) is explicit
    ]


def warn_of_ignored_options(terminal: Terminal) -> None:
    """Say which explicit options another one makes meaningless."""
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
