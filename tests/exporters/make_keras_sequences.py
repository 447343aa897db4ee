"""Export the recurrent networks and the attention with Keras 3 and with tf2onnx.

    python tests/exporters/make_keras_sequences.py

Both know an LSTM; of other recurrent layers they make a Loop that carries the weights along.
"""

from __future__ import annotations

import keras
import numpy as np
from fixture_files import save, weights
from fixture_tasks import LEVELS
from keras import layers
from make_keras import converted, exported


def gates(array, order):
    """Return torch's [gates * hidden, inputs] as Keras has it: [inputs, gates * hidden]."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[place] for place in order]).T


def lstm(**options):
    """Return the LSTM that reads from both ends."""
    inputs = keras.Input((8, 8), name="rows")
    layer = layers.LSTM(7, return_sequences=True, **options)
    x = layers.Bidirectional(layer, name="lstm")(inputs)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="fc")(x), name="lstm")
    w = weights("lstm")
    arrays = []
    for end in ("l0", "l0_reverse"):
        bias = w[f"lstm.bias_ih_{end}"] + w[f"lstm.bias_hh_{end}"]
        arrays += [w[f"lstm.weight_ih_{end}"].T, w[f"lstm.weight_hh_{end}"].T, bias]
    model.get_layer("lstm").set_weights(arrays)
    return _with_head(model, w)


def gru(**options):
    """Return the GRU."""
    inputs = keras.Input((8, 8), name="rows")
    x = layers.GRU(10, return_sequences=True, name="gru", **options)(inputs)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="fc")(x), name="gru")
    w = weights("gru")
    order = (1, 0, 2)  # torch: reset, update, new; Keras: update, reset, new
    biases = [gates(w[f"gru.bias_{kind}_l0"][:, None], order)[0] for kind in ("ih", "hh")]
    arrays = [gates(w[f"gru.weight_{kind}_l0"], order) for kind in ("ih", "hh")]
    model.get_layer("gru").set_weights([*arrays, np.stack(biases)])
    return _with_head(model, w)


def rnn(**options):
    """Return the plain recurrent network."""
    inputs = keras.Input((8, 8), name="rows")
    x = layers.SimpleRNN(12, name="rnn", **options)(inputs)
    model = keras.Model(inputs, layers.Dense(10, name="fc")(x), name="rnn")
    w = weights("rnn")
    bias = w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"]
    arrays = [w["rnn.weight_ih_l0"].T, w["rnn.weight_hh_l0"].T, bias]
    model.get_layer("rnn").set_weights(arrays)
    return _with_head(model, w)


class Attention(layers.Layer):
    """Attention of two heads whose dense layers are Keras's EinsumDense."""

    def __init__(self, arrays, **options):
        super().__init__(**options)
        self.parts = {}
        for name in ("query", "key", "value"):
            self.parts[name] = self._dense("bti,ihd->bhtd", (2, None, 5), arrays[name])
        self.join = self._dense("bhtd,hdo->bto", (None, 12), arrays["join"])

    @staticmethod
    def _dense(equation, shape, array):
        kernel = keras.initializers.Constant(array)
        return layers.EinsumDense(equation, shape, kernel_initializer=kernel)

    def call(self, x):
        q, k, v = (self.parts[name](x) for name in ("query", "key", "value"))
        scores = keras.ops.einsum("bhtd,bhsd->bhts", q, k) / 5**0.5
        attended = keras.ops.einsum("bhts,bhsd->bhtd", keras.ops.softmax(scores), v)
        return keras.ops.tanh(self.join(attended))


def einsum():
    """Return the attention of two heads."""
    inputs = keras.Input((8, 8), name="rows")
    w = weights("einsum")
    x = layers.GlobalAveragePooling1D()(Attention(w)(inputs))
    model = keras.Model(inputs, layers.Dense(10, name="fc")(x), name="einsum")
    return _with_head(model, w)


def bag():
    """Return the mean of embeddings."""
    inputs = keras.Input((64,), dtype="int32", name="input_ids")
    x = layers.Embedding(64 * LEVELS, 6, name="embed")(inputs)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="fc")(x), name="bag")
    w = weights("bag")
    model.get_layer("embed").set_weights([w["embed.weight"]])
    return _with_head(model, w)


def _with_head(model, w):
    model.get_layer("fc").set_weights([w["fc.weight"].T, w["fc.bias"]])
    return model


if __name__ == "__main__":
    for kind in (lstm, gru, rnn, einsum, bag):
        save(exported(kind()), f"{kind.__name__}_keras_export")
    save(exported(rnn(unroll=True)), "rnn_keras_unrolled")
    save(converted(lstm(use_cudnn=False)), "lstm_tf2onnx_function")
