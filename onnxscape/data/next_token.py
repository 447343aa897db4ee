"""The labels of language models: at each position the token that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.labels import class_labels
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscape.core.samples import TensorSignature
    from onnxscape.data.dataset import Dataset
    from onnxscape.data.matching import Matching

_TOKENS = ("input_ids", "tokens", "token_ids", "ids", "input_tokens", "decoder_input_ids")
"""Names of the input of tokens, the likeliest first."""

_NO_TOKENS = ("mask", "position", "type", "segment")
"""Parts of names of inputs of whole numbers that hold no tokens."""

MASK = "attention_mask"
"""Name of the array that is 0 at the padding, whether the model takes it or not."""


def next_token_labels(
    dataset: Dataset,
    inputs: Sequence[TensorSignature],
    match: Matching,
    *,
    classes: int | None,
    ignore_index: int,
    chosen: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Derive the labels of the chosen samples.

    The tokens to be told are those of the array `y`, if there is one (not shifted, the ignored
    ones being `ignore_index`: the convention of Hugging Face's `labels`); else the model's own
    input tokens, except where a mask is 0 at a token or at the one before it.

    Args:
        dataset: The data.
        inputs: The model's inputs.
        match: The arrays that the model is fed from.
        classes: Number of tokens that the model knows, where known.
        ignore_index: Label of positions that do not count.
        chosen: Indices of the samples wanted.

    Returns:
        int64 [samples, positions]: at position t the token of t + 1, at the last one
        `ignore_index`.

    Raises:
        DataError: If there are no tokens, or more than one array that could hold them.
    """
    if dataset.labels is not None:
        told = class_labels(
            _sequences(dataset.labels, "y", dataset.name),
            classes=classes,
            name=dataset.name,
            ignore_index=ignore_index,
            chosen=chosen,
        )
        kept = None
    else:
        tokens = _token_input(dataset, inputs, match)
        field = match.fields[tokens]
        told = class_labels(
            _sequences(match.arrays[tokens], field, dataset.name)[chosen],
            classes=classes,
            name=f"{field!r} of {dataset.name}",
        )
        kept = _kept(dataset, match, told.shape, chosen)
    labels = np.full(told.shape, ignore_index, dtype=np.int64)
    labels[:, :-1] = told[:, 1:]
    if kept is not None:
        labels[:, :-1][~(kept[:, 1:] & kept[:, :-1])] = ignore_index
    return labels


def likeliest_tokens(inputs: Sequence[str]) -> str | None:
    """Return the input of whole numbers that holds the tokens.

    Args:
        inputs: Names of all inputs that have a whole number for each position.

    Returns:
        One of them; None if it cannot be told.
    """
    candidates = [
        name for name in inputs if not any(part in name.lower() for part in _NO_TOKENS)
    ]
    for name in _TOKENS:
        if name in candidates:
            return name
    return candidates[0] if len(candidates) == 1 else None


def _sequences(array: NDArray[Any], field: str, name: str) -> NDArray[Any]:
    if array.ndim != 2 or array.shape[1] < 2:
        raise DataError(
            f"the loss of the next token needs tokens [samples, positions], at least 2 "
            f"positions, got {list(array.shape)} in {field!r} of {name}"
        )
    return array


def _token_input(dataset: Dataset, inputs: Sequence[TensorSignature], match: Matching) -> str:
    # The model's input that holds the tokens.
    candidates = [
        signature.name
        for signature in inputs
        if "int" in signature.dtype.name
        and signature.name in match.arrays
        and match.arrays[signature.name].ndim == 2
    ]
    found = likeliest_tokens(candidates)
    if found is not None:
        return found
    listed = ", ".join(candidates) or ", ".join(str(signature) for signature in inputs)
    what = "any of the inputs" if candidates else "none of the inputs"
    raise DataError(
        f"{what} {listed} could hold the tokens whose next one is to be told; store them in "
        f"{dataset.name} as 'y' [samples, positions]: equal to the input tokens, not shifted, "
        "and -100 where they do not count"
    )


def _kept(
    dataset: Dataset,
    match: Matching,
    shape: tuple[int, ...],
    chosen: NDArray[np.int64],
) -> NDArray[np.bool_] | None:
    # Where a mask says that there is a token and no padding [samples, positions].
    names = {
        match.fields[name]
        for name, array in match.arrays.items()
        if "mask" in name.lower() and array.ndim == 2
    }
    if MASK in dataset.fields:
        names = {MASK}
    if not names:
        return None
    if len(names) > 1:
        raise DataError(
            f"which of the masks {', '.join(sorted(names))} is 0 at padding cannot be told; "
            f"store the tokens in {dataset.name} as 'y', and -100 where they do not count"
        )
    name = names.pop()
    mask = dataset.fields[name][chosen]
    if mask.shape != shape:
        raise DataError(
            f"expected {name!r} of {dataset.name} shaped like the tokens {list(shape)}, got "
            f"{list(mask.shape)}"
        )
    kept: NDArray[np.bool_] = mask == 1
    if not (kept | (mask == 0)).all():
        raise DataError(
            f"expected {name!r} of {dataset.name} to be 1 at tokens and 0 at padding, got "
            "other values; store the tokens as 'y', and -100 where they do not count"
        )
    return kept
