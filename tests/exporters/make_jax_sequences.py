"""Export the recurrent networks, attention and a GPT written in jax with jax2onnx.

    python tests/exporters/make_jax_sequences.py

A scan over the steps becomes a Scan or a Loop; einsum becomes what jax makes of it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from fixture_files import save, weights
from jax2onnx import to_onnx


def arrays(network):
    """Return the trained arrays of a network."""
    return {name: jnp.asarray(array) for name, array in weights(network).items()}


def rnn():
    """Return the plain recurrent network."""
    w = arrays("rnn")
    bias = w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"]

    def function(x):
        def step(state, row):
            new = row @ w["rnn.weight_ih_l0"].T + state @ w["rnn.weight_hh_l0"].T
            return jnp.tanh(new + bias), None

        start = jnp.zeros((x.shape[0], 12), dtype=x.dtype)
        state, _ = jax.lax.scan(step, start, jnp.transpose(x, (1, 0, 2)))
        return state @ w["fc.weight"].T + w["fc.bias"]

    return function


def gru():
    """Return the GRU, its gates in torch's order."""
    w = arrays("gru")

    def function(x):
        def step(state, row):
            ours = row @ w["gru.weight_ih_l0"].T + w["gru.bias_ih_l0"]
            back = state @ w["gru.weight_hh_l0"].T + w["gru.bias_hh_l0"]
            (r1, z1, n1), (r2, z2, n2) = jnp.split(ours, 3, 1), jnp.split(back, 3, 1)
            r, z = jax.nn.sigmoid(r1 + r2), jax.nn.sigmoid(z1 + z2)
            new = (1 - z) * jnp.tanh(n1 + r * n2) + z * state
            return new, new

        start = jnp.zeros((x.shape[0], 10), dtype=x.dtype)
        _, states = jax.lax.scan(step, start, jnp.transpose(x, (1, 0, 2)))
        return jnp.mean(states, axis=0) @ w["fc.weight"].T + w["fc.bias"]

    return function


def einsum():
    """Return the attention of two heads."""
    w = arrays("einsum")

    def function(x):
        q, k, v = (
            jnp.einsum("bti,ihd->bhtd", x, w[name]) for name in ("query", "key", "value")
        )
        scores = jax.nn.softmax(jnp.einsum("bhtd,bhsd->bhts", q, k) / 5**0.5, axis=-1)
        attended = jnp.einsum("bhts,bhsd->bhtd", scores, v)
        joined = jnp.tanh(jnp.einsum("bhtd,hdo->bto", attended, w["join"]))
        return jnp.mean(joined, axis=1) @ w["fc.weight"].T + w["fc.bias"]

    return function


def gptuntied():
    """Return the GPT with an output layer of its own, for sentences of full length."""
    w = arrays("gptuntied")

    def norm(x, name):
        centered = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centered**2, axis=-1, keepdims=True)
        scaled = centered / jnp.sqrt(variance + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def attended(x):
        parts = dense(x, "qkv").reshape(x.shape[0], 12, 3, 2, 8)
        q, k, v = (jnp.transpose(parts[:, :, place], (0, 2, 1, 3)) for place in range(3))
        scores = jnp.matmul(q, jnp.transpose(k, (0, 1, 3, 2))) / 8**0.5
        seen = jnp.tril(jnp.ones((12, 12), dtype=bool))
        scores = jax.nn.softmax(jnp.where(seen, scores, -1e9), axis=-1)
        mixed = jnp.transpose(jnp.matmul(scores, v), (0, 2, 1, 3))
        return dense(mixed.reshape(x.shape[0], 12, 16), "project")

    def function(ids):
        places = jnp.arange(12)
        x = jnp.take(w["wte.weight"], ids, axis=0) + jnp.take(w["wpe.weight"], places, axis=0)
        x = x + attended(norm(x, "norm1"))
        inner = jax.nn.gelu(dense(norm(x, "norm2"), "expand"), approximate=False)
        x = x + dense(inner, "contract")
        return norm(x, "norm") @ w["head.weight"].T

    return function


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    for kind in (rnn, gru, einsum):
        save(to_onnx(kind(), [("B", 8, 8)]), f"{kind.__name__}_jax2onnx")
    ids = jax.ShapeDtypeStruct(("B", 12), jnp.int32)
    save(to_onnx(gptuntied(), [ids]), "gptuntied_jax2onnx")
