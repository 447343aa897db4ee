"""Replacing one node by others, with tensors that take the names of those they replace."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.operands import constant_array
from onnxscape.graph.passes.constants import MAX_ELEMENTS, MAX_WORK
from onnxscape.graph.passes.structure import Names, rename

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPLACED_OP = "onnxscape.op"
"""Key of `ir.Node.meta`: the type of the user's operator that a node stands for. (Of
`ir.Value.meta` while passes run: what took a constant's name.)"""


class Rewriting:
    """What the replacements of one pass over a model share."""

    def __init__(self, model: ir.Model) -> None:
        """Look at a model; nothing changes.

        Args:
            model: The model.
        """
        self.graph = model.graph
        self._model = model
        self._made = 0
        self._work = 0

    @functools.cached_property
    def names(self) -> Names:
        """The names that are taken; most models need no new ones."""
        return Names(self._model)

    @functools.cached_property
    def _most(self) -> int:
        tensors = (value.const_value for value in self.graph.initializers.values())
        held = sum(tensor.size for tensor in tensors if tensor is not None)
        return max(MAX_ELEMENTS, 4 * held)

    def account(self, node: ir.Node, *, made: int = 0, work: int = 0) -> None:
        """Keep account of the tensors that are made.

        Args:
            node: The node that needs them.
            made: Elements of a new tensor.
            work: Elements that were gone through.

        Raises:
            UnsupportedModelError: If that is far more than the file holds: nodes that share a
                weight may each want another of it.
        """
        most = self._most
        self._made += made
        self._work += work
        if self._made > most or self._work > max(MAX_WORK, most):
            raise UnsupportedModelError(
                f"the weights that quantized operators share, up to those of {node.op_type} "
                f"{node.name!r}, become floats of more than {most} elements, or are computed "
                "anew too often; export the model with weights of their own, or without "
                "quantization"
            )


class Replacement:
    """Nodes and tensors that take the place of one node."""

    def __init__(self, rewriting: Rewriting, node: ir.Node) -> None:
        """Start with nothing.

        Args:
            rewriting: The pass that replaces.
            node: The node to replace.
        """
        self._rewriting = rewriting
        self._node = node
        self._nodes: list[ir.Node] = []

    def add(
        self, op: str, inputs: list[ir.Value | None], *, outputs: int = 1, **attributes: Any
    ) -> ir.Node:
        """Add a node behind those added before.

        Args:
            op: Its type, of the default domain.
            inputs: Its inputs.
            outputs: Number of its outputs.
            **attributes: Its attributes.

        Returns:
            The node.
        """
        number = len(self._nodes)
        name = self._node.name or self._node.outputs[0].name
        added = ir.node(
            op, inputs, attributes, num_outputs=outputs, name=f"{name}::{op}_{number}"
        )
        for index, value in enumerate(added.outputs):
            value.name = f"{self._node.outputs[0].name}::{op}_{number}_{index}"
        added.meta[REPLACED_OP] = self._node.op_type
        self._nodes.append(added)
        return added

    def tensor(self, old: ir.Value, array: NDArray[Any]) -> ir.Value:
        """Make an initializer that takes the name of a constant, or find the one that has.

        Args:
            old: The constant; what else uses it finds it under another name.
            array: The values that take its place.

        Returns:
            The new initializer.

        Raises:
            UnsupportedModelError: As `Rewriting.account`.
        """
        rewriting = self._rewriting
        rewriting.account(self._node, work=array.size)
        made: ir.Value | None = old.meta.get(REPLACED_OP)
        if made is not None and _holds(made, array):
            return made
        rewriting.account(self._node, made=array.size)
        if made is None:
            name = str(old.name)
            rename(old, rewriting.names.new(f"{name}::quantized"))
        else:
            name = rewriting.names.new(str(made.name))
        new = ir.val(name, const_value=ir.tensor(array, name=name))
        old.meta[REPLACED_OP] = new
        rewriting.graph.register_initializer(new)
        return new

    def finish(self, old: list[ir.Value], new: list[ir.Value]) -> None:
        """Put the nodes in, and take the old one out.

        Args:
            old: Values that are replaced: outputs of the node, or of nodes that only it feeds.
            new: What replaces them.
        """
        graph = self._node.graph
        makers = {id(v.producer()): v.producer() for v in old}
        gone = [
            self._node,
            *(n for n in makers.values() if n is not None and n is not self._node),
        ]
        assert graph is not None  # noqa: S101 - it was found in one
        ir.convenience.replace_nodes_and_values(
            graph, self._node, gone[::-1], self._nodes, old, new
        )


def _holds(value: ir.Value, array: NDArray[Any]) -> bool:
    held = constant_array(value)
    return held is not None and np.array_equal(held, array)
