"""A model with inputs of several kinds, on the same data from files of several kinds."""

from __future__ import annotations

import h5py
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxscape as ox

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(50, 8)).astype(np.float32)
LAYER = RANDOM.normal(size=(8, 3)).astype(np.float32)
IDS = RANDOM.integers(0, 50, (40, 6))
MASK = RANDOM.random((40, 6)) < 0.7
LABELS = RANDOM.integers(0, 3, 40)
TEMPERATURE = np.float32(0.5)


@pytest.fixture(scope="module")
def model():
    """Embeds tokens, adds those that a mask leaves up, and divides by a temperature."""
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Gather", ["table", "ids"], ["embedded"]),
            node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["kept", "last"], ["column"]),
            node("Mul", ["embedded", "column"], ["left"]),
            node("ReduceSum", ["left", "middle"], ["pooled"], keepdims=0),
            node("MatMul", ["pooled", "layer"], ["scores"]),
            node("Div", ["scores", "temperature"], ["logits"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT32, ["batch", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", "length"]),
            helper.make_tensor_value_info("temperature", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(TABLE, "table"),
            numpy_helper.from_array(LAYER, "layer"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def save_npz(folder, arrays):
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def save_hdf5(folder, arrays):
    with h5py.File(folder / "d.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return folder / "d.h5"


def save_parquet(folder, arrays):
    columns = {name: array.tolist() for name, array in arrays.items()}
    columns["temperature"] = [arrays["temperature"].item()] * len(LABELS)
    pq.write_table(pa.table(columns), folder / "d.parquet")
    return folder / "d.parquet"


@pytest.mark.filterwarnings("ignore:tensor 'table'")  # whether it moves does not matter
@pytest.mark.parametrize("save", [save_npz, save_hdf5, save_parquet])
def test_the_center_is_that_of_plain_numpy(model, tmp_path, save):
    arrays = {"ids": IDS, "mask": MASK, "temperature": TEMPERATURE, "y": LABELS}
    surface = ox.evaluate(model, save(tmp_path, arrays), grid="3x3", samples="all")
    pooled = (TABLE.astype(float)[IDS] * MASK[..., None]).sum(axis=1)
    logits = pooled @ LAYER.astype(float) / float(TEMPERATURE)
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    expected = -logs[np.arange(40), LABELS].mean()
    assert surface.loss[1, 1] == pytest.approx(expected, rel=1e-5)
    assert np.ptp(surface.loss) > 0.1


@pytest.mark.filterwarnings("ignore:tensor 'table'")
def test_what_every_input_is_fed_is_told(model, recorder):
    told = recorder()
    arrays = {"ids": IDS, "mask": MASK, "temperature": TEMPERATURE, "y": LABELS}
    ox.evaluate(model, arrays, grid="3x3", observer=told)
    (outline,) = told.outlines
    assert outline.data == "arrays: ids as is; mask as is; temperature 0.5 for all"
