"""The truth about the fixtures, made without the product.

Directions are drawn here from the published rules, for torch's own tensors; weights are edited
with plain onnx; outputs come from plain ONNX Runtime, and the loss from numpy in float64.
"""

from __future__ import annotations

import functools

import numpy as np
from fixture_edits import WEIGHTS, edited, run, stored
from fixture_networks import NETWORKS, PLAIN, samples, task_of

SEED = 3
STEPS = (-0.5, 0.0, 0.5)


class Truth:
    """What the fixtures' surfaces must be."""

    networks = tuple(NETWORKS)
    steps = STEPS
    seed = SEED

    def plain(self, network):
        """Return the export with torch's names and shapes, all normalization apart."""
        return PLAIN.get(network, f"{network}_torch_legacy_nofolding")

    def samples(self):
        """Return the inputs [96, 1, 8, 8] and the labels."""
        return samples()

    def task(self, fixture):
        """Return what a fixture is evaluated on."""
        return task_of(fixture)

    @functools.cache  # noqa: B019 - there is one
    def surface(self, network, normalize="filter", ignore="biasbn"):
        """Return the surface [n_beta, n_alpha] of a network."""
        file = self.plain(network)
        steps = [self.direction(network, axis, normalize, ignore) for axis in (0, 1)]
        return np.array([[self.loss_at(file, *steps, a, b) for a in STEPS] for b in STEPS])

    def loss_at(self, fixture, delta, eta, alpha, beta, task=None):
        """Return the loss of a file in which tensors of these names have moved."""
        tensors = stored(fixture)[1]
        values = {
            name: (
                tensors[name].astype(np.float64)
                + alpha * delta.get(name, 0.0)
                + beta * eta.get(name, 0.0)
            ).astype(tensors[name].dtype)
            for name in delta.keys() | eta.keys()
        }
        task = task or task_of(fixture)
        outputs = run(edited(fixture, values), task.feed)
        output = outputs[task.output or next(iter(outputs))]
        return task.loss(output, task.labels)

    def direction(self, network, axis, normalize="filter", ignore="biasbn"):
        """Return a direction by torch's names of the tensors that it moves."""
        tensors = stored(self.plain(network))[1]
        with np.load(WEIGHTS / f"{_recipe(network)}.npz") as arrays:
            trained = dict(arrays)
        drawn = {}
        for key, entry in enumerate(NETWORKS[network]):
            stream = np.random.Generator(
                np.random.Philox(np.random.SeedSequence((1, SEED, axis, key)))
            )
            scales = trained[f"{entry.norm}.weight"] if entry.norm else None
            weight = tensors[entry.name].astype(np.float64)
            drawn[entry.name] = _drawn(weight, stream, entry, normalize, scales)
        if ignore == "none":
            rest = trained.keys() & tensors.keys() - drawn.keys()
            trainable = [name for name in rest if "running" not in name]
            drawn |= {name: tensors[name].astype(np.float64) for name in trainable}
        return drawn


def _recipe(network):
    return "mlp" if network == "uniform" else network


def _drawn(weight, stream, entry, normalize, scales):
    """Return normalized noise of a weight as its file stores it."""
    where = list(_filters(weight, entry))
    noise = stream.standard_normal((len(where), weight.size // len(where)))
    d = np.empty_like(weight)
    for channel, index in enumerate(where):
        row = noise[channel].reshape(weight[index].shape)
        if normalize == "filter":
            row = row * np.linalg.norm(weight[index]) / np.linalg.norm(row)
            if scales is not None and scales[channel] < 0:
                row = -row
        d[index] = row
    if normalize == "layer":
        d *= np.linalg.norm(weight) / np.linalg.norm(d)
    return d


def _filters(weight, entry):
    """Yield where the filter of each output channel lies."""
    if entry.groups is None:
        sizes = [weight.shape[axis] for axis in entry.axes]
        for channel in np.ndindex(*sizes):
            index = [slice(None)] * weight.ndim
            for axis, place in zip(entry.axes, channel, strict=True):
                index[axis] = place
            yield tuple(index)
        return
    inputs, outputs = len(weight) // entry.groups, weight.shape[1]
    for channel in range(entry.groups * outputs):
        first = channel // outputs * inputs
        yield slice(first, first + inputs), channel % outputs
