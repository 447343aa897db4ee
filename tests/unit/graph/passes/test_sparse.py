"""Sparse initializers are written out."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxscape.errors import ModelFileError, UnsupportedModelError
from onnxscape.graph.canonical import canonical
from onnxscape.graph.passes import sparse as sparse_pass

X = {"x": np.float32(np.random.default_rng(0).standard_normal((2, 3)))}


@pytest.fixture
def sparse(make_model, node):
    """Returns x @ w, w [3, 4] with two values at the given places."""

    def build(places, dims=(3, 4)):
        model = make_model([node("MatMul", ["x", "w"], "y")], {"x": ["n", 3]}, {"y": None}, {})
        places = np.array(places)
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(
                helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]),
                helper.make_tensor("w.at", TensorProto.INT64, places.shape, places.ravel()),
                dims,
            )
        )
        return model

    return build


@pytest.mark.parametrize("places", [[1, 6], [[0, 1], [1, 2]]])
def test_a_sparse_weight_is_written_out(places, sparse, analysed, run_model):
    model = sparse(places)
    before = model.SerializeToString(deterministic=True)
    weight = analysed(model).parameters["w"]
    assert weight.role == "weight"
    np.testing.assert_array_equal(weight.values, [[0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])
    assert model.SerializeToString(deterministic=True) == before


def test_indices_outside_of_the_shape_are_refused(sparse):
    with pytest.raises(ModelFileError, match="'w' has indices outside of its shape"):
        canonical(sparse([1, 12]))


@pytest.mark.parametrize("dims", [(2**40, 4), (2**62, 2**62), (-1, 4)])
def test_a_sparse_weight_of_absurd_size_is_refused(dims, sparse):
    with pytest.raises(UnsupportedModelError, match="'w' claims the shape"):
        canonical(sparse([1, 6], dims))


def test_sparse_weights_that_are_too_large_together_are_refused(sparse, monkeypatch):
    monkeypatch.setattr(sparse_pass, "MAX_BYTES", 2 * 3 * 4 * 4)
    model = sparse([1, 6])
    first = model.graph.sparse_initializer[0]
    for number in range(2):
        another = model.graph.sparse_initializer.add()
        another.CopyFrom(first)
        another.values.name = f"v{number}"
        if number == 0:
            canonical(model)
    with pytest.raises(UnsupportedModelError, match="up to 'v1' take more than 96 bytes"):
        canonical(model)
