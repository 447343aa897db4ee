"""How samples are brought to the shape of a model's input, where shapes leave no doubt.

The layouts are those of image arrays, channels before or after the pixels, and `flat`, one
row of values per sample. Axes are exchanged only where the shapes prove that they must be; a
case with two readings is an error that asks for the layout of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.errors import DataError, UsageError

if TYPE_CHECKING:
    from onnxscape.core.samples import TensorSignature
    from onnxscape.data.dataset import Layout

    Shape = tuple[int, ...]
    Target = tuple[int | None, ...]

LAYOUTS = ("NCHW", "NHWC", "flat")
"""What `--layout` may say of the data."""

AS_IS = "as is"
"""Text of the arrangement that changes nothing."""

_CHANNEL_AXIS: dict[str, int] = {"NCHW": 0, "NHWC": 2}
_TO_NCHW = (2, 0, 1)
_TO_NHWC = (1, 2, 0)
_EXCHANGES = {"NHWC": ("NHWC to NCHW", _TO_NCHW), "NCHW": ("NCHW to NHWC", _TO_NHWC)}
_COLOR_CHANNELS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Steps from a stored sample to the model's shape: view, then transpose, then reshape.

    Attributes:
        text: For people and for the spec, e.g. `NHWC to NCHW`.
        view: Shape in which a sample's values are preprocessed.
        channel_axis: Axis of `view` that counts channels; None where it is not known.
        order: Axes of `view` in the order wanted; None if it stays.
        shape: Shape of a sample for the model.
    """

    text: str
    view: Shape
    channel_axis: int | None
    order: Shape | None
    shape: Shape


@dataclass(frozen=True, slots=True)
class _Case:
    """One matching problem: what is stored, what is wanted, what was said about it."""

    field: str
    stored: Shape
    signature: TensorSignature
    target: Target
    known: Layout | None
    asked: str | None

    @property
    def layout(self) -> str | None:
        """Layout of the stored values, as far as it is known."""
        if self.known is not None and len(self.stored) == 3:
            return self.known
        return self.asked if self.asked in _CHANNEL_AXIS else None

    @property
    def channel_axis(self) -> int | None:
        if len(self.stored) != 3 or self.layout is None:
            return None
        return _CHANNEL_AXIS[self.layout]

    @property
    def both_shapes(self) -> str:
        stored = ", ".join(["N", *map(str, self.stored)])
        return f"data {self.field!r} [{stored}], model input {self.signature.quoted}"

    def ambiguous(self, why: str) -> DataError:
        return DataError(
            f"{why}: {self.both_shapes}; say what the data is with --layout NCHW, NHWC or flat"
        )


def arrange(
    field: str,
    stored: Shape,
    signature: TensorSignature,
    *,
    known: Layout | None,
    asked: str | None,
) -> Arrangement:
    """Find the one way in which samples of a shape fit a model's input.

    Args:
        field: Name of the array, for messages.
        stored: Shape of one sample of the data, without the axis of samples.
        signature: The model's input, with its batch axis first.
        known: Layout of the data if it is an image set known by name.
        asked: What the user says: `NCHW`, `NHWC`, `flat` or None. For data from files it is
            the layout of the data; data of a known layout is handed out in it.

    Returns:
        The steps.

    Raises:
        UsageError: If `asked` is none of these.
        DataError: If no way fits, or more than one.
    """
    if asked is not None and asked not in LAYOUTS:
        raise UsageError(f"expected --layout NCHW, NHWC or flat, got {asked!r}")
    if signature.shape is None:
        target: Target = tuple(None for _ in stored)
    elif not signature.shape:
        raise DataError(
            f"model input {signature.quoted} is a single value; expected a batch axis"
        )
    else:
        target = signature.shape[1:]
    case = _Case(field, stored, signature, target, known, asked)
    for rule in (_as_it_is, _exchange_channels, _grey, _flatten, _unflatten, _same_values):
        found = rule(case)
        if found is not None:
            return found
    said = "" if asked is None else f" with --layout {asked}"
    hint = "; no --layout (NCHW, NHWC, flat) makes them fit" if asked is None else ""
    raise DataError(f"samples do not fit the model{said}: {case.both_shapes}{hint}")


def _fits(shape: Shape, target: Target) -> bool:
    return len(shape) == len(target) and all(
        wanted is None or wanted == size for size, wanted in zip(shape, target, strict=True)
    )


def _permuted(shape: Shape, order: Shape) -> Shape:
    return tuple(shape[axis] for axis in order)


def _as_it_is(case: _Case) -> Arrangement | None:
    if case.known is not None and len(case.stored) == 3:
        text, order = _EXCHANGES[case.known]
        exchanged = _permuted(case.stored, order)
        if case.asked in _CHANNEL_AXIS and case.asked != case.known:
            if _fits(exchanged, case.target):
                return Arrangement(text, case.stored, case.channel_axis, order, exchanged)
        elif case.asked is None and all(
            _fits(shape, case.target) for shape in (case.stored, exchanged)
        ):
            raise case.ambiguous("the model takes images in any layout")
    if not _fits(case.stored, case.target):
        return None
    return Arrangement(AS_IS, case.stored, case.channel_axis, None, case.stored)


def _exchange_channels(case: _Case) -> Arrangement | None:
    if len(case.stored) != 3 or len(case.target) != 3 or case.asked == "flat":
        return None
    found = [
        Arrangement(
            text, case.stored, _CHANNEL_AXIS[layout], order, _permuted(case.stored, order)
        )
        for layout, (text, order) in _EXCHANGES.items()
        if case.layout in {layout, None} and _fits(_permuted(case.stored, order), case.target)
    ]
    if len(found) > 1:
        raise case.ambiguous("the channels of the data could be either axis")
    return found[0] if found else None


def _grey(case: _Case) -> Arrangement | None:
    # The channel axis is added or dropped: the order of values stays.
    stored = case.stored
    if len(stored) == 3 and 1 in {stored[0], stored[2]}:
        pixels = stored[1:] if stored[0] == 1 else stored[:2]
    elif len(stored) == 2:
        pixels = stored
    else:
        return None
    forms = {
        "grey as NCHW": (1, *pixels),
        "grey as NHWC": (*pixels, 1),
        "grey without channels": pixels,
        "flattened": (math.prod(pixels),),
    }
    fitting = {text: shape for text, shape in forms.items() if _fits(shape, case.target)}
    if len(fitting) > 1 and case.asked in _CHANNEL_AXIS:
        fitting = {text: s for text, s in fitting.items() if text == f"grey as {case.asked}"}
    if len(set(fitting.values())) > 1:
        raise case.ambiguous("the channel axis of grey images could be first or last")
    return next(
        (Arrangement(text, shape, None, None, shape) for text, shape in fitting.items()), None
    )


def _flatten(case: _Case) -> Arrangement | None:
    flat = (math.prod(case.stored),)
    if len(case.stored) < 2 or not _fits(flat, case.target):
        return None
    order = None
    if len(case.stored) == 3:
        if case.asked is None:
            raise case.ambiguous(
                "the model may want the values of an image with channels first or last"
            )
        if case.known is not None and case.asked in _CHANNEL_AXIS and case.asked != case.known:
            order = _TO_NCHW if case.asked == "NCHW" else _TO_NHWC
    text = "flattened" if order is None else f"flattened as {case.asked}"
    return Arrangement(text, case.stored, case.channel_axis, order, flat)


def _unflatten(case: _Case) -> Arrangement | None:
    fixed = tuple(size for size in case.target if size is not None)
    if len(case.stored) != 1 or len(fixed) != len(case.target) or len(fixed) not in {2, 3}:
        return None
    if math.prod(fixed) != case.stored[0]:
        return None
    if len(fixed) == 2 or 1 in {fixed[0], fixed[2]} or case.asked == "flat":
        return Arrangement("reshaped", fixed, None, None, fixed)
    if case.asked is None:
        raise case.ambiguous("the rows of the data may hold channels first or last")
    wanted = _layout_of(fixed)
    if wanted is None:
        raise case.ambiguous(
            f"the model's input {list(fixed)} may have channels first or last"
        )
    if wanted == case.asked:
        axis = _CHANNEL_AXIS[wanted]
        return Arrangement(f"reshaped as {wanted}", fixed, axis, None, fixed)
    # The other layout's axes, so that transposing them gives the model's.
    order, back = (_TO_NHWC, _TO_NCHW) if wanted == "NHWC" else (_TO_NCHW, _TO_NHWC)
    view = _permuted(fixed, back)
    text = f"reshaped as {case.asked}, to {wanted}"
    return Arrangement(text, view, _CHANNEL_AXIS[case.asked], order, fixed)


def _layout_of(shape: Shape) -> Layout | None:
    first, last = shape[0] in _COLOR_CHANNELS, shape[2] in _COLOR_CHANNELS
    if first == last:
        return None
    return "NCHW" if first else "NHWC"


def _same_values(case: _Case) -> Arrangement | None:
    # A scalar per sample is a row of one; `--layout flat` vouches for the order of values.
    single = sorted([case.stored, case.target], key=len)
    if (len(single[0]), len(single[1])) == (0, 1) and single[1][0] in {1, None}:
        shape = (1,) if len(case.target) == 1 else ()
        return Arrangement("reshaped", shape, None, None, shape)
    fixed = tuple(size for size in case.target if size is not None)
    if (
        case.asked == "flat"
        and len(fixed) == len(case.target)
        and math.prod(fixed) == math.prod(case.stored)
    ):
        return Arrangement("reshaped", fixed, None, None, fixed)
    return None
