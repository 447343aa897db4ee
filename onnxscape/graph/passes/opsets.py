"""Operator sets: models of old ones are converted, in a process that can do no harm."""

from __future__ import annotations

import onnx
from onnx import version_converter

from onnxscape.errors import UnsupportedModelError
from onnxscape.files.limited_child import ChildError, run_in_child

MIN_OPSET = 11
"""The loss head needs GatherElements."""

CONVERSION_SECONDS = 120
"""How long a conversion may take; ordinary ones take less than a second."""

_MEMORY = 1 << 30
"""Memory for a conversion besides a few times the model's own size."""


def with_supported_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a model of an old operator set.

    Before: external data is loaded. After: the default operator set is new enough for the
    loss head; tensors have their names. The converter is native code that was not written for
    hostile files: it runs in a child process with limits.

    Args:
        proto: The user's model; it is not changed.

    Returns:
        The model itself if it is new enough, else a converted copy.

    Raises:
        UnsupportedModelError: If it cannot be converted.
    """
    version = max(
        (opset.version for opset in proto.opset_import if opset.domain in {"", "ai.onnx"}),
        default=1,
    )
    if version >= MIN_OPSET:
        return proto
    content = proto.SerializeToString()
    try:
        converted = run_in_child(
            converted_bytes,
            content,
            seconds=CONVERSION_SECONDS,
            memory=_MEMORY + 8 * len(content),
            most=2 * len(content) + (1 << 20),
        )
    except ChildError as error:
        raise UnsupportedModelError(
            f"expected operator set {MIN_OPSET} or newer, the model has {version}, and it "
            f"cannot be converted: {error}; export it anew with opset_version={MIN_OPSET} "
            "or newer"
        ) from error
    return onnx.ModelProto.FromString(converted)


def converted_bytes(content: bytes) -> bytes:
    """Return a serialized model in `MIN_OPSET`; called in the child process."""
    model = onnx.ModelProto.FromString(content)
    converted: onnx.ModelProto = version_converter.convert_version(model, MIN_OPSET)
    return converted.SerializeToString()
