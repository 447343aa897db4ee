"""Directions of an evaluation: drawn at random, or read from a file and matched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.direction import Direction, direction_type, random_direction
from onnxscape.core.parameter import TRAINABLE, Choice, Parameter, Role
from onnxscape.core.selection import perturbed
from onnxscape.errors import DirectionError, NoParametersError, UsageError
from onnxscape.storage import load_directions, save_directions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscape.core.direction import Ignore
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest
    from onnxscape.storage import StoredTensor

_NORM_TOLERANCE = 0.05
"""How far a direction's norm may be from the weights' before it is worth a warning."""


def make_directions(
    parameters: Sequence[Parameter],
    request: EvalRequest,
    observer: Observer,
) -> tuple[Direction | None, Direction | None]:
    """Make the directions that a request asks for.

    Args:
        parameters: The model's parameters, of which some move: see `refuse_nothing`.
        request: The request.
        observer: Told what is odd about a file's directions.

    Returns:
        delta and eta; None for an axis that the grid does not have.

    Raises:
        DirectionError: If the file cannot be read or does not fit.
    """
    if request.directions is None:
        delta = _random(parameters, request, 0, None)
        eta = _random(parameters, request, 1, delta if request.orthogonal else None)
        return (
            None if request.grid.x is None else delta,
            None if request.grid.y is None else eta,
        )
    file = load_directions(Path(request.directions))
    found: list[Direction | None] = []
    for group, axis, stored in (
        ("xdirection", request.grid.x, file.x),
        ("ydirection", request.grid.y, file.y),
    ):
        if axis is None:
            found.append(None)
            continue
        if stored is None:
            raise DirectionError(
                f"{request.directions} has no group {group}, which this grid needs; "
                "ask for a line along the other axis, or add it"
            )
        where = f"{group} of {request.directions}"
        direction = match_direction(stored, parameters, where)
        _warn_about_norms(direction, parameters, where, observer)
        found.append(direction)
    return found[0], found[1]


def refuse_nothing(
    parameters: Sequence[Parameter], ignore: Ignore, warnings: Sequence[str] = ()
) -> None:
    """Refuse a model without anything that moves at random.

    Args:
        parameters: The model's parameters.
        ignore: Which of them directions leave alone.
        warnings: What was found odd about the model: it may be why nothing moves.

    Raises:
        NoParametersError: If there is nothing.
        UsageError: If the user excluded it all.
    """
    if any(p.layout is not None and perturbed(p, ignore).perturbed for p in parameters):
        return
    if any(p.role is Role.WEIGHT for p in parameters):
        raise UsageError("nothing to move: --exclude matches all weights of the model")
    tensors = [f"{p.name} ({perturbed(p, ignore).reason})" for p in parameters]
    reasons = [
        "nothing to move: no operator of the model has a weight that can be moved",
        *warnings,
        f"its float tensors: {_listed(tensors) or 'none'}",
    ]
    raise NoParametersError("; ".join(reasons))


def _random(
    parameters: Sequence[Parameter],
    request: EvalRequest,
    axis: int,
    orthogonal_to: Direction | None,
) -> Direction:
    return random_direction(
        parameters,
        seed=request.seed,
        axis=axis,
        normalization=request.normalization,
        ignore=request.ignore,
        orthogonal_to=orthogonal_to,
    )


def match_direction(
    stored: Sequence[StoredTensor], parameters: Sequence[Parameter], where: str
) -> Direction:
    """Match the tensors of a direction file to a model's parameters.

    What the user excludes stays.

    By name where all have one. Else the k-th tensor belongs to the k-th trainable parameter
    in file order if all shapes agree (as torch's `net.parameters()` has them); else those of
    two and more dimensions belong to the weights in canonical order, provided that all others
    are zero.

    Args:
        stored: The tensors.
        parameters: The model's parameters in file order.
        where: Group and file, for messages.

    Returns:
        The direction: what is not zero.

    Raises:
        DirectionError: If they cannot be matched.
    """
    if all(tensor.name is not None for tensor in stored):
        pairs = _by_name(stored, parameters, where)
    else:
        pairs = _by_order(stored, parameters, where)
    tensors = {
        parameter.name: values.astype(direction_type(parameter))
        for parameter, values in pairs
        if np.any(values) and parameter.choice is not Choice.EXCLUDED
    }
    if not tensors:
        raise DirectionError(f"{where} is zero everywhere it may move: it leads nowhere")
    return Direction(tensors)


Pairs = list[tuple[Parameter, "NDArray[np.floating]"]]


def _by_name(
    stored: Sequence[StoredTensor], parameters: Sequence[Parameter], where: str
) -> Pairs:
    trainable = {p.name: p for p in parameters if p.role is not Role.STATISTIC}
    pairs = []
    for tensor in stored:
        parameter = trainable.get(str(tensor.name))
        if parameter is None:
            if not np.any(tensor.array):
                continue  # an export may have folded it away, and it does not move
            raise DirectionError(
                f"{where} moves {tensor.name!r}, but the model has no trainable parameter of "
                f"that name; it has {_listed(list(trainable))}"
            )
        if tensor.array.shape != parameter.shape:
            raise DirectionError(
                f"{where}: {tensor.name!r} has shape {list(tensor.array.shape)}, the model's "
                f"{list(parameter.shape)}"
            )
        pairs.append((parameter, tensor.array))
    return pairs


def _by_order(
    stored: Sequence[StoredTensor], parameters: Sequence[Parameter], where: str
) -> Pairs:
    trainable = [p for p in parameters if p.role in TRAINABLE]
    weights = sorted(
        (p for p in parameters if p.role is Role.WEIGHT), key=lambda p: p.noise_key or 0
    )
    large = [tensor for tensor in stored if tensor.array.ndim > 1]
    rest_is_zero = not any(np.any(t.array) for t in stored if t.array.ndim <= 1)
    candidates = [(stored, trainable)] + ([(large, weights)] if rest_is_zero else [])
    for tensors, targets in candidates:
        if [t.array.shape for t in tensors] == [p.shape for p in targets]:
            return [(p, t.array) for t, p in zip(tensors, targets, strict=True)]
    raise DirectionError(
        f"{where} does not fit the model: its tensors are "
        f"{_listed([str(list(t.array.shape)) for t in stored])}; the model's parameters are "
        f"{_listed([f'{p.name} {list(p.shape)}' for p in trainable])}"
    )


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(items[:24])
    return f"{shown}, … ({len(items)} in all)" if len(items) > 24 else shown


def _warn_about_norms(
    direction: Direction, parameters: Sequence[Parameter], where: str, observer: Observer
) -> None:
    odd = []
    for p in parameters:
        if p.role is not Role.WEIGHT or p.name not in direction.tensors:
            continue
        weight = float(np.linalg.norm(p.values.astype(np.float64)))
        step = float(np.linalg.norm(direction.tensors[p.name].astype(np.float64)))
        if abs(step - weight) > _NORM_TOLERANCE * weight:
            odd.append(f"{p.name} ({step:.3g}, its weight {weight:.3g})")
    if odd:
        observer.warning(
            f"{where}: norms unlike the weights': {_listed(odd[:3])}"
            f"{f' and {len(odd) - 3} more' if len(odd) > 3 else ''}; "
            "distances along it do not compare with filter-normalized ones"
        )


def write_directions(
    path: Path,
    parameters: Sequence[Parameter],
    delta: Direction | None,
    eta: Direction | None,
) -> None:
    """Write directions in the reference layout, each tensor with its name.

    Args:
        path: The file.
        parameters: The model's parameters in file order.
        delta: Direction of alpha.
        eta: Direction of beta.

    Raises:
        StorageError: If it cannot be written.
    """
    trainable = [p for p in parameters if p.role in TRAINABLE or p.choice is Choice.INCLUDED]
    groups = [
        None
        if direction is None
        else [
            (p.name, direction.tensors.get(p.name, np.zeros(p.shape, direction_type(p))))
            for p in trainable
        ]
        for direction in (delta, eta)
    ]
    save_directions(path, groups[0], groups[1])
