"""How the scripts train with torch, and the roads on which torch exports."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from fixture_files import WEIGHTS, training_digits, weights
from torch.nn import functional

EXAMPLES = 3
EVAL, PRESERVE, TRAINING = (
    getattr(torch.onnx.TrainingMode, name) for name in ("EVAL", "PRESERVE", "TRAINING")
)
UNFOLDED = {"do_constant_folding": False, "training": PRESERVE}


def digits(*shape):
    """Return the digits to train on as tensors: inputs of a shape, and labels."""
    x, y = (torch.from_numpy(array) for array in training_digits())
    return (x.reshape(-1, *shape),), y


def trained(kind, data, *, loss=functional.cross_entropy, steps=400):
    """Return a network with its weights from the file, or trained and written there.

    Args:
        kind: The network's class.
        data: Inputs and labels to train on; None to leave it untrained.
        loss: Of output and labels.
        steps: Steps of training.
    """
    torch.manual_seed(0)
    network = kind()
    path = WEIGHTS / f"{kind.__name__.lower()}.npz"
    if not path.exists():
        if data is not None:
            _train(network, data, loss, steps)
        state = {k: v.numpy() for k, v in network.state_dict().items()}
        np.savez_compressed(path, **{k: v for k, v in state.items() if v.dtype.kind == "f"})
    state = {k: torch.from_numpy(v) for k, v in weights(kind.__name__.lower()).items()}
    network.load_state_dict(state, strict=False)
    return network.eval()


def _train(network, data, loss_of, steps, batch=128):
    inputs, labels = data
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch,))
        optimizer.zero_grad()
        loss = loss_of(network(*(array[chosen] for array in inputs)), labels[chosen])
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"trained {type(network).__name__}: loss {loss.item():.3f} on the last batch")


def legacy(network, *examples, batch=True, axes=None, names=None, opset=17, **options):
    """Return what torch's TorchScript exporter makes of a network.

    Args:
        network: The network.
        examples: One input each.
        batch: Whether the batch size is left open.
        axes: Further open axes by number.
        names: Names of inputs and of outputs.
        opset: Version of the operators.
        options: Others of torch.onnx.export.
    """
    inputs, outputs = names or (("input",), ("out",))
    open_axes = ({0: "batch"} if batch else {}) | (axes or {})
    return _exported(
        network,
        examples,
        inputs,
        outputs,
        dynamo=False,
        opset_version=opset,
        dynamic_axes=dict.fromkeys((*inputs, *outputs), open_axes) if open_axes else None,
        **options,
    )


def dynamo(network, *examples, batch=True, axes=None, names=None, **options):
    """Return what torch's torch.export-based exporter makes of a network, as `legacy` does."""
    inputs, outputs = names or (("input",), ("out",))
    open_axes = ({0: "batch"} if batch else {}) | (axes or {})
    sizes = {axis: torch.export.Dim(name) for axis, name in open_axes.items()}
    return _exported(
        network,
        examples,
        inputs,
        outputs,
        dynamo=True,
        verbose=False,
        dynamic_shapes=tuple(sizes for _ in inputs) if sizes else None,
        **{"external_data": False} | options,
    )


def _exported(network, examples, inputs, outputs, **options):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network,
            examples,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            **options,
        )
        return onnx.load(path)


def image(*shape, batch=EXAMPLES):
    """Return an example of the networks' usual input."""
    return torch.zeros(batch, *shape)


ROADS = {
    "legacy_folding": legacy,
    "legacy_nofolding": lambda network, *examples, **how: legacy(
        network, *examples, **UNFOLDED, **how
    ),
    "dynamo_optimized": dynamo,
    "dynamo_plain": lambda network, *examples, **how: dynamo(
        network, *examples, optimize=False, **how
    ),
}
"""Name to what exports by it."""
