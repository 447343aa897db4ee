"""Losses and metrics given as small ONNX graphs, grafted behind the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from onnxscape.errors import ModelFileError, OnnxscapeError, UnsupportedModelError
from onnxscape.graph.canonical import canonical_of
from onnxscape.graph.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.graph.heads.builder import Builder
    from onnxscape.graph.model_file import ModelFile

MAX_BYTES = 64 * 2**20
"""Largest file of a loss: it holds a formula, not a network."""

LABEL_NAMES = ("labels", "y", "targets")
"""What such a graph may call its input for the labels."""


def read_custom(source: str | Path | bytes, name: str = "graph") -> ModelFile:
    """Read a loss or metric that is given as a graph.

    Args:
        source: The .onnx file, or its bytes.
        name: What people call it, when it comes as bytes.

    Returns:
        The graph.

    Raises:
        ModelFileError: If it cannot be read, or is too large.
        UnsupportedModelError: If it has another number of outputs than one, or a loop, or
            draws random numbers.
    """
    if isinstance(source, bytes):
        path, size = name, len(source)
    else:
        path = str(source)
        if not Path(path).exists():
            raise ModelFileError(f"no loss or metric file at {path}")
        size = Path(path).stat().st_size if Path(path).is_file() else 0
    if size > MAX_BYTES:
        raise ModelFileError(
            f"{path} has {size / 2**20:.0f} MiB; a loss or metric given as a graph may have "
            f"{MAX_BYTES // 2**20} MiB"
        )
    file = read_model(source, name)
    if len(file.proto.graph.output) != 1:
        names = ", ".join(value.name for value in file.proto.graph.output)
        raise UnsupportedModelError(
            f"expected {path} to have one output, the value of each sample; it has "
            f"{len(file.proto.graph.output)}: {names}"
        )
    for nodes in (file.proto.graph.node, *(f.node for f in file.proto.functions)):
        for node in nodes:
            if any(
                attribute.HasField("g") or attribute.graphs for attribute in node.attribute
            ):
                raise UnsupportedModelError(
                    f"{path} has the node {node.name!r} ({node.op_type}) with a graph of its "
                    "own; a loss or metric must do without loops and branches"
                )
    try:
        canonical_of(file, "native")
    except OnnxscapeError as error:
        raise type(error)(f"{path} cannot be a loss or metric: {error}") from error
    return file


def labels_input(file: ModelFile, outputs: tuple[str, ...]) -> str | None:
    """Return the name of the input of a custom graph that takes the labels.

    Args:
        file: From `read_custom`.
        outputs: Names of the model's outputs: they come first.

    Returns:
        One of `LABEL_NAMES`, or None if it takes no labels.

    Raises:
        UnsupportedModelError: If an input is neither labels nor an output of the model.
    """
    found = None
    for signature in file.inputs:
        if signature.name in outputs:
            continue
        if signature.name not in LABEL_NAMES or found is not None:
            raise UnsupportedModelError(
                f"the input {signature.name!r} of {file.label} is no output of the model "
                f"({', '.join(outputs)}); its inputs must be called like them, and one of "
                f"{', '.join(LABEL_NAMES)} takes the labels"
            )
        found = signature.name
    return found


def custom_result(
    head: Builder,
    file: ModelFile,
    outputs: Mapping[str, ir.Value],
    labels: ir.Value | None,
) -> ir.Value:
    """Graft a custom graph.

    Args:
        head: Where its nodes are added; their values get new names.
        file: From `read_custom`.
        outputs: The model's outputs by name.
        labels: The labels, of whatever type; None if there are none.

    Returns:
        Its output as float64 [batch, 1], if it gives one number per sample as it must.

    Raises:
        UnsupportedModelError: If its operators mean something else in the model's operator
            set, or it takes labels and there are none.
    """
    model = canonical_of(file, "native").model
    _bring_opsets_together(head, model, file)
    name_of_labels = labels_input(file, tuple(outputs))
    values: dict[ir.Value, ir.Value] = {}
    for value in model.graph.inputs:
        source = labels if value.name == name_of_labels else outputs[str(value.name)]
        if source is None:
            raise UnsupportedModelError(
                f"{file.label} takes labels as {value.name!r}, but the data has none"
            )
        declared = value.dtype
        if declared is not None and declared != source.dtype:
            source = head.cast(source, declared)
        values[value] = source
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            values[value] = head.constant(value.const_value.numpy())
    for node in model.graph:
        inputs = [None if value is None else values[value] for value in node.inputs]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            list(node.attributes.values()),
            num_outputs=len(node.outputs),
        )
        head.append(copy)
        values |= zip(node.outputs, copy.outputs, strict=True)
    # Not [-1, 1]: rows that are no samples must show.
    return head.reshape(head.cast(values[model.graph.outputs[0]]), 0, -1)


def _bring_opsets_together(head: Builder, model: ir.Model, file: ModelFile) -> None:
    """Make sure that every operator means the same in both operator sets.

    Raises:
        UnsupportedModelError: If one does not.
    """
    changed = []
    for domain in sorted({node.domain for node in model.graph}):
        ours = head.opsets.setdefault(domain, model.opset_imports[domain])
        theirs = model.opset_imports[domain]
        changed += [
            f"{node.op_type} ({domain or 'ai.onnx'}: {theirs}, the model has {ours})"
            for node in model.graph
            if node.domain == domain
            and ours != theirs
            and _version(node, ours) != _version(node, theirs)
        ]
    if changed:
        raise UnsupportedModelError(
            f"{file.label} has another operator set than the model, and these operators "
            f"changed in between: {', '.join(sorted(set(changed)))}; make it anew with the "
            "model's operator set"
        )


def _version(node: ir.Node, opset: int) -> int:
    """Return the version of an operator in an operator set; the set's own if unknown."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return opset
    return int(schema.since_version)
