"""What a model says of its outputs: which one a loss is for, and what makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.errors import UnsupportedModelError, UsageError

if TYPE_CHECKING:
    import onnx

    from onnxscape.graph.model_file import ModelFile

_PASSING = frozenset(
    {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that do not change values."""


def choose_output(file: ModelFile, wanted: str | None) -> str:
    """Choose the output that a loss is computed from.

    Args:
        file: The model.
        wanted: The user's choice; None for the only one, or the only one of floats.

    Returns:
        Its name.

    Raises:
        UsageError: If there is no output of that name.
        UnsupportedModelError: If it takes the user to tell.
    """
    outputs = file.outputs
    names = ", ".join(str(signature) for signature in outputs)
    if wanted is not None:
        if wanted not in {signature.name for signature in outputs}:
            raise UsageError(f"expected --output to be one of {names}, got {wanted!r}")
        return wanted
    floating = [s for s in outputs if not np.issubdtype(s.dtype, np.integer)]
    floating = [s for s in floating if s.dtype.kind not in "bOUS"]
    for candidates in (outputs, floating):
        if len(candidates) == 1:
            return candidates[0].name
    raise UnsupportedModelError(
        f"expected a model with one output, this one has {len(outputs)}: {names}; say by "
        "--output NAME which one the loss is computed from"
    )


def last_operator(proto: onnx.ModelProto, output: str) -> str | None:
    """Return the operator that makes an output's values, whatever shape they get after it.

    Args:
        proto: The model.
        output: Name of the output.

    Returns:
        The operator's type, `LogSoftmax` for a Log behind a Softmax; None if the output comes
        from no node.
    """
    makers = {name: node for node in proto.graph.node for name in node.output}
    seen = set()
    logarithm = False
    while output in makers and output not in seen:
        seen.add(output)
        op = str(makers[output].op_type)
        if op == "Log" and not logarithm:
            logarithm = True
        elif op not in _PASSING:
            return op if not logarithm else "LogSoftmax" if op == "Softmax" else "Log"
        output = makers[output].input[0]
    return "Log" if logarithm else None
