"""Newer operator sets for models whose operators changed nothing since but their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.half_kernels import computes_in_half
from onnxscape.graph.heads.builder import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

NEWEST = 22
"""Operator set up to which changes are vetted: convolutions take bfloat16 from it on."""

HEAVY = frozenset(
    {"Conv", "ConvTranspose", "DeformConv", "Einsum", "Gemm", "GRU", "LSTM", "MatMul", "RNN"}
)
"""Operators that take the time: without them in a narrow type nothing is gained."""

_PRECISIONS = {"tensor(float16)": "fp16", "tensor(bfloat16)": "bf16"}

_VETTED = """
Abs 13; Acos 22; Acosh 22; Add 13 14; ArgMax 12 13; ArgMin 12 13; Asin 22; Asinh 22; Atan
22; Atanh 22; AveragePool 22; BatchNormalization 14 15; Cast 13 19 21; CastLike 19 21; Ceil
13; Clip 12 13; Concat 13; Constant 12 13 19 21; ConstantOfShape 20 21; Conv 22;
ConvTranspose 22; Cos 22; Cosh 22; CumSum 14; DeformConv 22; DepthToSpace 13;
DequantizeLinear 13 19 21; Det 22; Div 13 14; Dropout 13 22; Elu 22; Equal 13 19; Erf 13;
Exp 13; Expand 13; EyeLike 22; Flatten 13 21; Floor 13; GRU 14 22; Gather 13; GatherElements
13; GatherND 12 13; Gemm 13; GlobalAveragePool 22; GlobalLpPool 22; GlobalMaxPool 22;
Greater 13; GreaterOrEqual 16; GridSample 22; HardSigmoid 22; HardSwish 22; Identity 13 14
16 19 21; If 13 16 19 21; InstanceNormalization 22; IsInf 20; IsNaN 13 20; LRN 13; LSTM 14
22; LeakyRelu 16; Less 13; LessOrEqual 16; Log 13; Loop 13 16 19 21; LpNormalization 22;
MatMul 13; Max 12 13; MaxPool 12 22; Mean 13; MeanVarianceNormalization 13; Min 12 13; Mish
22; Mod 13; Mul 13 14; Neg 13; NonZero 13; PRelu 16; Pad 13 18 19 21; Pow 12 13 15;
QuantizeLinear 13 19 21; RNN 14 22; Reciprocal 13; ReduceL1 13; ReduceL2 13; ReduceLogSum
13; ReduceLogSumExp 13; ReduceMax 12 13 20; ReduceMean 13; ReduceMin 12 13 20; ReduceProd
13; ReduceSumSquare 13; Relu 13 14; Reshape 13 14 19 21; Round 22; Scan 16 19 21;
ScatterElements 13 16 18; ScatterND 13 16 18; Selu 22; Shape 13 15 19 21; Sigmoid 13; Sign
13; Sin 22; Sinh 22; Size 13 19 21; Slice 13; Softplus 22; Softsign 22; SpaceToDepth 13;
Sqrt 13; Squeeze 21; Sub 13 14; Sum 13; Tan 22; Tanh 13; ThresholdedRelu 22; Tile 13;
Transpose 13 21; Unsqueeze 21; Where 16
"""
"""Operators, and the versions of them that mean the same as the one before.

They differ in types, in texts, in attributes and inputs whose defaults are what was fixed
before, and (BatchNormalization) in training, which is gone. Left out on purpose, among others:
Softmax 13 (another axis by default), Dropout 12 and Split 13 (attributes became inputs),
Split 18 (a new attribute is required), Resize 18 and 19, and
GroupNormalization 21 (another scale).
"""

_AXES_BECAME_INPUT = {
    "ReduceL1": 18,
    "ReduceL2": 18,
    "ReduceLogSum": 18,
    "ReduceLogSumExp": 18,
    "ReduceMax": 18,
    "ReduceMean": 18,
    "ReduceMin": 18,
    "ReduceProd": 18,
    "ReduceSumSquare": 18,
    "ReduceSum": 13,
    "Squeeze": 13,
    "Unsqueeze": 13,
}
"""Version in which the attribute `axes` became the second input, and nothing else changed."""

_ROUNDS_UP_OTHERWISE = ("AveragePool", 19)
"""A version that means the same unless sizes are rounded up (`ceil_mode`)."""

VETTED = {
    name: frozenset(map(int, versions))
    for name, *versions in (entry.split() for entry in _VETTED.split(";"))
}


def raise_opset(model: ir.Model, half: str) -> None:
    """Raise a model's operator set to the first in which all that takes time knows a type.

    Args:
        model: The model; changed in place.
        half: The type as schemas write it, e.g. `tensor(bfloat16)`.

    Raises:
        UnsupportedModelError: If an operator changed more than its types in between.
    """
    version = model.opset_imports.get("", 1)
    wanted = max(
        (_first_with(node.op_type, version, half) for node in _own(model.graph.all_nodes())),
        default=version,
    )
    if wanted <= version:
        return
    nodes = list(_own(model.graph.all_nodes()))
    changed = sorted(
        {
            f"{node.op_type} {newer}"
            for node in nodes
            for newer in _versions(node.op_type, version, wanted)
            if not _same(node, newer)
        }
    )
    if changed:
        raise UnsupportedModelError(
            f"expected operator set {wanted} or newer for {half.removeprefix('tensor(')[:-1]} "
            f"in convolutions and products, the model has {version}, and {', '.join(changed)} "
            f"changed more than types since; export it with opset_version={wanted}, or use "
            "--precision fp16"
        )
    for node in nodes:
        if version < _AXES_BECAME_INPUT.get(node.op_type, 0) <= wanted:
            _give_axes_as_input(model, node)
    model.opset_imports[""] = wanted


def _same(node: ir.Node, version: int) -> bool:
    """Return whether a node means the same in a version as in the one before it."""
    if (node.op_type, version) == _ROUNDS_UP_OTHERWISE:
        return node.attributes.get_int("ceil_mode", 0) == 0
    return (
        version in VETTED.get(node.op_type, ())
        or _AXES_BECAME_INPUT.get(node.op_type) == version
    )


def _give_axes_as_input(model: ir.Model, node: ir.Node) -> None:
    attribute = node.attributes.pop("axes", None)
    if attribute is None:
        return
    name = f"{PREFIX}axes::{node.outputs[0].name}"
    axes = np.array(attribute.as_ints(), np.int64)
    value = ir.val(name, const_value=ir.tensor(axes, name=name))
    model.graph.register_initializer(value)
    node.resize_inputs(2)
    node.replace_input_with(1, value)


def _own(nodes: Iterator[ir.Node]) -> Iterator[ir.Node]:
    return (node for node in nodes if not node.domain)


def _first_with(op: str, version: int, half: str) -> int:
    """Return the operator set from which a heavy operator is computed in a type.

    The one given for all others, and for those that are computed in float32 whatever they may
    take.
    """
    if op not in HEAVY:
        return version
    for candidate in (version, *_versions(op, version, NEWEST)):
        schema = onnx.defs.get_schema(op, candidate)
        computed = computes_in_half(op, _PRECISIONS[half], schema.since_version)
        if computed and half in schema.inputs[0].types:
            return candidate
    return version


def _versions(op: str, after: int, until: int) -> list[int]:
    """Return the versions of an operator that came between two operator sets."""
    try:
        found = {
            onnx.defs.get_schema(op, version).since_version
            for version in range(after + 1, until + 1)
        }
    except onnx.defs.SchemaError:
        return [until]
    return sorted(version for version in found if version > after)
