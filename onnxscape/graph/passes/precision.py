"""Precision: half floats as float32, so that all arithmetic is done in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnxscape.graph.passes.notes import Notes

HALVES = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}
"""The types that become float32."""

TYPE_ATTRIBUTES = frozenset(
    {
        "dtype",
        "output_datatype",
        "output_dtype",
        "precision",
        "qk_matmul_output_type",
        "softmax_precision",
        "stash_type",
        "to",
    }
)
"""Attributes that hold the number of an element type."""


def keep_halves(model: ir.Model, notes: Notes) -> None:
    """Before: no functions. After: the model is as it was, and none that cannot be run.

    Raises:
        UnsupportedModelError: If it computes with bfloat16.
    """
    found = _halves_in(model)
    if "bfloat16" in found:
        raise UnsupportedModelError(
            "the model computes with bfloat16, which cannot be fed to ONNX Runtime from "
            "Python: leave out --precision native, so that it is computed in float32"
        )
    notes.loosened |= found


def widen_halves(model: ir.Model, notes: Notes) -> None:
    """Before: no functions. After: no tensor and no value is float16 or bfloat16."""
    notes.loosened |= _halves_in(model)
    for value in _values(model):
        if value.const_value is not None and value.const_value.dtype in HALVES:
            value.const_value = _wide(value.const_value)
        if value.dtype in HALVES:
            value.dtype = ir.DataType.FLOAT
    for node in model.graph.all_nodes():
        for name, attribute in list(node.attributes.items()):
            if _attribute_type(attribute) not in HALVES:
                continue
            if attribute.type is ir.AttributeType.TENSOR:
                node.attributes[name] = ir.AttrTensor(name, _wide(attribute.as_tensor()))
            else:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))


def _halves_in(model: ir.Model) -> set[str]:
    """Return which of `float16` and `bfloat16` a model computes with."""
    types = {value.dtype for value in _values(model)}
    types |= {
        _attribute_type(attribute)
        for node in model.graph.all_nodes()
        for attribute in node.attributes.values()
    }
    return {name for dtype, name in HALVES.items() if dtype in types}


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _attribute_type(attribute: ir.Attr) -> ir.DataType | None:
    """Return the element type that an attribute holds or names; None for other attributes."""
    if attribute.type is ir.AttributeType.TENSOR:
        return attribute.as_tensor().dtype
    if attribute.type is ir.AttributeType.INT and attribute.name in TYPE_ATTRIBUTES:
        number = attribute.as_int()
        return ir.DataType(number) if number in {int(half) for half in HALVES} else None
    return None


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)
