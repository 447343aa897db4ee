"""Selection: which parameters a direction moves, and why; the user's word on it."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from onnxscape.core.filters import FilterLayout, Reshape
from onnxscape.core.parameter import Choice, Parameter, Role
from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from onnxscape.core.direction import Ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the user says about single tensors.

    Attributes:
        include: Patterns of names to move whatever the role; an asterisk stands for any text.
        exclude: Patterns of names to leave alone; they win over `include`.
        filter_axis: Name to the axis that counts the filters of a tensor; may be negative.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter_axis: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spare:
    """How a tensor moves that is no weight, once the user includes it.

    Attributes:
        noise_key: Number of its noise stream.
        layout: How its elements form filters, where its operator has filters there; None for
            filters along the first axis, as in the reference implementation.
        filter_axis: Axis of the tensor that counts those of the layout, as in `Parameter`.
        signs: float64 [filters], as in `Parameter`.
    """

    noise_key: int
    layout: FilterLayout | None = None
    filter_axis: int | None = None
    signs: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a parameter is moved.

    Attributes:
        perturbed: Whether a random direction moves it.
        reason: Why, in a few words.
    """

    perturbed: bool
    reason: str


def perturbed(parameter: Parameter, ignore: Ignore) -> Verdict:
    """Tell whether a random direction moves a parameter.

    Args:
        parameter: The parameter.
        ignore: Which parameters the direction leaves alone.

    Returns:
        The verdict.
    """
    match parameter.choice, parameter.role:
        case Choice.EXCLUDED, _:
            verdict = False, f"excluded by --exclude {parameter.pattern!r}"
        case Choice.INCLUDED, _:
            verdict = True, f"included by --include {parameter.pattern!r}"
        case _, Role.WEIGHT:
            verdict = True, f"weight of {parameter.op}"
        case _, Role.STATISTIC:
            verdict = False, "running statistic: never moved"
        case _, Role.CONSTANT:
            what = parameter.fixed or "not known to be trained"
            verdict = False, f"constant of {parameter.op}: {what}; --include moves it"
        case _, role if ignore == "none":
            verdict = True, f"{role}: moved by --ignore none"
        case _, role:
            verdict = False, f"{role}: --ignore none moves it"
    return Verdict(*verdict)


def overridden(
    parameters: Sequence[Parameter], spares: Mapping[str, Spare], overrides: Overrides
) -> tuple[Parameter, ...]:
    """Apply the user's word to the parameters.

    Args:
        parameters: What was found in the model.
        spares: Name of each tensor that is neither weight nor statistic to how it moves if it
            is included.
        overrides: What the user says.

    Returns:
        The parameters in the same order.

    Raises:
        UsageError: If a pattern or a name matches nothing, if what it matches cannot be moved,
            or if there is no such axis.
    """
    included = _matched("include", overrides.include, parameters)
    excluded = _matched("exclude", overrides.exclude, parameters)
    _refuse_statistics(overrides.include, parameters)
    result = []
    for parameter in parameters:
        name = parameter.name
        if name in excluded:
            parameter = replace(parameter, choice=Choice.EXCLUDED, pattern=excluded[name])  # noqa: PLW2901
        elif name in included and parameter.role not in {Role.WEIGHT, Role.STATISTIC}:
            parameter = _included(parameter, included[name], spares[name])  # noqa: PLW2901
        result.append(parameter)
    axes = dict(overrides.filter_axis)
    _refuse_unknown("--filter-axis", axes, [p.name for p in parameters])
    return tuple(_along_axis(p, axes[p.name]) if p.name in axes else p for p in result)


def _matches(name: str, pattern: str) -> bool:
    # Names may hold brackets, which mean something in a pattern.
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _matched(
    option: str, patterns: Iterable[str], parameters: Sequence[Parameter]
) -> dict[str, str]:
    """Return name to the first pattern that matches it.

    Raises:
        UsageError: If a pattern matches nothing.
    """
    names = [p.name for p in parameters]
    found: dict[str, str] = {}
    for pattern in patterns:
        hits = [name for name in names if _matches(name, pattern)]
        if not hits:
            _refuse_unknown(f"--{option}", [pattern], names)
        for name in hits:
            found.setdefault(name, pattern)
    return found


def _refuse_unknown(option: str, wanted: Iterable[str], names: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:5]
            raise UsageError(
                f"{option} {name!r} matches no float tensor of the model; near it are "
                f"{', '.join(map(repr, near)) or 'none'} ({len(names)} in all)"
            )


def _refuse_statistics(patterns: Iterable[str], parameters: Sequence[Parameter]) -> None:
    """Let patterns touch statistics, which stay, but not ask for nothing else.

    Raises:
        UsageError: If one does.
    """
    for pattern in patterns:
        hits = [p for p in parameters if _matches(p.name, pattern)]
        if all(p.role is Role.STATISTIC for p in hits):
            raise UsageError(
                f"--include {pattern!r} asks for {hits[0].name!r}, a running statistic: moved "
                "along a random direction a variance becomes negative; statistics never move"
            )


def _included(parameter: Parameter, pattern: str, spare: Spare) -> Parameter:
    """Return the tensor as one that moves like a weight."""
    parameter = replace(
        parameter, choice=Choice.INCLUDED, pattern=pattern, noise_key=spare.noise_key
    )
    if spare.layout is not None:
        return replace(
            parameter,
            layout=spare.layout,
            filter_axis=spare.filter_axis,
            signs=spare.signs,
        )
    shape = parameter.shape
    if len(shape) < 2:
        return replace(parameter, layout=_one_filter(parameter), filter_axis=None)
    return replace(parameter, layout=FilterLayout.along(shape, (0,)), filter_axis=0)


def _one_filter(parameter: Parameter) -> FilterLayout:
    return FilterLayout(parameter.shape, (Reshape((1, parameter.values.size)),))


def _along_axis(parameter: Parameter, axis: int) -> Parameter:
    name, rank = parameter.name, len(parameter.shape)
    if parameter.layout is None:
        hint = "" if parameter.role is Role.STATISTIC else f"; add --include {name!r}"
        raise UsageError(
            f"--filter-axis {name!r} means nothing: it is a {parameter.role} of "
            f"{parameter.op}, which has no filters{hint}"
        )
    if not -rank <= axis < rank:
        raise UsageError(
            f"expected --filter-axis {name!r} from {-rank} to {rank - 1}, got {axis}: its "
            f"shape is {list(parameter.shape)}"
        )
    layout = FilterLayout.along(parameter.shape, (axis,))
    if parameter.filter_axis == axis % rank and layout.filters == parameter.layout.filters:
        return parameter
    return replace(parameter, filter_axis=axis % rank, layout=layout, signs=None)
