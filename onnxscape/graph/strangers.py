"""Models of strangers: all in one file, operators that are known, of limited size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError, Message

from onnxscape.errors import ModelFileError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Call = tuple[str, str]

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains of the operators that ONNX Runtime itself has."""

_FROM_OUTSIDE = frozenset({"EPContext", "ATen", "PythonOp", "PythonOpGrad", "ExternalEP"})
"""Operators of known domains that name files or code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """How large a stranger's model may be.

    Attributes:
        size: Bytes of the file.
        nodes: Nodes, those of subgraphs and of every call of a function included.
        tensors: Tensors that hold values.
    """

    size: int = 2**31 - 1
    nodes: int = 100_000
    tensors: int = 100_000


def check_stranger(content: bytes, name: str, rules: ModelRules) -> int:
    """Refuse a model that reaches outside itself, or is too large.

    Nothing of it is computed, and no file is looked for.

    Args:
        content: The ONNX file.
        name: What it is called, for messages.
        rules: Its limits.

    Returns:
        Number of its nodes.

    Raises:
        ModelFileError: If it is no ONNX model, refers to files, or its functions call
            themselves.
        UnsupportedModelError: If it has operators of other domains, or exceeds a limit.
    """
    if len(content) > rules.size:
        raise UnsupportedModelError(
            f"{name} has {len(content)} bytes; expected at most {rules.size}"
        )
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError:
        raise ModelFileError(
            f"{name} is no ONNX model: its {len(content)} bytes are damaged, cut short, or of "
            "another format; export it again"
        ) from None
    _refuse_files(proto, name, rules)
    functions = {(f.domain, f.name): f for f in proto.functions}
    inside = {key: _calls(f, functions, name) for key, f in functions.items()}
    count = _expanded(_calls(proto.graph, functions, name), inside, name, rules.nodes)
    if count > rules.nodes:
        raise UnsupportedModelError(
            f"{name} has more than {rules.nodes} nodes with those of its functions; this "
            "server takes no larger graphs"
        )
    return count


def _messages(message: Message) -> Iterator[Message]:
    """Yield a message and all messages in it, whatever field they are in."""
    left = [message]
    while left:
        found = left.pop()
        yield found
        for field, value in found.ListFields():
            if field.message_type is None:
                continue
            if isinstance(value, Message):
                left.append(value)
            else:
                left.extend(value)


def _refuse_files(proto: onnx.ModelProto, name: str, rules: ModelRules) -> None:
    """Refuse tensors whose values stand elsewhere, and too many of them.

    Raises:
        ModelFileError: If there are any.
        UnsupportedModelError: If there are too many tensors.
    """
    count = 0
    for message in _messages(proto):
        if not isinstance(message, onnx.TensorProto):
            continue
        count += 1
        if message.external_data or message.data_location != onnx.TensorProto.DEFAULT:
            raise ModelFileError(
                f"the tensor {message.name!r} of {name} stands in external data; a server "
                "takes models that hold all their weights: save it as one file"
            )
    if count > rules.tensors:
        raise UnsupportedModelError(
            f"{name} has {count} tensors; this server takes at most {rules.tensors}"
        )


def _calls(
    part: Message, functions: Mapping[Call, onnx.FunctionProto], name: str
) -> tuple[int, dict[Call, int]]:
    """Count the nodes of a graph or function, and its calls of functions.

    Returns:
        The number of nodes, and how often it calls which function.

    Raises:
        UnsupportedModelError: If an operator is of another domain.
    """
    count = 0
    called: dict[Call, int] = {}
    for node in _messages(part):
        if not isinstance(node, onnx.NodeProto):
            continue
        count += 1
        key = (node.domain, node.op_type)
        if key in functions:
            called[key] = called.get(key, 0) + 1
        elif node.domain not in DOMAINS or node.op_type in _FROM_OUTSIDE:
            raise UnsupportedModelError(
                f"{name} has the operator {node.domain or 'ai.onnx'}::{node.op_type}; a "
                "server takes those of ONNX and ONNX Runtime that need nothing from outside "
                "the model"
            )
    return count, called


def _expanded(
    top: tuple[int, dict[Call, int]],
    inside: Mapping[Call, tuple[int, dict[Call, int]]],
    name: str,
    most: int,
) -> int:
    """Return how many nodes there are once calls are replaced by what they call.

    Raises:
        ModelFileError: If functions call themselves.
    """
    known: dict[Call, int] = {}
    for start in inside:
        open_ = [start]
        path: set[Call] = set()
        while open_:
            key = open_[-1]
            left = [call for call in inside[key][1] if call not in known]
            if key in known or not left:
                count, called = inside[key]
                # Beyond the limit the exact number, which may have any length, is no matter.
                total = count + sum(known[call] * times for call, times in called.items())
                known[key] = min(total, most + 1)
                path.discard(open_.pop())
                continue
            path.add(key)
            if any(call in path for call in left):
                raise ModelFileError(f"functions of {name} call themselves")
            open_.extend(left)
    count, called = top
    return count + sum(known[call] * times for call, times in called.items())
