"""The fixtures by what is to be expected of them."""

from __future__ import annotations

import re

from fixture_edits import MODELS

from onnxscape.errors import NoParametersError, UnsupportedModelError

REFUSED = {
    "logistic_skl2onnx_tensors": (NoParametersError, "nothing to move"),
    "regress_skl2onnx_columns": (UnsupportedModelError, "samples along its first axis"),
}
"""Fixture to the error that it must give, and what must be in its text."""

OTHER_WEIGHTS = {
    # Two tensors for one weight, the second transposed: nothing in the file tells.
    "autoencoder_torch_dynamo_optimized": "autoencoder",
    "gpt_torch_dynamo_optimized": "gpt",
    # Steps written out: the weight of the states comes before that of the inputs.
    "rnn_torch_dynamo_optimized": "rnn",
    "rnn_torch_dynamo_plain": "rnn",
    # Its gates stand in another order than ONNX and Keras have them: other noise for each.
    "gru_jax2onnx": "gru",
    # The positions are looked up before the export: what is left is added, and stays.
    "gptuntied_jax2onnx": "gptuntied",
}
"""Fixtures of a network's function but other weights, so of another surface; the network."""

ROUNDED = re.compile("half|float16")
"""Fixtures whose weights are rounded to half precision."""

QUANTIZED = re.compile("quantized")
"""Fixtures whose weights, most of them activations too, are rounded to a few levels."""

WARNED = {
    "autoencoder_torch_(dynamo_plain|legacy)": "'encode.weight' is used again",
    "(autoencoder|gpt)_torch_dynamo_optimized": "hold the same values",
    "_legacy_training|_dropout": "training mode",
    "quantized_dynamic": "quantized weights are moved as|range of activations over a whole",
    "quantized": "quantized weights are moved as the floats they stand for",
    "bfloat16": "cannot be run in its own half floats here",
}
"""Fixtures to what all of their warnings say."""

PERHAPS_WARNED = {"untrained": "merged equal tensors"}
"""The same for fixtures that need not have a warning; those in neither have none."""

ALL = sorted(path.stem for path in MODELS.glob("*.onnx"))
EVALUATED = [name for name in ALL if name not in REFUSED]
EXACT = [
    name
    for name in EVALUATED
    if name not in OTHER_WEIGHTS and not ROUNDED.search(name) and not QUANTIZED.search(name)
]
"""Fixtures that have their network's surface."""


def warning_of(fixture, kinds):
    """Return what all of a fixture's warnings say; None if it is of none of the kinds."""
    return next((text for kind, text in kinds.items() if re.search(kind, fixture)), None)
