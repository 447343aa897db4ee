"""The truth about the fixtures, made without the product.

Directions are drawn here from the published rules, for torch's own tensors; weights are edited
with plain onnx; outputs come from plain ONNX Runtime, and the loss from numpy in float64.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

HERE = Path(__file__).parent
SEED = 3
STEPS = (-0.5, 0.0, 0.5)

PROBABILITIES = {"mlp_keras_softmax", "mlp_skl2onnx_tensors"}
"""Fixtures whose last operator makes probabilities of the network's logits."""

WEIGHTS = {
    "autoencoder": ["encode"],
    "block": ["embed", "qkv", "project", "expand", "contract", "head"],
    "cnn": ["conv1 bn1", "depthwise bn2", "conv2 bn3", "fc1", "fc2"],
    "cross": ["q", "kv", "project", "fc"],
    "deconv": ["conv", "deconv bn groups=2", "conv2", "fc"],
    "densebn": ["fc1 bn", "fc2"],
    "encoder": [
        "layer.self_attn.in_proj_weight", "layer.self_attn.out_proj", "layer.linear1",
        "layer.linear2", "head",
    ],
    "mlp": ["fc1", "fc2"],
    "residual": ["stem", "depthwise bn1", "conv bn2", "shortcut bn3", "fc"],
    "sequence": ["conv bn", "fc1", "fc2"],
    "tied": ["fc1", "shared", "fc2"],
    "untrained": ["conv1 bn1", "depthwise bn2", "conv2 bn3", "fc1", "fc2"],
    "upsample": ["conv", "up bn groups=1", "conv2", "fc"],
}  # fmt: skip
"""Network to its weights in order of evaluation, the BatchNorm behind each, and the groups of
a ConvTranspose."""


class Truth:
    """What the fixtures' surfaces must be."""

    networks = tuple(WEIGHTS)
    steps = STEPS
    seed = SEED

    def plain(self, network):
        """Return the export with torch's names and shapes, all normalization apart."""
        return f"{network}_torch_legacy_nofolding" + ("_eval" if network == "cnn" else "")

    def samples(self):
        """Return the inputs [96, 1, 8, 8] and the labels."""
        return _samples()

    @functools.cache  # noqa: B019 - there is one
    def surface(self, network, normalize="filter", ignore="biasbn"):
        """Return the surface [n_beta, n_alpha] of a network."""
        file = self.plain(network)
        steps = [self._direction(network, axis, normalize, ignore) for axis in (0, 1)]
        return np.array([[self.loss_at(file, *steps, a, b) for a in STEPS] for b in STEPS])

    def loss_at(self, fixture, delta, eta, alpha, beta):
        """Return the loss of a file in which tensors of these names have moved."""
        tensors = _stored(fixture)[1]
        values = {
            name: (
                tensors[name].astype(np.float64)
                + alpha * delta.get(name, 0.0)
                + beta * eta.get(name, 0.0)
            ).astype(tensors[name].dtype)
            for name in delta.keys() | eta.keys()
        }
        return _loss(
            _edited(fixture, values),
            squared=fixture.startswith("autoencoder"),
            probabilities=fixture in PROBABILITIES,
        )

    def _direction(self, network, axis, normalize, ignore):
        tensors = _stored(self.plain(network))[1]
        with np.load(HERE / "weights" / f"{network}.npz") as arrays:
            trained = dict(arrays)
        drawn = {}
        for key, entry in enumerate(WEIGHTS[network]):
            name, *more = entry.split()
            groups = int(more.pop()[7:]) if more and more[-1].startswith("groups=") else None
            name = name if name.endswith("_weight") else f"{name}.weight"
            stream = np.random.Generator(
                np.random.Philox(np.random.SeedSequence((1, SEED, axis, key)))
            )
            scales = trained[f"{more[0]}.weight"] if more else None
            weight = tensors[name].astype(np.float64)
            drawn[name] = _drawn(weight, stream, groups, normalize, scales)
        if ignore == "none":
            rest = trained.keys() & tensors.keys() - drawn.keys()
            trainable = [name for name in rest if "running" not in name]
            drawn |= {name: tensors[name].astype(np.float64) for name in trainable}
        return drawn


def _drawn(weight, stream, groups, normalize, scales):
    """Return normalized noise of a weight as torch stores it."""
    where = list(_filters(weight, groups))
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


def _filters(weight, groups):
    """Yield where the filter of each output channel lies."""
    if groups is None:
        yield from ((channel,) for channel in range(len(weight)))
        return
    inputs, outputs = len(weight) // groups, weight.shape[1]
    for channel in range(groups * outputs):
        first = channel // outputs * inputs
        yield slice(first, first + inputs), channel % outputs


@functools.cache
def _samples():
    with np.load(HERE / "data.npz") as arrays:
        return arrays["x"], arrays["y"]


@functools.cache
def _stored(fixture):
    """Return a file's model, and by name all tensors that do not depend on its inputs."""
    model = onnx.load(HERE / "models" / f"{fixture}.onnx")
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif any(known[name].ndim > 1 for name in node.input if name in known) and all(
            name in known for name in node.input
        ):
            known |= _computed(model, node, known)
    return model, known


def _computed(model, node, known):
    tensors = [numpy_helper.from_array(known[name], name) for name in node.input]
    outputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in node.output
    ]
    graph = helper.make_graph([node], "node", [], outputs, tensors)
    alone = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4)
    )
    try:
        results = _session(alone).run(None, {})
    except Exception:  # noqa: BLE001 - a Shape, or what else gives no floats: no weight
        return {}
    return dict(zip(node.output, results, strict=True))


def _edited(fixture, values):
    model = onnx.ModelProto()
    model.CopyFrom(_stored(fixture)[0])
    left = dict(values)
    for tensor in model.graph.initializer:
        if tensor.name in left:
            tensor.CopyFrom(numpy_helper.from_array(left.pop(tensor.name), tensor.name))
    for node in model.graph.node:
        for number, name in enumerate(node.output):
            if name in left:
                node.output[number] = f"{name}/before"
                tensor = numpy_helper.from_array(left.pop(name), name)
                model.graph.initializer.append(tensor)
    assert not left, f"the file has no tensors {sorted(left)}"
    return model


def _session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _loss(model, *, squared, probabilities):
    session = _session(model)
    (signature,) = session.get_inputs()
    x, y = _samples()
    dtype = np.float64 if "double" in signature.type else np.float32
    # One channel: every layout is a reshape.
    fed = x.reshape(len(x), *signature.shape[1:]).astype(dtype)
    batch = signature.shape[0] if isinstance(signature.shape[0], int) else len(x)
    fed = np.concatenate([fed, np.repeat(fed[-1:], -len(fed) % batch, axis=0)])
    names = [output.name for output in session.get_outputs() if "int" not in output.type]
    parts = [
        session.run(names, {signature.name: fed[start : start + batch]})[0]
        for start in range(0, len(fed), batch)
    ]
    out = np.concatenate(parts)[: len(x)].astype(np.float64)
    if squared:
        return float(np.mean((out - x.reshape(len(x), -1)) ** 2))
    out = out.reshape(len(out), -1)  # pixels of a head that is a convolution
    if probabilities:
        return float(-np.mean(np.log(np.maximum(out[np.arange(len(y)), y], 1e-45))))
    largest = out.max(axis=1, keepdims=True)
    log_sum = largest[:, 0] + np.log(np.exp(out - largest).sum(axis=1))
    return float(np.mean(log_sum - out[np.arange(len(y)), y]))


@pytest.fixture(scope="session")
def truth():
    """What the fixtures' surfaces must be."""
    return Truth()
