"""The words of a figure: axis labels, headings, notes."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.core.landscape import Landscape
    from onnxscape.core.spec import EvalSpec

_KINDS_OF_DIRECTION = {
    "filter": "filter-normalized direction {}",
    "layer": "layer-normalized direction {}",
    "weight": "weight-normalized direction {}",
    "dfilter": "direction {}, filters of norm 1",
    "dlayer": "direction {}, layers of norm 1",
    "none": "direction {}, not normalized",
}


@dataclass(frozen=True, slots=True)
class Heading:
    """The text above a picture.

    Attributes:
        name: Lines that name the model, or the user's own title.
        details: Lines about data, center and missing points.
    """

    name: tuple[str, ...]
    details: tuple[str, ...]


def is_percent(metric: str) -> bool:
    """Return whether a metric is a fraction that people read in percent.

    Args:
        metric: Name, e.g. `accuracy` or `top5`.
    """
    return metric == "accuracy" or re.fullmatch(r"top\d+", metric) is not None


def metric_label(metric: str) -> str:
    """Return the text beside an axis of a metric, with its unit.

    Args:
        metric: Name, e.g. `loss` or `accuracy`.
    """
    words = "standard error of the loss" if metric == "loss_stderr" else metric
    return f"{words} (%)" if is_percent(metric) else words.replace("_", " ")


def axis_label(axis: str, spec: EvalSpec | None) -> str:
    """Return the text beside an axis of steps.

    Args:
        axis: `x` for alpha along delta, `y` for beta along eta.
        spec: Says how the direction was normalized; unknown if None.

    Returns:
        For instance `α  (filter-normalized direction δ)`.
    """
    step, direction = {"x": ("α", "δ"), "y": ("β", "η")}[axis]
    if spec is None:
        return step
    if spec.directions is not None or spec.normalization is None:
        return f"{step}  (direction {direction} from a file)"
    return f"{step}  ({_KINDS_OF_DIRECTION[str(spec.normalization)].format(direction)})"


def split_of(landscape: Landscape) -> str | None:
    """Return `train` or `test` if the name of the data says so.

    Args:
        landscape: Its provenance names the data, e.g. `cifar10 test`.
    """
    words = re.split(r"[^a-z]+", str(landscape.provenance.get("data", "")).lower())
    found = [word for word in ("train", "test") if word in words]
    return found[0] if len(found) == 1 else None


def heading(
    landscape: Landscape,
    metric: str,
    *,
    title: str | None = None,
    name_width: int = 50,
    width: int = 60,
) -> Heading:
    """Return the text above a picture of a landscape.

    Args:
        landscape: What is drawn.
        metric: Which of its surfaces.
        title: Instead of the model's name; an empty one leaves out everything but a note
            that points are missing or interpolated.
        name_width: Most characters in a line of the name.
        width: Most characters in a line of the details.

    Returns:
        Lines no longer than the widths.
    """
    name = str(landscape.provenance.get("model", "")) if title is None else title
    details = [] if title == "" else _fill(_facts(landscape, metric), width)
    done, size = int(landscape.evaluated.sum()), landscape.evaluated.size
    if landscape.complete and done < size:
        record = landscape.interpolation
        if record is None or record.samples is None:
            details.append(f"{done} of {size} points evaluated, the others interpolated")
        else:
            details.append(f"{done} of {size} points on all samples, the others estimated")
    if not landscape.complete:
        details.append(f"incomplete: {done} of {size} points")
    return Heading(name=tuple(wrap(name, name_width)), details=tuple(details))


def joined(headings: Sequence[Heading]) -> Heading:
    """Return one heading for landscapes of one model that share a panel.

    Args:
        headings: Theirs, at least one.

    Returns:
        The first name, and the details of all.
    """
    details = [line for each in headings for line in each.details]
    return Heading(name=headings[0].name, details=tuple(details))


def wrap(text: str, width: int, lines: int = 2) -> list[str]:
    """Break a text into lines; what does not fit is left out in the middle.

    Args:
        text: Any text; white space is made single.
        width: Most characters in a line.
        lines: Most lines.

    Returns:
        At most `lines` lines of at most `width` characters.
    """
    text = shorten(" ".join(text.split()), width * lines)
    wrapped = textwrap.wrap(text, width)
    if len(wrapped) > lines:  # words left lines half empty: break anywhere instead
        wrapped = [text[k : k + width].strip() for k in range(0, len(text), width)]
    return wrapped


def shorten(text: str, width: int) -> str:
    """Leave out the middle of a text that is too long: names differ at their ends.

    Args:
        text: Any text.
        width: Most characters, at least 3.

    Returns:
        At most `width` characters.
    """
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def count(number: int, what: str) -> str:
    """Return `1 point`, `2 points`.

    Args:
        number: How many.
        what: Of what, in the singular.
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _facts(landscape: Landscape, metric: str) -> list[str]:
    facts = []
    if data := " ".join(str(landscape.provenance.get("data", "")).split()):
        facts.append(shorten(data, 40))
    samples = landscape.provenance.get("samples")
    if landscape.spec is not None:
        samples = landscape.spec.samples
    used = landscape.surfaces.get("samples_used")
    if used is not None and landscape.evaluated.any():
        low, high = (int(f(used[landscape.evaluated])) for f in (np.min, np.max))
        facts.append(f"{low} to {high} samples" if low < high else count(low, "sample"))
    elif isinstance(samples, int):
        facts.append(count(samples, "sample"))
    center = [
        f"{name} {_reading(name, landscape.center[name])}"
        for name in dict.fromkeys(("loss", "accuracy", metric))
        if name in landscape.center
    ]
    if center:
        facts.append("center: " + center[0])
        facts += center[1:]
    return facts


def _reading(metric: str, value: float) -> str:
    text = f"{100 * value:.1f} %" if is_percent(metric) else f"{value:.4g}"
    return text.replace("-", "−", 1) if value < 0 else text


def _fill(facts: list[str], width: int) -> list[str]:
    """Return facts joined by commas into lines, broken between facts where possible."""
    lines: list[str] = []
    for k, fact in enumerate(facts):
        text = fact + ("," if k + 1 < len(facts) else "")
        if lines and len(lines[-1]) + 1 + len(text) <= width:
            lines[-1] += " " + text
        else:
            lines.append(shorten(text, width))
    return lines
