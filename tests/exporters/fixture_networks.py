"""The fixtures' networks: which weights each has, and what each is evaluated on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fixture_losses as losses
import numpy as np
from fixture_tasks import boxes, centers, properties, regions, tokens

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Weight:
    """A weight as the plain export of its network has it.

    Attributes:
        name: Its name there.
        norm: torch's name of the BatchNorm behind it.
        groups: Groups of a ConvTranspose.
        axes: Axes that count filters.
    """

    name: str
    norm: str | None = None
    groups: int | None = None
    axes: tuple[int, ...] = (0,)


def _layers(*names):
    return tuple(Weight(f"{name}.weight") for name in names)


def _behind(name, norm, groups=None):
    return Weight(f"{name}.weight", norm, groups)


_GATES = (Weight("recurrent.W", axes=(0, 1)), Weight("recurrent.R", axes=(0, 1)))
_CNN = (
    _behind("conv1", "bn1"), _behind("depthwise", "bn2"), _behind("conv2", "bn3"),
    *_layers("fc1", "fc2"),
)  # fmt: skip
_HEADS = (
    *(Weight(name, axes=(1, 2)) for name in ("query", "key", "value")),
    Weight("join", axes=(2,)),
)
_GPT = _layers("wte", "wpe", "qkv", "project", "expand", "contract")

NETWORKS = {
    "across": _layers("fc1", "fc2"),
    "autoencoder": _layers("encode"),
    "bag": _layers("embed", "fc"),
    "block": _layers("embed", "qkv", "project", "expand", "contract", "head"),
    "cnn": _CNN,
    "convhead": _layers("conv1", "conv2"),
    "cross": _layers("q", "kv", "project", "fc"),
    "deconv": (_layers("conv")[0], _behind("deconv", "bn", 2), *_layers("conv2", "fc")),
    "densebn": (_behind("fc1", "bn"), *_layers("fc2")),
    "detect": _layers("conv", "fc", "scores"),
    "einsum": (*_HEADS, *_layers("fc")),
    "encoder": (
        Weight("layer.self_attn.in_proj_weight"),
        *_layers("layer.self_attn.out_proj", "layer.linear1", "layer.linear2", "head"),
    ),
    "gpt": _GPT,
    "gptmask": (*_GPT, *_layers("head")),
    "gptuntied": (*_GPT, *_layers("head")),
    "gru": (*_GATES, *_layers("fc")),
    "lstm": (*_GATES, *_layers("fc")),
    "mlp": _layers("fc1", "fc2"),
    "multilabel": _layers("fc1", "fc2"),
    "regress": _layers("fc1", "fc2"),
    "residual": (
        *_layers("stem"), _behind("depthwise", "bn1"), _behind("conv", "bn2"),
        _behind("shortcut", "bn3"), *_layers("fc"),
    ),
    "rnn": (*_GATES, *_layers("fc")),
    "segment": (_behind("down", "bn"), _behind("up", None, 1), *_layers("join")),
    "sequence": (_behind("conv", "bn"), *_layers("fc1", "fc2")),
    "tied": _layers("fc1", "shared", "fc2"),
    "uniform": (*_layers("fc1"), Weight("between"), *_layers("fc2")),
    "untrained": _CNN,
    "upsample": (_layers("conv")[0], _behind("up", "bn", 1), *_layers("conv2", "fc")),
}  # fmt: skip
"""Network to its weights in order of evaluation."""

PLAIN = {
    "cnn": "cnn_torch_legacy_nofolding_eval",
    "uniform": "uniform_handmade_plain",
} | {network: f"{network}_torch_legacy_named" for network in ("gru", "lstm", "rnn")}
"""Network to its export with torch's shapes and a name for each weight, if of another name."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a fixture is evaluated on.

    Attributes:
        inputs: Arrays by input name; under None what any other input takes.
        labels: Labels; None if there are none.
        loss: From an output and the labels to the loss.
        output: Name of the output; None for the first.
        options: What onnxscape has to be told besides.
    """

    inputs: dict[str | None, Any]
    labels: Any
    loss: Any = losses.cross_entropy
    output: str | None = None
    options: Any = None

    def data(self, names):
        """Return what onnxscape is given for a file with inputs of these names."""
        if set(self.inputs) == {None} and self.labels is not None:
            return (self.inputs[None], self.labels)
        (rest,) = set(names) - set(self.inputs)
        named = {rest if name is None else name: array for name, array in self.inputs.items()}
        return named if self.labels is None else named | {"y": self.labels}

    def feed(self, value):
        """Return what an input of plain ONNX Runtime takes."""
        array = self.inputs.get(value.name, self.inputs.get(None))
        rest = value.shape[1:]
        if all(isinstance(size, int) for size in rest):  # one channel: any layout is a reshape
            array = array.reshape(len(array), *rest)
        return array.astype(KINDS[value.type])


KINDS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@functools.cache
def samples():
    """Return the digits [96, 1, 8, 8] and their labels."""
    with np.load(HERE / "data.npz") as arrays:
        return arrays["x"], arrays["y"]


@functools.cache
def task_of(fixture):
    """Return what a fixture is evaluated on."""
    network, *road = fixture.split("_")
    if network.startswith("gpt"):
        return _text_task(network)
    if network in _TASKS:
        return _TASKS[network](*samples(), road)
    return _ending(*samples(), road)


def _valued(labels_of):
    def task(x, y, _road):
        return Task({None: x}, labels_of(x, y), losses.mse, options={"loss": "mse"})

    return task


def _several_labels(x, y, road):
    name = "bce-with-logits" if "logits" in road else "bce"
    loss = losses.bce_with_logits if "logits" in road else losses.bce
    return Task({None: x}, properties(y), loss, options={"loss": name})


_TASKS = {
    "across": _valued(lambda x, _: centers(x)[:, :1]),
    "autoencoder": _valued(lambda x, _: x.reshape(len(x), -1)),
    "bag": lambda x, y, _: Task({None: tokens(x)}, y),
    "detect": lambda x, y, _: Task({None: x}, y, output="scores", options=_SCORES),
    "multilabel": _several_labels,
    "regress": _valued(lambda x, _: centers(x)),
    "segment": lambda x, _y, _: Task({None: x}, regions(x), options=_CLASSES),
}
"""Network to its task, from the digits, their labels and the road; the others classify."""

_CLASSES = {"loss": "cross-entropy"}
_SCORES = {"output": "scores"}


def _text_task(network):
    with np.load(HERE / "text.npz") as arrays:
        ids, mask = arrays["input_ids"], arrays["attention_mask"]
    inputs = {None: ids}
    if network == "gptmask":
        inputs["attention_mask"] = mask
    else:
        mask = np.ones_like(ids)

    def loss(logits, _):
        return losses.next_token(logits, ids, mask)

    return Task(inputs, None, loss, options={"loss": "next-token"})


def _ending(x, y, road):
    last = road[-1]
    if last in {"softmax", "tensors", "zipmap"}:
        output = {"tensors": "probabilities", "zipmap": "output_probability"}.get(last)
        return Task(
            {None: x}, y, losses.log_loss, output, {"loss": "log-loss", "output": output}
        )
    if last == "logsoftmax":
        return Task({None: x}, y, losses.nll, options={"loss": "nll"})
    if last in {"ownloss", "meanloss"}:
        inputs = {None: x, "labels": y}
        return Task(inputs, None, losses.mean, options={"loss": "none"})
    return Task({None: x}, y)


def boxes_task():
    """Return what the second output of the detection is evaluated on."""
    x, _ = samples()
    options = {"loss": "mse", "output": "boxes"}
    return Task({None: x}, boxes(x), losses.mse, "boxes", options)
