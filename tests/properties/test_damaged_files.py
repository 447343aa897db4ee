"""Whatever the bytes: reading a model ends in a model or in an error for the user."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from onnxscape.core.direction import random_direction
from onnxscape.core.loss import Loss
from onnxscape.errors import OnnxscapeError
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse, prepare


@np.errstate(all="ignore")
def read_all(content):
    """Do all that is done with a model before a session is made of it.

    numpy warns of weights that are NaN: those are read as they are.
    """
    file = read_model(content)
    _ = file.inputs, file.outputs
    parameters, _ = analyse(file)
    direction = random_direction(parameters, seed=0, axis=0)
    loss = Loss(name="mse", output=file.outputs[0].name)
    prepare(file, parameters, moved=set(direction.tensors), loss=loss).with_external_weights()


@pytest.fixture(scope="module")
def content(make_model):
    """A model with most of what is looked at: views, groups, a normalization, constants."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *"ghmv"], ["c"]),
        helper.make_node("Mul", ["c", "s"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Constant", [], ["n"], value_ints=[36, 3]),
        helper.make_node("Reshape", ["u", "n"], ["f"]),
        helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0]),
        helper.make_node("Gemm", ["e", "t"], ["y"], transB=1),
    ]
    shapes = dict.fromkeys("bghm", (4,))
    shapes |= {"w": (4, 1, 3, 3), "u": (108,), "s": (4, 1, 1)}
    tensors = {name: np.float32(rng.standard_normal(shape)) for name, shape in shapes.items()}
    tensors["v"] = np.ones(4, dtype=np.float32)
    model = make_model(nodes, {"x": ["n", 2, 3, 3]}, {"y": ["n", 3]}, tensors)
    return model.SerializeToString()


def test_the_undamaged_model_is_read(content):
    read_all(content)


changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3)


@given(changes=changes)
def test_changed_bytes_end_in_a_model_or_an_error_for_the_user(changes, content):
    damaged = bytearray(content)
    for part, byte in changes:
        damaged[min(int(part * len(damaged)), len(damaged) - 1)] = byte
    with contextlib.suppress(OnnxscapeError):
        read_all(bytes(damaged))


@given(start=st.floats(0, 1), length=st.integers(1, 40), inserted=st.binary(max_size=40))
def test_cut_and_inserted_bytes_end_in_a_model_or_an_error_for_the_user(
    start, length, inserted, content
):
    at = int(start * len(content))
    with contextlib.suppress(OnnxscapeError):
        read_all(content[:at] + inserted + content[at + length :])


@given(noise=st.binary(max_size=200))
def test_any_bytes_end_in_an_error_for_the_user(noise):
    with pytest.raises(OnnxscapeError):
        read_all(noise)
