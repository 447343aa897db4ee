"""Train a Keras model, export it to ONNX, and have its landscape computed by a server.

    python landscape.py [--server HOST:PORT] [--grid 9x9] [--out shapes.h5]

TensorFlow is needed here only: the server gets an ONNX file and arrays. The data are made
up on the spot: pictures of bars, crosses and frames in noise. A token is taken from
ONNXSCAPE_TOKEN, a certificate authority's file from ONNXSCAPE_TLS_CA.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from keras import layers

import onnxscape as ox

SIDE = 12
SHAPES = ("horizontal bar", "vertical bar", "cross", "frame")


def make_pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw shapes at random places, in noise.

    Args:
        count: Number of pictures.
        seed: Of everything random.

    Returns:
        Pictures, float32 [count, 12, 12, 1], and the numbers of their shapes, int64 [count].
    """
    random = np.random.default_rng(seed)
    pictures = random.normal(0.0, 0.3, (count, SIDE, SIDE, 1)).astype(np.float32)
    kinds = random.integers(len(SHAPES), size=count)
    for picture, kind in zip(pictures[..., 0], kinds, strict=True):
        top, left = random.integers(0, SIDE - 6, 2)
        square = picture[top : top + 7, left : left + 7]  # a view: written through
        if kind in {0, 2}:
            square[3] += 1.0
        if kind in {1, 2}:
            square[:, 3] += 1.0
        if kind == 3:
            square[[0, -1]] += 1.0
            square[1:-1, [0, -1]] += 1.0
    return pictures, kinds


def train(pictures: np.ndarray, kinds: np.ndarray) -> keras.Model:
    """Train a small network.

    Args:
        pictures: float32 [count, 12, 12, 1].
        kinds: Numbers of their shapes, int64 [count].

    Returns:
        The network.
    """
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="picture"),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(len(SHAPES), name="logits"),
        ],
        name="shapes",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])
    model.fit(pictures, kinds, batch_size=64, epochs=8, verbose=0)
    return model


def main() -> int:
    """Run the command line.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--grid", default="9x9")
    parser.add_argument("--out", type=Path, default=Path("shapes.h5"))
    chosen = parser.parse_args()

    pictures, kinds = make_pictures(1000, seed=0)
    model = train(pictures, kinds)
    loss, accuracy = model.evaluate(pictures, kinds, verbose=0)
    print(f"trained: loss {loss:.6g}, accuracy {accuracy:.2%}")

    security = {
        "token": os.environ.get("ONNXSCAPE_TOKEN"),
        "tls_ca": os.environ.get("ONNXSCAPE_TLS_CA"),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        ox.Client(chosen.server, **security) as client,
    ):
        path = Path(folder) / "shapes.onnx"
        model.export(path, format="onnx", verbose=False)
        job = client.submit(path, (pictures, kinds), grid=chosen.grid, loss="cross-entropy")
        print(f"ordered: {job}")
        landscape = job.landscape()  # waits
    landscape.save(chosen.out)
    print(f"{landscape}, written to {chosen.out}")
    if not np.isclose(landscape.center["loss"], loss, rtol=1e-4, atol=1e-6):
        print(f"expected Keras' own loss at the center, {loss}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
