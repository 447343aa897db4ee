"""The reference network and its data, prepared for the evaluators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from onnxscape.core.direction import random_direction
from onnxscape.core.loss import Loss
from onnxscape.core.samples import Samples
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse, prepare
from onnxscape.runtime.devices import find_device


@dataclass(frozen=True)
class Case:
    """Everything an evaluator is made of."""

    file: Any
    parameters: Any
    prepared: Any
    samples: Samples
    delta: Any
    eta: Any

    def make(self, strategy, *, batch=64, pad=False, threads=1, samples=None, **changes):
        """Build an evaluator, with a few things other than in the case if wanted."""
        return strategy(
            changes.get("prepared", self.prepared),
            samples or self.samples,
            changes.get("delta", self.delta),
            changes.get("eta", self.eta),
            device=changes.get("device") or find_device("cpu"),
            batch=batch,
            threads=threads,
            pad=pad,
        )


def samples_of(x, y, population=None):
    return Samples(
        inputs={"input": x},
        labels=y,
        population=population or 2 * len(y),
        name="digits",
        digest="0" * 64,
    )


def loss_of(file):
    return Loss(
        name="cross-entropy",
        output=file.outputs[0].name,
        shape=(10,),
        class_axis=1,
        metrics=("accuracy",),
    )


@pytest.fixture(scope="session")
def case_of(digits_arrays):
    """Returns the case of a model file."""

    def build(source):
        file = read_model(source)
        parameters, _ = analyse(file)
        delta = random_direction(parameters, seed=1, axis=0)
        eta = random_direction(parameters, seed=1, axis=1)
        prepared = prepare(file, parameters, moved=set(delta.tensors), loss=loss_of(file))
        return Case(file, parameters, prepared, samples_of(*digits_arrays), delta, eta)

    return build


@pytest.fixture(scope="session")
def case(case_of, reference):
    """The reference network."""
    return case_of(reference / "model.onnx")


class PretendGpu:
    """A CPU that is treated as a GPU."""

    kind, index, provider, memory = "cuda", 0, "CPUExecutionProvider", ("cpu", 0)

    def providers(self, _settings=None):
        return ["CPUExecutionProvider"]


@pytest.fixture
def pretend_gpu():
    """A CPU that is treated as a GPU: batches are filled up, data may be copied bit by bit."""
    return PretendGpu()


@pytest.fixture
def shuffled(case):
    """The samples of the case in another order."""
    order = np.random.default_rng(3).permutation(len(case.samples))
    return samples_of(case.samples.inputs["input"][order], case.samples.labels[order])
