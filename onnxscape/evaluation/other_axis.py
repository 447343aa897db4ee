"""Whether a model takes samples along another axis than the first, as recurrent ones do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.samples import has_name
from onnxscape.errors import UnsupportedModelError
from onnxscape.evaluation.mixing import dependence, rounding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.samples import Samples, TensorSignature
    from onnxscape.graph.model_file import ModelFile
    from onnxscape.runtime.user_model import UserModel

_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def refuse_other_axis(user: UserModel, samples: Samples, output: str) -> None:
    """Refuse a model that takes its samples along another axis than the first.

    To be asked where it does not compute each sample from the first axis by itself. The names
    of axes tell, or running it with the first axis and another one exchanged.

    Args:
        user: The file, which takes any number of samples.
        samples: A few samples.
        output: Name of the output that the loss is computed from.

    Raises:
        UnsupportedModelError: If it does.
    """
    file = user.file
    made = next(s for s in file.outputs if s.name == output)
    found = _by_name(file, made) or _by_running(user, samples, output)
    if found is None:
        return
    signature, axis, behind = found
    where = _ORDINALS[axis] if axis < len(_ORDINALS) else f"{axis + 1}th"
    also = " and another one behind its output" if behind else ""
    raise UnsupportedModelError(
        "expected a model that takes samples along the first axis of its inputs, but "
        f"{signature.with_names()} has them along its {where} (with the output "
        f"{made.with_names()}): export it with the batch first (batch_first=True in torch), "
        f"or put a Transpose in front of it{also}"
    )


def _by_name(
    file: ModelFile, output: TensorSignature
) -> tuple[TensorSignature, int, bool] | None:
    """Return the input and its axis that has the name of the output's first axis.

    Returns:
        Also whether the output has its samples on another axis than the first.
    """
    if not output.axes or output.axes[0] is None or not has_name(output.axes[0]):
        return None
    name = output.axes[0]
    if any(signature.axes and signature.axes[0] == name for signature in file.inputs):
        return None
    for signature in file.inputs:
        if name in (signature.axes or ()):
            return signature, (signature.axes or ()).index(name), False
    return None


def _by_running(
    user: UserModel, samples: Samples, output: str
) -> tuple[TensorSignature, int, bool] | None:
    """Return an input and its free axis along which each sample has its own output.

    Returns:
        Also whether the output has its samples on another axis than the first.
    """
    tolerance = rounding(user.loosened, user.file)
    for axis in range(1, max(array.ndim for array in samples.inputs.values())):
        concerned = [
            signature
            for signature in user.file.inputs
            if len(signature.shape or ()) > axis
            and (signature.shape or ())[axis] is None
            and signature.name in samples.inputs
        ]
        if not concerned:
            continue
        names = {signature.name for signature in concerned}
        at = _samples_at(user, samples, output, names, axis, tolerance)
        if at is not None:
            return concerned[0], axis, at != 0
    return None


def _samples_at(
    user: UserModel,
    samples: Samples,
    output: str,
    names: set[str],
    axis: int,
    tolerance: float,
) -> int | None:
    """Return the axis of the output that holds samples which are fed along another axis.

    Args:
        user: The file.
        samples: A few samples.
        output: The output.
        names: The inputs to which they are fed along that axis.
        axis: That axis.
        tolerance: What is rounding.
    """

    def made(rows: slice) -> NDArray[np.generic]:
        feeds = {
            name: np.swapaxes(array[rows], 0, axis) if name in names else array[rows]
            for name, array in samples.inputs.items()
        }
        feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        return np.asarray(run({**feeds, **samples.constants})[output])

    count = len(samples)
    try:
        run = user.ready()
        together = made(slice(0, count))
        alone = [made(slice(row, row + 1)) for row in range(count)]
    except UnsupportedModelError:
        return None
    for at in (0, axis):
        if at < together.ndim and together.shape[at] == count and count > 1:
            rows = {row: np.moveaxis(array, at, 0) for row, array in enumerate(alone)}
            whole = np.moveaxis(together, at, 0)
            fits = all(array.shape == (1, *whole.shape[1:]) for array in rows.values())
            if fits and not dependence(whole, rows, tolerance):
                return at
    return None
