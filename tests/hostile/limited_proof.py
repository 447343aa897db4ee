"""What a limited child process does with a model: the proof that frees its batch."""

from __future__ import annotations

import onnx

from onnxscape.graph.batch_axis import fixed_batch
from onnxscape.graph.canonical import canonical


def told(content):
    """Return what is said of the batch of a serialized model, as bytes."""
    return str(fixed_batch(canonical(onnx.ModelProto.FromString(content)).model)).encode()
