"""Where the fixtures lie, and how the scripts that make them read and write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from fixture_tasks import text

HERE = Path(__file__).parent
MODELS = HERE / "models"
WEIGHTS = HERE / "weights"
DATA = HERE / "data.npz"
TEXT = HERE / "text.npz"
DIGITS = HERE.parents[1] / "onnxscape" / "data" / "digits.npz"

SAMPLES = 96
MAX_BYTES = 60_000


def make_data():
    """Write the samples that all fixtures are evaluated on: the last digits of the set."""
    with np.load(DIGITS) as digits:
        x = digits["x"][-SAMPLES:].astype(np.float32)[:, None] / 16
        y = digits["y"][-SAMPLES:].astype(np.int64)
    np.savez_compressed(DATA, x=x, y=y)


def make_text():
    """Write the sentences that the language models are evaluated on."""
    ids, mask = text(SAMPLES, seed=2)
    np.savez_compressed(TEXT, input_ids=ids, attention_mask=mask)


def training_digits():
    """Return the digits that are not among the samples, as the samples are."""
    with np.load(DIGITS) as digits:
        x = digits["x"][:-SAMPLES].astype(np.float32)[:, None] / 16
        y = digits["y"][:-SAMPLES].astype(np.int64)
    return x, y


def weights(network):
    """Return the trained arrays of a network by their torch names."""
    with np.load(WEIGHTS / f"{network}.npz") as arrays:
        return dict(arrays)


def save(model, name):
    """Write a fixture without what exporters note about the machine they ran on."""
    _anonymize(model)
    path = MODELS / f"{name}.onnx"
    onnx.save(model, path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{path.name} has {size} bytes, more than {MAX_BYTES}")
    print(f"{path.name}: {size} bytes")


def save_with_external_data(model, name):
    """Write a fixture whose weights stand in `name.onnx.data` beside it."""
    _anonymize(model)
    beside = f"{name}.onnx.data"
    (MODELS / beside).unlink(missing_ok=True)  # onnx appends to what is there
    onnx.save_model(
        model,
        MODELS / f"{name}.onnx",
        save_as_external_data=True,
        location=beside,
        size_threshold=256,
    )
    print(f"{name}.onnx with {beside}")


def _anonymize(model):
    # Stack traces in the metadata hold paths of the machine, and are most of the file.
    _clear(model)
    for function in model.functions:
        _clear(function)
        _anonymize_nodes(function.node)
    _anonymize_graph(model.graph)


def _anonymize_graph(graph):
    for part in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        _clear(part)
    _anonymize_nodes(graph.node)


def _anonymize_nodes(nodes):
    for node in nodes:
        _clear(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _anonymize_graph(attribute.g)


def _clear(part):
    part.doc_string = ""
    del part.metadata_props[:]
