"""What the tests of the graph layer share: parameters by name, and chains of operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxscape.core.direction import Ignore
from onnxscape.core.loss import Loss
from onnxscape.core.perturbation import displaced
from onnxscape.core.selection import perturbed
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse, prepare


@dataclass(frozen=True)
class Analysis:
    """A model file and what was found in it."""

    file: Any
    parameters: dict[str, Any]
    warnings: tuple[str, ...]

    def prepared(self, moved=None, loss="cross-entropy", **options):
        """Prepare the model; by default what moves under `biasbn`."""
        if moved is None:
            moved = {
                name
                for name, p in self.parameters.items()
                if perturbed(p, Ignore.BIASBN).perturbed
            }
        parameters = tuple(self.parameters.values())
        if isinstance(loss, str):
            (output,) = self.file.outputs
            axis = 1 if loss == "cross-entropy" else None
            loss = Loss(name=loss, output=output.name, shape=output.shape[1:], class_axis=axis)
        return prepare(self.file, parameters, moved=set(moved), loss=loss, **options)


@pytest.fixture(scope="session")
def analysed():
    """Returns the analysis of a model, its path or its bytes."""

    def analysis(source, overrides=None):
        file = read_model(source)
        parameters, warnings = analyse(file, overrides)
        return Analysis(file, {p.name: p for p in parameters}, warnings)

    return analysis


@pytest.fixture(scope="session")
def batch_norm():
    """Returns the node and tensors of a BatchNormalization; gammas may be given."""

    def build(source, target, channels, gamma=None, *, prefix="bn", **attributes):
        rng = np.random.default_rng(channels)
        tensors = {
            f"{prefix}.gamma": rng.uniform(0.5, 2.0, channels) if gamma is None else gamma,
            f"{prefix}.beta": rng.standard_normal(channels),
            f"{prefix}.mean": rng.standard_normal(channels),
            f"{prefix}.var": rng.uniform(0.1, 4.0, channels),
        }
        node = helper.make_node(
            "BatchNormalization",
            [source, *tensors],
            [target],
            name=f"{prefix}.node",
            **attributes,
        )
        return node, {name: np.float32(values) for name, values in tensors.items()}

    return build


@pytest.fixture(scope="session")
def run_prepared(run_model):
    """Returns what a prepared model makes of samples at weights moved along directions."""

    def run(prepared, feeds, labels, deltas=None, alpha=0.0):
        weights = {
            slot.tensor: slot.transfer(
                displaced(
                    slot.parameter.values,
                    None if deltas is None else deltas[slot.parameter.name],
                    None,
                    alpha,
                    0.0,
                )
            )
            for slot in prepared.slots
        }
        labels = {"onnxscape::labels": labels}
        outputs = [prepared.output, "onnxscape::loss"]
        return run_model(
            prepared.with_overridable_weights(), {**feeds, **labels, **weights}, outputs
        )

    return run
