"""Train the networks (where their weights are missing) and export them with torch.

    python tests/exporters/make_torch.py

Delete weights/*.npz to train anew.
"""

from __future__ import annotations

import logging

import torch
from fixture_files import make_data, save, save_with_external_data
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch_exports import (
    EVAL,
    PRESERVE,
    ROADS,
    UNFOLDED,
    digits,
    dynamo,
    image,
    legacy,
    trained,
)
from torch_networks import (
    Autoencoder,
    Block,
    Cnn,
    Convhead,
    Cross,
    Deconv,
    Densebn,
    Encoder,
    Mlp,
    Residual,
    SeparateCross,
    Sequence,
    Tied,
    Untrained,
    Upsample,
)

IMAGE = (1, 8, 8)


def _normalized(network, *names):
    """Return a network some of whose weights the graph computes, from length and angle."""
    for name in names:
        parametrizations.weight_norm(getattr(network, name))
    return network


def _digits_trained(kind, shape):
    if kind is Untrained:
        return trained(kind, None)
    if kind is Autoencoder:
        x = digits(*shape)[0]
        return trained(kind, (x, x[0]), loss=functional.mse_loss)
    return trained(
        kind, digits(*shape), loss=lambda out, y: functional.cross_entropy(out.flatten(1), y)
    )


def make_cnn():
    """The small CNN by every road that torch has."""
    cnn = _digits_trained(Cnn, IMAGE)
    for folding in (True, False):
        name = "folding" if folding else "nofolding"
        for training, mode in (("eval", EVAL), ("preserve", PRESERVE)):
            options = {"do_constant_folding": folding, "training": mode}
            model = legacy(cnn, image(*IMAGE), **options)
            save(model, f"cnn_torch_legacy_{name}_{training}")
    cnn.train()
    for norm in (cnn.bn1, cnn.bn2, cnn.bn3):
        norm.momentum = 0.0  # the export runs the network: statistics shall stay
    save(legacy(cnn, image(*IMAGE), training=PRESERVE), "cnn_torch_legacy_training")
    cnn = _digits_trained(Cnn, IMAGE)
    for opset in (7, 8, 9, 10, 11):
        save(legacy(cnn, image(*IMAGE), opset=opset), f"cnn_torch_legacy_opset{opset}")
    listed = legacy(cnn, image(*IMAGE), keep_initializers_as_inputs=True)
    save(listed, "cnn_torch_legacy_inputs")
    save(legacy(cnn, image(*IMAGE, batch=1), batch=False), "cnn_torch_legacy_batch1")
    for optimize in (True, False):
        name = f"cnn_torch_dynamo_{'optimized' if optimize else 'plain'}"
        save(dynamo(cnn, image(*IMAGE), optimize=optimize), name)
        model = dynamo(cnn, image(*IMAGE), optimize=optimize, external_data=True)
        save_with_external_data(model, f"{name}_external")
    model = dynamo(cnn, image(*IMAGE, batch=5), optimize=True, batch=False)
    save(model, "cnn_torch_dynamo_batch5")


def make_others():
    """The other networks, each by the roads on which its file looks different."""
    every = tuple(ROADS)
    for kind, shape, roads in (
        (Residual, IMAGE, every),
        (Untrained, IMAGE, every),
        (Deconv, IMAGE, every[1:]),
        (Upsample, IMAGE, every[1:]),
        (Convhead, IMAGE, every[1:2]),
        (Densebn, (64,), every[1:]),
        (Sequence, (8, 8), every),
        (Mlp, (64,), every[1:3]),
        (Tied, (64,), every[1:3]),
        (Autoencoder, (64,), every[1:]),
        (Block, (8, 8), every),
        (Encoder, (8, 8), every[1:3]),
    ):
        for road in roads:
            model = ROADS[road](_digits_trained(kind, shape), image(*shape))
            save(model, f"{kind.__name__.lower()}_torch_{road}")
    block = _digits_trained(Block, (8, 8))
    save(legacy(block, image(8, 8), opset=13), "block_torch_legacy_opset13")
    mlp = _normalized(_digits_trained(Mlp, (64,)), "fc1", "fc2")
    save(legacy(mlp, image(64)), "mlp_torch_legacy_weightnorm_folding")
    save(legacy(mlp, image(64), **UNFOLDED), "mlp_torch_legacy_weightnorm")
    cnn = _normalized(_digits_trained(Cnn, IMAGE), "conv1", "depthwise", "conv2")
    save(legacy(cnn, image(*IMAGE), opset=18), "cnn_torch_legacy_weightnorm")
    save(dynamo(cnn, image(*IMAGE), optimize=True), "cnn_torch_dynamo_weightnorm")
    packed = _digits_trained(Cross, (8, 8))
    save(dynamo(packed, image(8, 8)), "cross_torch_dynamo_packed")
    model = legacy(SeparateCross(packed), image(8, 8), **UNFOLDED)
    save(model, "cross_torch_legacy_nofolding")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    make_data()
    make_cnn()
    make_others()
