"""Weights that are inputs of the model: given by the user, or missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.parameter import Role
from onnxscape.data.arrays import read_npz
from onnxscape.errors import DataError, NoParametersError
from onnxscape.graph.canonical import canonical_of, fed_inputs
from onnxscape.graph.operands import weight_inputs
from onnxscape.graph.operators import ROLES, operator_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscape.core.parameter import Parameter
    from onnxscape.data import Dataset
    from onnxscape.evaluation.request import EvalRequest
    from onnxscape.graph.model_file import ModelFile


def given_weights(request: EvalRequest) -> dict[str, NDArray[Any]] | None:
    """Return the values of inputs that are weights.

    Args:
        request: The request.

    Returns:
        Arrays by input name; None if none are given.

    Raises:
        DataError: If their file cannot be read.
    """
    given = request.weights
    if isinstance(given, str | Path):
        return read_npz(Path(given))
    return None if given is None else {n: np.asarray(values) for n, values in given.items()}


def refuse_weightless(
    file: ModelFile, parameters: Sequence[Parameter], precision: str
) -> None:
    """Refuse a model all of whose weights are inputs without values.

    Args:
        file: The model.
        parameters: Its parameters.
        precision: Arithmetic of the forward pass.

    Raises:
        NoParametersError: If they are.
    """
    if any(p.role is Role.WEIGHT for p in parameters):
        return
    if weight_inputs(canonical_of(file, precision).model):
        raise NoParametersError(
            f"nothing to move: {', '.join(_like_weights(file, precision))} are inputs of the "
            "model that are used like weights or biases; if they are, give their values with "
            "--weights FILE.npz"
        )


def refuse_missing_weights(file: ModelFile, dataset: Dataset, precision: str) -> None:
    """Say of inputs without data that they are weights, rather than that data are missing.

    Args:
        file: The model.
        dataset: The data.
        precision: Arithmetic of the forward pass.

    Raises:
        DataError: If there are any.
    """
    missing = [n for n in _like_weights(file, precision) if n not in dataset.fields]
    if missing and len(fed_inputs(file, precision)) > 1:
        raise DataError(
            f"{dataset.name} has no arrays for inputs of the model that are used like weights "
            f"or biases: {', '.join(missing)}; if they are, give their values with --weights "
            "FILE.npz"
        )


def _like_weights(file: ModelFile, precision: str) -> list[str]:
    """Return the inputs that stand where weights or biases do, in the model's order."""
    model = canonical_of(file, precision).model
    found = set(weight_inputs(model))
    for node in model.graph.all_nodes():
        for slot, value in enumerate(node.inputs):
            if ROLES.get((operator_name(node), slot)) is Role.BIAS and value is not None:
                found.add(str(value.name))
    return [signature.name for signature in file.inputs if signature.name in found]
