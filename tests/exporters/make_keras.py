"""Export the shared weights with Keras 3 and with tf2onnx.

    python tests/exporters/make_keras.py

The image layout is Keras's own, channels last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import onnx
import tensorflow as tf
import tf2onnx
from fixture_files import save, weights
from keras import layers

OPSET = 17
KERNEL = (2, 3, 1, 0)  # torch's [out, in, h, w] to [h, w, in, out]
NORM = ("weight", "bias", "running_mean", "running_var")


def cnn():
    """Return the small CNN with the weights that torch trained."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv1")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="bn1")(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="bn2")(x))
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="conv2")(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="bn3")(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(16, activation="relu", name="fc1")(x)
    model = keras.Model(inputs, layers.Dense(10, use_bias=False, name="fc2")(x), name="cnn")
    w = weights("cnn")
    model.get_layer("conv1").set_weights(
        [w["conv1.weight"].transpose(KERNEL), w["conv1.bias"]]
    )
    # Keras counts a depthwise kernel's channels as inputs: [h, w, channels, 1].
    model.get_layer("depthwise").set_weights([w["depthwise.weight"].transpose(2, 3, 0, 1)])
    model.get_layer("conv2").set_weights([w["conv2.weight"].transpose(KERNEL)])
    model.get_layer("fc1").set_weights([w["fc1.weight"].T, w["fc1.bias"]])
    model.get_layer("fc2").set_weights([w["fc2.weight"].T])
    for name in ("bn1", "bn2", "bn3"):
        model.get_layer(name).set_weights([w[f"{name}.{part}"] for part in NORM])
    return model


def mlp(*, softmax=False):
    """Return the dense network; with a softmax behind it as most Keras models have one."""
    inputs = keras.Input((64,), name="pixels")
    x = layers.Dense(16, activation="relu", name="fc1")(inputs)
    activation = "softmax" if softmax else None
    x = layers.Dense(10, activation=activation, name="fc2")(x)
    model = keras.Model(inputs, x, name="mlp")
    w = weights("mlp")
    for name in ("fc1", "fc2"):
        model.get_layer(name).set_weights([w[f"{name}.weight"].T, w[f"{name}.bias"]])
    return model


def residual():
    """Return the network of two branches."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(inputs)
    inner = layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=2, use_bias=False, name="depthwise"
    )(x)
    inner = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="bn1")(inner))
    inner = layers.Conv2D(10, 3, padding="same", use_bias=False, name="conv")(inner)
    inner = layers.BatchNormalization(epsilon=1e-5, name="bn2")(inner)
    x = layers.Conv2D(10, 1, use_bias=False, name="shortcut")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name="bn3")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([inner, x])))
    model = keras.Model(inputs, layers.Dense(10, name="fc")(x), name="residual")
    w = weights("residual")
    model.get_layer("stem").set_weights([w["stem.weight"].transpose(KERNEL), w["stem.bias"]])
    kernel = w["depthwise.weight"].reshape(6, 2, 3, 3).transpose(2, 3, 0, 1)
    model.get_layer("depthwise").set_weights([kernel])
    for name in ("conv", "shortcut"):
        model.get_layer(name).set_weights([w[f"{name}.weight"].transpose(KERNEL)])
    for name in ("bn1", "bn2", "bn3"):
        model.get_layer(name).set_weights([w[f"{name}.{part}"] for part in NORM])
    model.get_layer("fc").set_weights([w["fc.weight"].T, w["fc.bias"]])
    return model


def upsample():
    """Return the network with a transposed convolution."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.Conv2DTranspose(8, 2, strides=2, use_bias=False, name="up")(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="bn")(x))
    x = layers.Conv2D(10, 3, activation="relu", name="conv2")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="fc")(x), name="upsample")
    w = weights("upsample")
    for name in ("conv", "conv2"):
        model.get_layer(name).set_weights(
            [w[f"{name}.weight"].transpose(KERNEL), w[f"{name}.bias"]]
        )
    # [in, out, h, w] to [h, w, out, in]
    model.get_layer("up").set_weights([w["up.weight"].transpose(2, 3, 1, 0)])
    model.get_layer("bn").set_weights([w[f"bn.{part}"] for part in NORM])
    model.get_layer("fc").set_weights([w["fc.weight"].T, w["fc.bias"]])
    return model


class AddPosition(layers.Layer):
    """Adds a trained position to every token."""

    def __init__(self, position, **options):
        super().__init__(**options)
        self.position = self.add_weight(
            shape=position.shape, initializer=keras.initializers.Constant(position)
        )

    def call(self, x):
        return x + self.position


class Attention(layers.Layer):
    """One head of attention of queries, keys and values that stand side by side."""

    def call(self, qkv):
        q, k, v = keras.ops.split(qkv, 3, axis=-1)
        scores = keras.ops.matmul(q, keras.ops.transpose(k, (0, 2, 1))) / 12**0.5
        return keras.ops.matmul(keras.ops.softmax(scores), v)


class Gelu(layers.Layer):
    """The exact GELU; Keras's own uses an operator that tf2onnx does not know."""

    def call(self, x):
        return 0.5 * x * (1 + keras.ops.erf(x / 2**0.5))


def block():
    """Return the block of attention and dense layers."""
    w = weights("block")
    inputs = keras.Input((8, 8), name="rows")
    x = AddPosition(w["position"])(layers.Dense(12, name="embed")(inputs))
    inner = layers.LayerNormalization(epsilon=1e-5, name="norm1")(x)
    inner = Attention()(layers.Dense(36, name="qkv")(inner))
    x = layers.Add()([x, layers.Dense(12, name="project")(inner)])
    inner = layers.LayerNormalization(epsilon=1e-5, name="norm2")(x)
    inner = Gelu()(layers.Dense(24, name="expand")(inner))
    x = layers.Add()([x, layers.Dense(12, name="contract")(inner)])
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="head")(x), name="block")
    for name in ("embed", "qkv", "project", "expand", "contract", "head"):
        model.get_layer(name).set_weights([w[f"{name}.weight"].T, w[f"{name}.bias"]])
    for name in ("norm1", "norm2"):
        model.get_layer(name).set_weights([w[f"{name}.weight"], w[f"{name}.bias"]])
    return model


def densebn():
    """Return the dense network with BatchNorm."""
    inputs = keras.Input((64,), name="pixels")
    x = layers.Dense(16, name="fc1")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="bn")(x))
    model = keras.Model(inputs, layers.Dense(10, name="fc2")(x), name="densebn")
    w = weights("densebn")
    for name in ("fc1", "fc2"):
        model.get_layer(name).set_weights([w[f"{name}.weight"].T, w[f"{name}.bias"]])
    model.get_layer("bn").set_weights([w[f"bn.{part}"] for part in NORM])
    return model


def sequence():
    """Return the network over the rows of a digit."""
    inputs = keras.Input((8, 8), name="rows")
    x = layers.Conv1D(12, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="bn")(x))
    x = layers.Dense(14, activation="relu", name="fc1")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="fc2")(x), name="sequence")
    w = weights("sequence")
    model.get_layer("conv").set_weights([w["conv.weight"].transpose(2, 1, 0)])
    model.get_layer("bn").set_weights([w[f"bn.{part}"] for part in NORM])
    for name in ("fc1", "fc2"):
        model.get_layer(name).set_weights([w[f"{name}.weight"].T, w[f"{name}.bias"]])
    return model


def exported(model):
    """Return what Keras's own exporter makes of a model."""
    model(tf.zeros((1, *model.input_shape[1:])))  # it exports only what was called once
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.export(path, format="onnx", verbose=False)
        return onnx.load(path)


def converted(model):
    """Return what tf2onnx makes of a model wrapped into a tf.function."""
    shape = (None, *model.input_shape[1:])
    signature = [tf.TensorSpec(shape, tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), signature)
    proto, _ = tf2onnx.convert.from_function(function, signature, opset=OPSET)
    return proto


def saved(model):
    """Return what tf2onnx's command makes of a SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        return _commanded("--saved-model", folder)


def lite(model):
    """Return what tf2onnx's command makes of a TensorFlow Lite file."""
    with tempfile.TemporaryDirectory() as folder:
        saved_model, path = Path(folder) / "saved", Path(folder) / "model.tflite"
        model.export(saved_model, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
        path.write_bytes(converter.convert())
        return _commanded("--tflite", str(path))


def _commanded(*source):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        command = [sys.executable, "-m", "tf2onnx.convert", *source]
        options = ["--output", str(path), "--opset", str(OPSET)]
        subprocess.run([*command, *options], check=True, capture_output=True)
        return onnx.load(path)


if __name__ == "__main__":
    for kind, roads in (
        (cnn, "export function savedmodel tflite"),
        (mlp, "export function savedmodel tflite"),
        (residual, "export tflite"),
        (upsample, "export tflite"),
        (densebn, "export tflite"),
        (sequence, "export savedmodel tflite"),
        (block, "export"),
    ):
        model = kind()
        for road in roads.split():
            if road == "export":
                save(exported(model), f"{model.name}_keras_export")
            else:
                convert = {"function": converted, "savedmodel": saved, "tflite": lite}[road]
                save(convert(model), f"{model.name}_tf2onnx_{road}")
    save(exported(mlp(softmax=True)), "mlp_keras_softmax")
