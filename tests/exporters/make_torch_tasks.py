"""Train the networks of other tasks, and export variants of the dense network and the CNN.

    python tests/exporters/make_torch_tasks.py

The variants are the same functions: with a softmax or a loss at their end, with weights that
are computed, chosen by a condition, given from outside, or of half precision.
"""

from __future__ import annotations

import logging

import torch
from fixture_files import save, training_digits, weights
from fixture_tasks import boxes, centers, properties, regions
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize
from torch_exports import (
    ROADS,
    TRAINING,
    UNFOLDED,
    digits,
    dynamo,
    image,
    legacy,
    trained,
)
from torch_networks import Cnn, Mlp
from torch_tasks import Across, Detect, Multilabel, Regress, Segment

IMAGE = (1, 8, 8)
UNOPTIMIZED = {"optimize": False}


class Ending(nn.Module):
    """A network with something behind it."""

    def __init__(self, network, function):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, x):
        return self.function(self.network(x))


class Judged(Ending):
    """A network with its own loss behind it; labels are an input."""

    def forward(self, x, labels):
        return self.function(self.network(x), labels)


class Conditional(nn.Module):
    """The dense network in both branches of a condition that the data decides."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, x):
        def plain(x):
            return self.mlp.fc2(functional.relu(self.mlp.fc1(x)))

        def doubled(x):
            return self.mlp.fc2(2 * functional.relu(self.mlp.fc1(x)))

        return torch.cond(x.sum() > 0, plain, doubled, (x,))


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a weight, as adapters do."""

    def __init__(self, outputs, inputs, rank=2):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a = nn.Parameter(0.3 * torch.randn(rank, inputs, generator=generator))
        self.b = nn.Parameter(0.3 * torch.randn(outputs, rank, generator=generator))

    def forward(self, weight):
        return weight + 0.5 * (self.b @ self.a)


class Times(nn.Module):
    """Multiplies a weight by a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, weight):
        return weight * self.factor


class Dropped(nn.Module):
    """The dense network with dropout."""

    def __init__(self, mlp):
        super().__init__()
        self.fc1, self.fc2 = mlp.fc1, mlp.fc2
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        return self.fc2(self.dropout(functional.relu(self.fc1(x))))


def dense():
    """Return the dense network anew."""
    return trained(Mlp, digits(64))


def with_adapters(network):
    """Return the network as base weights and adapters: their sum is what was trained."""
    for layer in (network.fc1, network.fc2):
        adapter = LowRank(*layer.weight.shape)
        with torch.no_grad():
            layer.weight -= 0.5 * (adapter.b @ adapter.a)
        parametrize.register_parametrization(layer, "weight", adapter)
    return network


def with_spectral_norm(network):
    """Return the network, its weights divided by their largest singular value and back."""
    for layer in (network.fc1, network.fc2):
        largest = torch.linalg.matrix_norm(layer.weight.detach(), 2).item()
        parametrizations.spectral_norm(layer, n_power_iterations=200)
        parametrize.register_parametrization(layer, "weight", Times(largest))
    return network.eval()


def make_tasks():
    """Segmentation, detection, regression, several labels."""
    x, y = training_digits()
    inputs = (torch.from_numpy(x),)
    flat = (inputs[0].reshape(-1, 64),)

    def both(out, labels):
        return functional.cross_entropy(out[0], labels[:, 0].long()) + 4 * (
            functional.mse_loss(out[1], labels[:, 1:])
        )

    found = torch.cat([torch.from_numpy(y)[:, None], torch.from_numpy(boxes(x))], dim=1)
    segment = trained(Segment, (inputs, torch.from_numpy(regions(x))))
    detect = trained(Detect, (inputs, found.float()), loss=both)
    places = torch.from_numpy(centers(x))
    regress = trained(Regress, (flat, places), loss=functional.mse_loss)
    across = trained(Across, (flat, places[:, :1]), loss=functional.mse_loss)
    several = (flat, torch.from_numpy(properties(y)))
    loss = functional.binary_cross_entropy
    multilabel = trained(Multilabel, several, loss=loss, steps=60)
    outputs = ("input",), ("scores", "boxes")
    for road in ("legacy_nofolding", "dynamo_optimized"):
        save(ROADS[road](segment, image(*IMAGE)), f"segment_torch_{road}")
        save(ROADS[road](detect, image(*IMAGE), names=outputs), f"detect_torch_{road}")
        save(ROADS[road](regress, image(64)), f"regress_torch_{road}")
        save(ROADS[road](across, image(64)), f"across_torch_{road}")
        multilabel.probabilities = True
        save(ROADS[road](multilabel, image(64)), f"multilabel_torch_{road}")
        multilabel.probabilities = False
        save(ROADS[road](multilabel, image(64)), f"multilabel_torch_{road}_logits")


def make_endings():
    """The dense network with what people leave at the end of a network."""
    labels = ("input", "labels"), ("loss",)
    target = torch.zeros(3, dtype=torch.int64)

    def each(out, y):
        return functional.cross_entropy(out, y, reduction="none")

    softmax = Ending(dense(), lambda out: torch.softmax(out, dim=1))
    log_softmax = Ending(dense(), lambda out: torch.log_softmax(out, dim=1))
    for road in ("legacy_nofolding", "dynamo_optimized"):
        save(ROADS[road](softmax, image(64)), f"mlp_torch_{road}_softmax")
        save(ROADS[road](log_softmax, image(64)), f"mlp_torch_{road}_logsoftmax")
        per_sample = ROADS[road](Judged(dense(), each), image(64), target, names=labels)
        save(per_sample, f"mlp_torch_{road}_ownloss")
    mean = Judged(dense(), functional.cross_entropy)
    scalar = legacy(mean, image(64), target, names=labels)
    del scalar.graph.output[0].type.tensor_type.shape.dim[
        :
    ]  # the exporter's axis is not there
    save(scalar, "mlp_torch_legacy_nofolding_meanloss")


def make_computed():
    """The dense network with weights that the file computes, chooses or does not have."""
    adapted = with_adapters(dense())
    save(legacy(adapted, image(64), **UNFOLDED), "mlp_torch_legacy_lora")
    save(dynamo(adapted, image(64), **UNOPTIMIZED), "mlp_torch_dynamo_lora")
    limited = with_spectral_norm(dense())  # with an operator that the legacy exporter lacks
    save(dynamo(limited, image(64), **UNOPTIMIZED), "mlp_torch_dynamo_spectralnorm")
    save(dynamo(Conditional(dense()), image(64)), "mlp_torch_dynamo_cond")
    options = UNFOLDED | {"export_params": False}
    save(legacy(dense(), image(64), **options), "mlp_torch_legacy_weightinputs")
    dropped = Dropped(dense()).train()
    options = UNFOLDED | {"training": TRAINING}
    save(legacy(dropped, image(64), **options), "mlp_torch_legacy_dropout")
    save(dynamo(dropped, image(64), **UNOPTIMIZED), "mlp_torch_dynamo_dropout")


def make_half():
    """The CNN in half precision."""
    for name, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16)):
        cnn = trained(Cnn, None).to(dtype)
        example = image(*IMAGE).to(dtype)
        model = dynamo(cnn, example, opset_version=22, **UNOPTIMIZED)
        save(model, f"cnn_torch_dynamo_{name}")
        save(legacy(cnn, example, **UNFOLDED), f"cnn_torch_legacy_{name}")
    # Folds in float32, and leaves a Conv of two types that no runtime takes.
    save(dynamo(cnn, example, opset_version=22), "cnn_torch_dynamo_bfloat16_mixed")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    assert weights("mlp"), "run make_torch.py first"
    make_tasks()
    make_endings()
    make_computed()
    make_half()
