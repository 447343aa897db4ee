"""Sparse initializers written out: only dense weights can be moved."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from onnxscape.errors import ModelFileError, UnsupportedModelError

MAX_ELEMENTS = 2**26
"""Elements of one tensor that are written out: 256 MB of float32."""

MAX_BYTES = 2**30
"""Bytes of all of them together."""


def with_dense_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Write the sparse initializers of the main graph out.

    Before: external data is loaded. After: all initializers are dense. (The graph library
    would drop sparse ones.)

    Args:
        proto: The user's model; it is not changed.

    Returns:
        The model itself if it has none, else a copy.

    Raises:
        UnsupportedModelError: If one is too large or all together are, or values are none.
        ModelFileError: If one contradicts itself.
    """
    if not proto.graph.sparse_initializer:
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    written = 0
    for sparse in proto.graph.sparse_initializer:
        dense = _dense(sparse)
        written += len(dense.raw_data)
        if written > MAX_BYTES:
            raise UnsupportedModelError(
                f"the sparse tensors up to {dense.name!r} take more than {MAX_BYTES} bytes "
                "once written out: export the model with dense weights"
            )
        copy.graph.initializer.append(dense)
    del copy.graph.sparse_initializer[:]
    return copy


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    name, shape = sparse.values.name, tuple(sparse.dims)
    if math.prod(shape) > MAX_ELEMENTS or min(shape, default=0) < 0:
        raise UnsupportedModelError(
            f"the sparse tensor {name!r} claims the shape {list(shape)}; at most "
            f"{MAX_ELEMENTS} elements are written out: export the model with dense weights"
        )
    values = numpy_helper.to_array(sparse.values)
    indices = numpy_helper.to_array(sparse.indices)
    dense = np.zeros(shape, dtype=values.dtype)
    try:
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise ModelFileError(
            f"the sparse tensor {name!r} has indices outside of its shape {list(shape)}: "
            "export the model again"
        ) from error
    return numpy_helper.from_array(dense, name)
