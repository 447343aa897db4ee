"""The scale of an integer weight, where it is multiplied only behind the weight's operator.

ConvInteger and MatMulInteger give integers. What they stand for comes from products behind
them: a scale of the activations, mostly measured as the model runs, and the constant scale of
the weight, which is taken out of the products here and so can be put into the weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.graph.operands import VIEWS, constant_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_MOST_FACTORS = 8
"""Products inside of products that are taken apart."""

_MOST_STEPS = 4
"""Multiplications behind an operator that are looked at."""


@dataclass(frozen=True, slots=True)
class _Product:
    """A Mul behind an operator.

    Attributes:
        node: The Mul.
        slot: The input that is no result of the operator, but a product of factors.
        scales: The constant ones among them, but for the scale of the activations.
        rest: The others.
    """

    node: ir.Node
    slot: int
    scales: tuple[NDArray[np.floating], ...]
    rest: tuple[ir.Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScaleBehind:
    """A weight's scale and where it is multiplied.

    Attributes:
        values: float64, [] or [filters].
        products: The multiplications that it is taken out of.
    """

    values: NDArray[np.float64]
    products: tuple[_Product, ...]

    def take_out(self) -> None:
        """Leave only the other factors in the multiplications."""
        for product in self.products:
            mul, old = product.node, product.node.inputs[product.slot]
            graph = mul.graph
            assert graph is not None  # noqa: S101 - it was found in one
            if not product.rest:
                same = ir.node("Identity", [mul.inputs[1 - product.slot]], name=mul.name)
                same.outputs[0].name = mul.outputs[0].name
                ir.convenience.replace_nodes_and_values(
                    graph, mul, [mul], [same], [mul.outputs[0]], [same.outputs[0]]
                )
            else:
                mul.replace_input_with(product.slot, _multiplied(mul, product.rest))
            _remove_unused(old)


def scale_behind(
    operator: ir.Node, results: Sequence[ir.Value], *, filters: int, axis: int, rank: int
) -> ScaleBehind | None:
    """Find the constant scale of an integer operator's weight.

    Args:
        operator: The operator; its first input is the activations.
        results: Its results as floats.
        filters: Number of the weight's filters.
        axis: Axis of the results that counts them, from the end.
        rank: The least number of axes that the results have.

    Returns:
        The scale; None if the results are not all multiplied by the same one, or if it cannot
        be told from that of the activations.
    """
    activations = _scale_of(operator.inputs[0])
    products: list[_Product] = []
    for result in results:
        found = _products(result, activations, _MOST_STEPS)
        if found is None:
            return None
        products += found
    totals = []
    for product in products:
        scales = [_by_filter(scale, filters, axis, rank) for scale in product.scales]
        if any(scale is None for scale in scales):
            return None
        totals.append(math.prod((s for s in scales if s is not None), start=np.float64(1)))
    if not totals or any(not np.array_equal(total, totals[0]) for total in totals):
        return None
    return ScaleBehind(np.asarray(totals[0]), tuple(products))


def _scale_of(value: ir.Value | None) -> ir.Value | None:
    """Return the scale that activations were quantized with; None if that is not known."""
    maker = None if value is None else value.producer()
    while maker is not None and maker.op_type in VIEWS:
        maker = None if maker.inputs[0] is None else maker.inputs[0].producer()
    if maker is not None and maker.op_type == "DynamicQuantizeLinear":
        return maker.outputs[1]
    if maker is not None and maker.op_type == "QuantizeLinear":
        return maker.inputs[1]
    return None


def _products(
    value: ir.Value, activations: ir.Value | None, steps: int, *, seen: bool = False
) -> list[_Product] | None:
    """Return the first multiplications by a constant on each way from a value.

    `seen` tells whether the scale of the activations has come already.
    """
    if not steps or value.is_graph_output() or not value.uses():
        return None
    found: list[_Product] = []
    for use in value.uses():
        product = _product(use.node, 1 - use.idx, value, activations, seen=seen)
        if product is None:
            return None
        further: list[_Product] | None = [product]
        if not product.scales:
            result = use.node.outputs[0]
            further = _products(result, activations, steps - 1, seen=bool(product.rest))
        if further is None:
            return None
        found += further
    return found


def _product(
    node: ir.Node, slot: int, value: ir.Value, activations: ir.Value | None, *, seen: bool
) -> _Product | None:
    """Return what a node multiplies a value by; None if that cannot be the scales."""
    other = node.inputs[slot] if _is_mul(node) else None
    if other is None or other is value:
        return None
    factors = list(_factors(other))
    places = (i for i, f in enumerate(factors) if not seen and _same(f, activations))
    place = next(places, None)
    own = [] if place is None else [factors.pop(place)]
    scales = [a for factor in factors if (a := constant_array(factor)) is not None]
    rest = [factor for factor in factors if constant_array(factor) is None]
    if not scales and rest and activations is not None:
        return None  # multiplied by something else first
    fixed = constant_array(activations) is not None
    missing = bool(scales) and fixed and not own and not seen
    if missing and not _follows(node.outputs[0], activations):
        return None  # the scales of both were multiplied when the file was written
    return _Product(node, slot, tuple(scales), (*own, *rest))


def _is_mul(node: ir.Node | None) -> bool:
    return node is not None and (node.domain, node.op_type) == ("", "Mul")


def _factors(value: ir.Value) -> Iterator[ir.Value]:
    """Yield the factors that a value is the product of; itself if it is none."""
    stack, left = [value], _MOST_FACTORS
    while stack:
        top = stack.pop()
        node = top.producer()
        left -= 1
        if node is None or not _is_mul(node) or left <= 0:
            yield top
        else:
            stack += [factor for factor in reversed(node.inputs) if factor is not None]


def _same(one: ir.Value, other: ir.Value | None) -> bool:
    if one is other or other is None:
        return one is other
    arrays = constant_array(one), constant_array(other)
    return (
        arrays[0] is not None
        and arrays[1] is not None
        and np.array_equal(arrays[0].ravel(), arrays[1].ravel())
    )


def _follows(value: ir.Value, scale: ir.Value | None) -> bool:
    """Return whether a value is multiplied by a scale wherever it is used."""
    return bool(value.uses()) and all(
        _is_mul(use.node)
        and any(_same(f, scale) for v in use.node.inputs if v is not None for f in _factors(v))
        for use in value.uses()
    )


def _by_filter(
    scale: NDArray[np.floating], filters: int, axis: int, rank: int
) -> NDArray[np.float64] | None:
    """Return a scale as [] or [filters]; None if it is along another axis or adds axes."""
    if scale.ndim > rank:
        return None
    values = scale.astype(np.float64)
    if values.size == 1:
        return values.reshape(())
    along = values.ndim >= -axis and values.shape[axis] == filters == values.size
    return values.ravel() if along else None


def _multiplied(mul: ir.Node, factors: Sequence[ir.Value]) -> ir.Value:
    """Return the product of some factors, made right before a node."""
    product, graph = factors[0], mul.graph
    assert graph is not None  # noqa: S101 - it was found in one
    for number, factor in enumerate(factors[1:]):
        name = f"{mul.name or mul.outputs[0].name}::scales_{number}"
        node = ir.node("Mul", [product, factor], name=name)
        product = node.outputs[0]
        product.name = f"{mul.outputs[0].name}::scales_{number}"
        graph.insert_before(mul, node)
    return product


def _remove_unused(value: ir.Value | None) -> None:
    """Remove what made a product that nothing uses any more."""
    node = None if value is None else value.producer()
    if value is None or node is None or not _is_mul(node):
        return
    if value.uses() or value.is_graph_output() or node.graph is None:
        return
    inputs = list(node.inputs)
    node.graph.remove(node, safe=True)
    for factor in inputs:
        _remove_unused(factor)
