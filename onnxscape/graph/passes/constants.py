"""Constant folding: what depends on initializers alone becomes an initializer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.operands import VIEWS, constant_array, resolve
from onnxscape.graph.operators import attribute
from onnxscape.graph.passes.constant_sizes import SIZES, work
from onnxscape.graph.passes.inferred_sizes import inferred_shapes
from onnxscape.graph.passes.structure import Names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.graph.passes.notes import Notes

    Shapes = Mapping[str, tuple[int | None, ...]]

MAX_ELEMENTS = 2**26
"""Elements that computed constants may have at once: 256 MB of float32. A file that holds more
than a quarter of that itself may have four times what it holds."""

MAX_WORK = 2**32
"""Elements that are computed in all, multiplications of matrices being cheaper."""

_FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
)


def fold_constants(model: ir.Model, notes: Notes) -> None:
    """Compute what depends on initializers alone.

    Before: nodes are sorted, constants are initializers. After: a constant operand is an
    initializer or a view (`operands.VIEWS`) of a floating-point one. Folded initializers have
    the name of the value they replace. Only operators of `SIZES` are computed.

    Sizes that the file states are constants, too, as they are for ONNX Runtime; so are those
    that follow from them, where a weight waits for one. A chain that starts at a weight which
    is an operand itself stays as it is: both would move apart.

    Raises:
        UnsupportedModelError: If that takes absurd amounts of memory or time.
    """
    folding = _Folding(model)
    _fold(model, notes, folding, {})
    if _weight_waits(model):
        _fold(model, notes, folding, inferred_shapes(model))


def _fold(model: ir.Model, notes: Notes, folding: _Folding, inferred: Shapes) -> None:
    batches = _fixed_batches(model)
    shared = _shared_sources(model, None if batches else inferred)
    for node in list(model.graph.all_nodes()):
        sizes = None if batches else _static_shape(node, inferred)
        if sizes is not None:
            folding.replace(node, [sizes])
            continue
        if not _is_constant(node) or _is_view(node) or _sources(node) & shared:
            continue
        if _goes_beside_samples(node, batches):
            continue
        arrays = [constant_array(value) for value in node.inputs]
        folding.check(node, arrays)
        results = _computed(node, arrays, model.opset_imports[""])
        if results is not None:
            if node.op_type == "DequantizeLinear" and sum(n > 1 for n in results[0].shape) > 1:
                notes.quantized_weight()
            folding.replace(node, results)


class _Folding:
    """Puts initializers in the place of nodes, and keeps account of what that takes."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._names = Names(model)
        self._made: dict[str, int] = {}
        self._made_in_all = 0
        self._work = 0
        tensors = (v.const_value for v in model.graph.initializers.values())
        held = sum(tensor.size for tensor in tensors if tensor is not None)
        self._most = max(MAX_ELEMENTS, 4 * held)

    def check(self, node: ir.Node, arrays: list[NDArray[Any] | None]) -> None:
        """Refuse a node before it is computed.

        Raises:
            UnsupportedModelError: If it is one too many.
        """
        try:
            size = SIZES[node.op_type](node, arrays)
        except (ValueError, IndexError):
            return  # shapes that do not fit: nothing will come of it
        self._work += work(node, arrays, size)
        if self._made_in_all + size > self._most:
            raise UnsupportedModelError(
                f"{node.op_type} {node.name!r} makes constants of more than {self._most} "
                "elements, far more than the file holds; export the model anew"
            )
        if self._work > MAX_WORK:
            raise UnsupportedModelError(
                f"the model computes for too long from constants alone (up to {node.op_type} "
                f"{node.name!r}); export it with its constants folded"
            )

    def replace(self, node: ir.Node, results: list[NDArray[Any]]) -> None:
        """Put initializers in the place of a node's outputs."""
        for old, array in zip(node.outputs, results, strict=True):
            name = str(old.name)
            if name and old.uses():
                if self._names.shared(name):
                    name = self._names.another(name)
                value = ir.val(name, const_value=ir.tensor(array, name=name))
                old.replace_all_uses_with(value)
                self._graph.register_initializer(value)
                self._made[name] = array.size
                self._made_in_all += array.size
        self._take_out(node)

    def _take_out(self, node: ir.Node) -> None:
        """Remove a node, and what was there for it alone: views and computed constants."""
        gone = [node]
        while gone:
            last = gone.pop()
            inputs = dict.fromkeys(value for value in last.inputs if value is not None)
            assert last.graph is not None  # noqa: S101 - it was found in one
            last.graph.remove(last, safe=True)
            for value in inputs:
                maker = value.producer()
                if _is_needed(value):
                    continue
                if maker is None:
                    self._forget(value)
                elif not any(_is_needed(output) for output in maker.outputs):
                    gone.append(maker)

    def _forget(self, value: ir.Value) -> None:
        """Take a computed constant out that nothing uses."""
        size = self._made.pop(str(value.name), None)
        if size is not None:
            self._made_in_all -= size
            del self._graph.initializers[str(value.name)]


def _is_needed(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _may_be_computed(node: ir.Node) -> bool:
    return (
        node.op_type in SIZES
        and node.domain in {"", "ai.onnx"}
        and not any(output.is_graph_output() for output in node.outputs)
        and any(output.uses() for output in node.outputs)
    )


def _is_constant(node: ir.Node) -> bool:
    """Return whether a node can be computed now."""
    return _may_be_computed(node) and all(
        value is None or resolve(value) is not None for value in node.inputs
    )


def _weight_waits(model: ir.Model) -> bool:
    """Return whether a weight is cut or shaped by what sizes inside of the graph may tell."""
    inner = any(n.op_type == "Shape" and not _of_an_input(n) for n in model.graph)
    return (inner and not _fixed_batches(model)) and any(
        node.op_type in {"Slice", "Split", "Reshape", "Expand", "Tile"}
        and node.inputs
        and (operand := resolve(node.inputs[0])) is not None
        and _is_weight(operand.source)
        and any(v is not None and resolve(v) is None for v in node.inputs[1:])
        for node in model.graph
    )


def _of_an_input(node: ir.Node) -> bool:
    return node.inputs[0] is None or node.inputs[0].is_graph_input()


def _fixed_batches(model: ir.Model) -> set[int]:
    shapes = (value.shape for value in model.graph.inputs)
    return {shape[0] for shape in shapes if shape and isinstance(shape[0], int)}


def _goes_beside_samples(node: ir.Node, batches: set[int]) -> bool:
    """Return whether a constant is repeated for every sample of a fixed batch.

    A class token is: it stays one, and the batch can still be made dynamic.
    """
    if node.op_type not in {"Expand", "Tile"} or len(node.inputs) < 2:
        return False
    sizes = constant_array(node.inputs[1])
    beside = all(use.node.op_type == "Concat" for use in node.outputs[0].uses())
    return beside and sizes is not None and sizes.size > 1 and int(sizes.flat[0]) in batches


def _static_shape(node: ir.Node, inferred: Shapes) -> NDArray[np.int64] | None:
    """Return what a Shape gives if the file tells; None for other nodes.

    Not to be asked where the batch is fixed: sizes may be multiples of it.
    """
    if node.op_type != "Shape" or not _may_be_computed(node) or node.inputs[0] is None:
        return None
    for shape in (node.inputs[0].shape, inferred.get(str(node.inputs[0].name))):
        if shape is None:
            continue
        start, end = (attribute(node, *pair) for pair in (("start", 0), ("end", len(shape))))
        wanted = list(shape)[start:end]
        if wanted and all(isinstance(size, int) for size in wanted):
            return np.array(wanted, dtype=np.int64)
    return None


def _is_view(node: ir.Node) -> bool:
    """Return whether a node only rearranges floats: what moves is its source."""
    operand = resolve(node.outputs[0]) if node.op_type in VIEWS else None
    return operand is not None and operand.source.dtype in _FLOATS


def _sources(node: ir.Node) -> set[str]:
    """Return the names of the initializers that a node's constant inputs come from."""
    operands = (resolve(value) for value in node.inputs)
    return {str(operand.source.name) for operand in operands if operand is not None}


def _shared_sources(model: ir.Model, inferred: Shapes | None) -> set[str]:
    """Return the weights that are operands of a layer and are computed with, too.

    Args:
        model: The model.
        inferred: Shapes that it does not state; None where shapes are no constants.
    """
    constant: set[ir.Value | None] = {None, *model.graph.initializers.values()}
    computed: set[str] = set()
    used: set[str] = set()
    for node in model.graph.all_nodes():
        ahead = _may_be_computed(node) and constant.issuperset(node.inputs)
        if inferred is not None and not ahead:
            ahead = _static_shape(node, inferred) is not None
        if ahead:
            constant.update(node.outputs)
        if not _is_view(node) and node.op_type not in {"Shape", "Size"}:
            (computed if ahead else used).update(_sources(node))
    return {name for name in computed & used if _is_weight(model.graph.initializers.get(name))}


def _is_weight(value: ir.Value | None) -> bool:
    if value is None or value.const_value is None:
        return False
    axes = [n for n in value.const_value.shape.numpy() if n > 1]
    return value.const_value.dtype in _FLOATS and len(axes) > 1


@np.errstate(all="ignore")
def _computed(
    node: ir.Node, arrays: list[NDArray[Any] | None], opset: int
) -> list[NDArray[Any]] | None:
    """Return a node's outputs; None if they cannot be had."""
    feeds = {f"i{slot}": a for slot, a in enumerate(arrays) if a is not None}
    alone = helper.make_node(
        node.op_type,
        [f"i{slot}" if f"i{slot}" in feeds else "" for slot in range(len(arrays))],
        [f"o{slot}" for slot in range(len(node.outputs))],
    )
    alone.attribute.extend(ir.to_proto(a) for a in node.attributes.values())
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in alone.output]
    graph = helper.make_graph([alone], node.op_type, inputs, outputs)
    if node.op_type == "DequantizeLinear":
        opset = max(opset, 21)  # means the same, and has an implementation
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        results = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # noqa: BLE001 - whatever a damaged node makes it raise
        return None
    return [np.asarray(result, order="C") for result in results]
