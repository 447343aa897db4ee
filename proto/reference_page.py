"""Makes the reference of `docs/server/protocol.md` from the comments of the .proto files.

The page holds pairs of lines, `<!-- made: NAME -->` and `<!-- end -->`; what stands between
them is made here: `services` from the .proto files, `states` from the table of job states.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2 as pb

from onnxscape.jobs.states import state_diagram

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PART = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Numbers of fields of descriptors, which paths of comments are made of.
_MESSAGE, _ENUM, _SERVICE, _FIELD, _VALUE, _METHOD = 4, 5, 6, 2, 2, 2

_KINDS = {
    pb.FieldDescriptorProto.TYPE_DOUBLE: "double",
    pb.FieldDescriptorProto.TYPE_INT64: "int64",
    pb.FieldDescriptorProto.TYPE_UINT64: "uint64",
    pb.FieldDescriptorProto.TYPE_INT32: "int32",
    pb.FieldDescriptorProto.TYPE_BOOL: "bool",
    pb.FieldDescriptorProto.TYPE_STRING: "string",
    pb.FieldDescriptorProto.TYPE_BYTES: "bytes",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A .proto file with its comments by path."""

    proto: pb.FileDescriptorProto
    comments: Mapping[tuple[int, ...], str]

    def comment(self, *path: int) -> str:
        return self.comments.get(path, "")


def rendered(page: str, descriptors: bytes) -> str:
    """Return a page with its made parts.

    Args:
        page: The page as it is.
        descriptors: A `FileDescriptorSet` with source information.

    Returns:
        The page; what stands outside of made parts is unchanged.

    Raises:
        ValueError: If the page does not have each part once.
    """
    files = [_read(proto) for proto in pb.FileDescriptorSet.FromString(descriptors).file]
    parts = {"services": _services(files), "states": _states()}
    found = [match[2] for match in _PART.finditer(page)]
    if sorted(found) != sorted(parts):
        raise ValueError(
            f"expected '<!-- made: NAME -->' once for {', '.join(parts)}; got {found}"
        )
    return _PART.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n{match[3]}", page)


def _read(proto: pb.FileDescriptorProto) -> _File:
    comments = {}
    for location in proto.source_code_info.location:
        text = location.leading_comments or location.trailing_comments
        if text.strip():
            comments[tuple(location.path)] = _plain(text)
    return _File(proto, comments)


def _plain(comment: str) -> str:
    """Return a comment with the lines of each paragraph joined."""
    paragraphs = re.split(r"\n\s*\n", comment.strip("\n"))
    return "\n\n".join(" ".join(text.split()) for text in paragraphs if text.strip())


def _services(files: Sequence[_File]) -> str:
    blocks = []
    for file in files:
        for number, service in enumerate(file.proto.service):
            blocks += [f"## {service.name}", file.comment(_SERVICE, number)]
            blocks += _methods(file, number, service)
            blocks += _others(file, service)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _methods(file: _File, number: int, service: pb.ServiceDescriptorProto) -> Iterator[str]:
    """Yield each method, with what it is sent and what it returns."""
    for index, method in enumerate(service.method):
        sent, back = (
            name.rpartition(".")[2] for name in (method.input_type, method.output_type)
        )
        sent_as = f"{'stream of ' if method.client_streaming else ''}[{sent}](#{sent.lower()})"
        back_as = f"{'stream of ' if method.server_streaming else ''}[{back}](#{back.lower()})"
        yield f"### {method.name}"
        yield f"{sent_as} → {back_as}"
        yield file.comment(_SERVICE, number, _METHOD, index)
        for name in (sent, back):
            yield from _message(file, name)


def _others(file: _File, service: pb.ServiceDescriptorProto) -> Iterator[str]:
    """Yield messages and enumerations that no method is sent or returns itself."""
    named = [(method.input_type, method.output_type) for method in service.method]
    direct = {name.rpartition(".")[2] for pair in named for name in pair}
    for message in file.proto.message_type:
        if message.name not in direct:
            yield from _message(file, message.name)
    for number, kind in enumerate(file.proto.enum_type):
        yield f"#### {kind.name}"
        yield file.comment(_ENUM, number)
        rows = [
            (f"`{value.name}`", str(value.number), file.comment(_ENUM, number, _VALUE, index))
            for index, value in enumerate(kind.value)
        ]
        yield _table(("value", "number", ""), rows)


def _message(file: _File, name: str) -> Iterator[str]:
    number = [message.name for message in file.proto.message_type].index(name)
    message = file.proto.message_type[number]
    yield f"#### {name}"
    yield file.comment(_MESSAGE, number)
    if not message.field:
        yield "No fields."
        return
    rows = []
    for index, field in enumerate(message.field):
        text = file.comment(_MESSAGE, number, _FIELD, index).replace("\n\n", " ")
        if field.HasField("oneof_index") and not field.proto3_optional:
            group = message.oneof_decl[field.oneof_index].name
            text = f"One of `{group}`. {text}".strip()
        rows.append((f"`{field.name}`", str(field.number), _type_of(message, field), text))
    yield _table(("field", "number", "type", ""), rows)


def _type_of(message: pb.DescriptorProto, field: pb.FieldDescriptorProto) -> str:
    """Return the name of a field's type, with a link where it is one of ours."""
    for entry in message.nested_type:
        if entry.options.map_entry and field.type_name.endswith(f".{entry.name}"):
            key, value = (_type_of(entry, part) for part in entry.field)
            return f"map of {key} to {value}"
    repeated = field.label == pb.FieldDescriptorProto.LABEL_REPEATED
    prefix = "repeated " if repeated else "optional " if field.proto3_optional else ""
    if not field.type_name:
        return prefix + _KINDS[field.type]
    name = field.type_name.rpartition(".")[2]
    if field.type_name.startswith(".google."):
        return f"{prefix}{field.type_name.removeprefix('.')}"
    return f"{prefix}[{name}](#{name.lower()})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line).rstrip() + " |" for line in lines)


def _states() -> str:
    """Return a drawing of the table of job states."""
    return f"```mermaid\n{state_diagram()}\n```\n"
