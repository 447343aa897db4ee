"""Export the shared weights with flax (nnx) and jax2onnx.

    python tests/exporters/make_jax.py

The image layout is flax's own, channels last.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from fixture_files import save, weights
from flax import nnx
from jax2onnx import to_onnx


class Cnn(nnx.Module):
    """The small CNN."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 8, (3, 3), padding="SAME", rngs=rngs)
        self.bn1 = _norm(8, rngs)
        self.depthwise = nnx.Conv(
            8, 8, (3, 3), padding="SAME", feature_group_count=8, use_bias=False, rngs=rngs
        )
        self.bn2 = _norm(8, rngs)
        self.conv2 = nnx.Conv(8, 12, (3, 3), padding="SAME", use_bias=False, rngs=rngs)
        self.bn3 = _norm(12, rngs)
        self.fc1 = nnx.Linear(12, 16, rngs=rngs)
        self.fc2 = nnx.Linear(16, 10, use_bias=False, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.depthwise(x)))
        x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nnx.relu(self.bn3(self.conv2(x)))
        x = jnp.mean(x, axis=(1, 2))
        return self.fc2(nnx.relu(self.fc1(x)))


class Residual(nnx.Module):
    """Two branches that meet."""

    def __init__(self, rngs):
        same = {"padding": "SAME", "use_bias": False, "rngs": rngs}
        self.stem = nnx.Conv(1, 6, (3, 3), padding="SAME", rngs=rngs)
        self.depthwise = nnx.Conv(6, 12, (3, 3), feature_group_count=6, **same)
        self.bn1 = _norm(12, rngs)
        self.conv = nnx.Conv(12, 10, (3, 3), **same)
        self.bn2 = _norm(10, rngs)
        self.shortcut = nnx.Conv(6, 10, (1, 1), **same)
        self.bn3 = _norm(10, rngs)
        self.fc = nnx.Linear(10, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.stem(x))
        inner = nnx.relu(self.bn1(self.depthwise(x)))
        x = nnx.relu(self.bn2(self.conv(inner)) + self.bn3(self.shortcut(x)))
        return self.fc(jnp.mean(x, axis=(1, 2)))


class Block(nnx.Module):
    """Positions, attention, LayerNorm, a dense block."""

    def __init__(self, rngs):
        self.embed = nnx.Linear(8, 12, rngs=rngs)
        self.position = nnx.Param(jnp.zeros((1, 8, 12)))
        self.norm1 = nnx.LayerNorm(12, epsilon=1e-5, rngs=rngs)
        self.qkv = nnx.Linear(12, 36, rngs=rngs)
        self.project = nnx.Linear(12, 12, rngs=rngs)
        self.norm2 = nnx.LayerNorm(12, epsilon=1e-5, rngs=rngs)
        self.expand = nnx.Linear(12, 24, rngs=rngs)
        self.contract = nnx.Linear(24, 12, rngs=rngs)
        self.head = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x) + self.position[...]
        q, k, v = jnp.split(self.qkv(self.norm1(x)), 3, axis=-1)
        scores = jnp.matmul(q, jnp.transpose(k, (0, 2, 1))) / 12**0.5
        x = x + self.project(jnp.matmul(nnx.softmax(scores, axis=-1), v))
        inner = nnx.gelu(self.expand(self.norm2(x)), approximate=False)
        x = x + self.contract(inner)
        return self.head(jnp.mean(x, axis=1))


class Mlp(nnx.Module):
    """Two dense layers."""

    def __init__(self, rngs):
        self.fc1 = nnx.Linear(64, 16, rngs=rngs)
        self.fc2 = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc2(nnx.relu(self.fc1(x)))


class Densebn(nnx.Module):
    """A dense layer with BatchNorm, and one without."""

    def __init__(self, rngs):
        self.fc1 = nnx.Linear(64, 16, rngs=rngs)
        self.bn = _norm(16, rngs)
        self.fc2 = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc2(nnx.relu(self.bn(self.fc1(x))))


class Sequence(nnx.Module):
    """The network over the rows of a digit."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(8, 12, (3,), padding="SAME", use_bias=False, rngs=rngs)
        self.bn = _norm(12, rngs)
        self.fc1 = nnx.Linear(12, 14, rngs=rngs)
        self.fc2 = nnx.Linear(14, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn(self.conv(x)))
        return self.fc2(jnp.mean(nnx.relu(self.fc1(x)), axis=1))


def _norm(channels, rngs):
    return nnx.BatchNorm(channels, use_running_average=True, epsilon=1e-5, rngs=rngs)


def _with_weights(model, arrays):
    """Return a model with torch's arrays in it."""
    for layer_name, layer in vars(model).items():
        if isinstance(layer, nnx.BatchNorm):
            parts = {
                "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"
            }  # fmt: skip
            for ours, theirs in parts.items():
                getattr(layer, ours).set_value(jnp.asarray(arrays[f"{layer_name}.{theirs}"]))
        elif isinstance(layer, nnx.LayerNorm):
            layer.scale.set_value(jnp.asarray(arrays[f"{layer_name}.weight"]))
            layer.bias.set_value(jnp.asarray(arrays[f"{layer_name}.bias"]))
        elif isinstance(layer, nnx.Param):
            layer.set_value(jnp.asarray(arrays[layer_name]))
        elif isinstance(layer, nnx.Conv | nnx.Linear):
            kernel = arrays[f"{layer_name}.weight"]  # torch's [out, in, pixels..]
            order = (*range(2, kernel.ndim), 1, 0)
            layer.kernel.set_value(jnp.asarray(kernel.transpose(order)))
            if layer.bias is not None:
                layer.bias.set_value(jnp.asarray(arrays[f"{layer_name}.bias"]))
    return model


def plain_mlp():
    """Return the dense network as a function of arrays, without flax."""
    w = {name: jnp.asarray(array) for name, array in weights("mlp").items()}

    def function(x):
        hidden = jnp.maximum(x @ w["fc1.weight"].T + w["fc1.bias"], 0)
        return hidden @ w["fc2.weight"].T + w["fc2.bias"]

    return function


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    for kind, shape in (
        (Cnn, (8, 8, 1)),
        (Residual, (8, 8, 1)),
        (Block, (8, 8)),
        (Mlp, (64,)),
        (Densebn, (64,)),
        (Sequence, (8, 8)),
    ):
        name = kind.__name__.lower()
        model = _with_weights(kind(nnx.Rngs(0)), weights(name))
        save(to_onnx(model, [("B", *shape)]), f"{name}_jax2onnx")
    save(to_onnx(plain_mlp(), [("B", 64)]), "mlp_jax2onnx_plain")
