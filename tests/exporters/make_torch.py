"""Train the networks (where their weights are missing) and export them with torch.

    python tests/exporters/make_torch.py

Delete weights/*.npz to train anew.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from fixture_files import (
    WEIGHTS,
    make_data,
    save,
    save_with_external_data,
    training_digits,
    weights,
)
from torch.nn import functional
from torch.nn.utils import parametrizations
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

EXAMPLES = 3


def _normalized(network, *names):
    """Return a network some of whose weights the graph computes, from length and angle."""
    for name in names:
        parametrizations.weight_norm(getattr(network, name))
    return network


def _trained(kind, shape):
    """Return a network with its weights from the file, or trained and written there."""
    torch.manual_seed(0)
    network = kind()
    path = WEIGHTS / f"{kind.__name__.lower()}.npz"
    if not path.exists():
        _train(network, shape)
        state = {k: v.numpy() for k, v in network.state_dict().items()}
        np.savez_compressed(path, **{k: v for k, v in state.items() if v.dtype.kind == "f"})
    state = {k: torch.from_numpy(v) for k, v in weights(kind.__name__.lower()).items()}
    network.load_state_dict(state, strict=False)
    return network.eval()


def _train(network, shape, *, steps=400, batch=128):
    if isinstance(network, Untrained):
        return
    x, y = (torch.from_numpy(array) for array in training_digits())
    x = x.reshape(-1, *shape)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    regression = isinstance(network, Autoencoder)
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,))
        optimizer.zero_grad()
        out = network(x[chosen])
        out = out.flatten(1)
        loss = (
            functional.mse_loss(out, x[chosen])
            if regression
            else functional.cross_entropy(out, y[chosen])
        )
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"trained {type(network).__name__}: loss {loss.item():.3f} on the last batch")


def _legacy(network, shape, *, batch=None, opset=17, **options):
    """Return what torch's TorchScript exporter makes of a network."""
    return _exported(
        network,
        shape,
        batch,
        dynamo=False,
        opset_version=opset,
        dynamic_axes=None if batch else {"input": {0: "batch"}, "out": {0: "batch"}},
        **options,
    )


def _dynamo(network, shape, *, batch=None, **options):
    """Return what torch's torch.export-based exporter makes of a network."""
    return _exported(
        network,
        shape,
        batch,
        dynamo=True,
        verbose=False,
        dynamic_shapes=None if batch else ({0: torch.export.Dim("batch")},),
        **options,
    )


def _exported(network, shape, batch, **options):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(batch or EXAMPLES, *shape),),
            str(path),
            input_names=["input"],
            output_names=["out"],
            **options,
        )
        return onnx.load(path)


def make_cnn():
    """The small CNN by every road that torch has."""
    shape = (1, 8, 8)
    mode = torch.onnx.TrainingMode
    cnn = _trained(Cnn, shape)
    for folding in (True, False):
        name = "folding" if folding else "nofolding"
        for training in ("eval", "preserve"):
            options = {
                "do_constant_folding": folding,
                "training": getattr(mode, training.upper()),
            }
            save(_legacy(cnn, shape, **options), f"cnn_torch_legacy_{name}_{training}")
    cnn.train()
    save(_legacy(cnn, shape, training=mode.PRESERVE), "cnn_torch_legacy_training")
    cnn.load_state_dict(_trained(Cnn, shape).state_dict())
    cnn.eval()
    save(_legacy(cnn, shape, opset=11), "cnn_torch_legacy_opset11")
    save(_legacy(cnn, shape, opset=9), "cnn_torch_legacy_opset9")
    save(_legacy(cnn, shape, keep_initializers_as_inputs=True), "cnn_torch_legacy_inputs")
    save(_legacy(cnn, shape, batch=1), "cnn_torch_legacy_batch1")
    for optimize in (True, False):
        name = f"cnn_torch_dynamo_{'optimized' if optimize else 'plain'}"
        model = _dynamo(cnn, shape, optimize=optimize, external_data=False)
        save(model, name)
        model = _dynamo(cnn, shape, optimize=optimize, external_data=True)
        save_with_external_data(model, f"{name}_external")
    model = _dynamo(cnn, shape, optimize=True, external_data=False, batch=5)
    save(model, "cnn_torch_dynamo_batch5")


UNFOLDED = {
    "do_constant_folding": False,
    "training": torch.onnx.TrainingMode.PRESERVE,
}
ROADS = {
    "legacy_folding": _legacy,
    "legacy_nofolding": lambda network, shape: _legacy(network, shape, **UNFOLDED),
    "dynamo_optimized": lambda network, shape: _dynamo(network, shape, external_data=False),
    "dynamo_plain": lambda network, shape: _dynamo(
        network, shape, optimize=False, external_data=False
    ),
}


def make_others():
    """The other networks, each by the roads on which its file looks different."""
    every = tuple(ROADS)
    for kind, shape, roads in (
        (Residual, (1, 8, 8), every),
        (Untrained, (1, 8, 8), every),
        (Deconv, (1, 8, 8), every[1:]),
        (Upsample, (1, 8, 8), every[1:]),
        (Convhead, (1, 8, 8), every[1:2]),
        (Densebn, (64,), every[1:]),
        (Sequence, (8, 8), every),
        (Mlp, (64,), every[1:3]),
        (Tied, (64,), every[1:3]),
        (Autoencoder, (64,), every[1:]),
        (Block, (8, 8), every),
        (Encoder, (8, 8), every[1:3]),
    ):
        for road in roads:
            model = ROADS[road](_trained(kind, shape), shape)
            save(model, f"{kind.__name__.lower()}_torch_{road}")
    block = _trained(Block, (8, 8))
    save(_legacy(block, (8, 8), opset=13), "block_torch_legacy_opset13")
    mlp = _normalized(_trained(Mlp, (64,)), "fc1", "fc2")
    save(_legacy(mlp, (64,)), "mlp_torch_legacy_weightnorm_folding")
    save(_legacy(mlp, (64,), **UNFOLDED), "mlp_torch_legacy_weightnorm")
    cnn = _normalized(_trained(Cnn, (1, 8, 8)), "conv1", "depthwise", "conv2")
    save(_legacy(cnn, (1, 8, 8), opset=18), "cnn_torch_legacy_weightnorm")
    model = _dynamo(cnn, (1, 8, 8), optimize=True, external_data=False)
    save(model, "cnn_torch_dynamo_weightnorm")
    packed = _trained(Cross, (8, 8))
    save(_dynamo(packed, (8, 8), external_data=False), "cross_torch_dynamo_packed")
    save(_legacy(SeparateCross(packed), (8, 8), **UNFOLDED), "cross_torch_legacy_nofolding")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    make_data()
    make_cnn()
    make_others()
