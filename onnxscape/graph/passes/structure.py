"""Passes on how a model is written down: names, order, and where its tensors are kept."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveInitializersFromInputsPass,
)

from onnxscape.errors import UnsupportedModelError

if TYPE_CHECKING:
    from onnxscape.graph.passes.notes import Notes

MAX_NODES = 10**6
"""Nodes of a model whose functions are written out."""

MIN_IR_VERSION = 4
"""From this version on an initializer that is an input too can be overridden."""


def name_default_domain(model: ir.Model, _notes: Notes) -> None:
    """After: the default operator set is called "", not by its other name."""
    version = model.opset_imports.pop("ai.onnx", None)
    if version is not None:
        model.opset_imports.setdefault("", version)


def free_initializers(model: ir.Model, _notes: Notes) -> None:
    """Old files list weights as inputs. After: no initializer is an input."""
    RemoveInitializersFromInputsPass()(model)


def inline_functions(model: ir.Model, _notes: Notes) -> None:
    """After: no node calls a model-local function.

    Raises:
        UnsupportedModelError: If that makes far too many nodes: functions that call others
            twice double with every level.
    """
    if not model.functions:
        return
    sizes: dict[ir.OperatorIdentifier, int] = {}
    total = sum(_inlined_size(model, node, sizes) for node in model.graph.all_nodes())
    if total > MAX_NODES:
        raise UnsupportedModelError(
            f"the model's functions stand for {total} nodes, more than {MAX_NODES}; export it "
            "anew"
        )
    InlinePass()(model)


def _inlined_size(
    model: ir.Model, node: ir.Node, sizes: dict[ir.OperatorIdentifier, int]
) -> int:
    """Return how many nodes a node becomes."""
    key = node.op_identifier()
    if key not in model.functions:
        return 1
    if key not in sizes:
        sizes[key] = 0  # a circle, which the inliner reports
        nodes = model.functions[key].all_nodes()
        sizes[key] = sum(_inlined_size(model, inner, sizes) for inner in nodes)
    return sizes[key]


def sort_nodes(model: ir.Model, _notes: Notes) -> None:
    """After: every node stands behind those it depends on; none depends on itself."""
    model.graph.sort()


def lift_constants(model: ir.Model, _notes: Notes) -> None:
    """After: Constant nodes are initializers, but for those that are a graph's output."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            if value.const_value is not None and value.const_value.name != name:
                rename(value, name)


def hoist_initializers(model: ir.Model, _notes: Notes) -> None:
    """Move the initializers of If, Loop and Scan bodies into the main graph.

    Before: constants are lifted. After: bodies capture them by name; a name that is used
    anywhere else gets a number. (A body's output that is an initializer stays: an output has
    to be made where it is.)
    """
    names = Names(model)
    for graph in list(model.graphs()):
        if graph is model.graph:
            continue
        for name, value in list(graph.initializers.items()):
            if value.is_graph_output() or value.is_graph_input():
                continue
            del graph.initializers[name]
            if names.shared(name):
                rename(value, names.another(name))
            model.graph.register_initializer(value)


def rename(value: ir.Value, name: str) -> None:
    """Give an initializer another name, and leave the name of the user's tensor alone.

    Args:
        value: The initializer.
        name: Its new name.
    """
    tensor = value.const_value
    if tensor is not None:
        # The graph library would rename the tensor, which may be the user's.
        value.const_value = ir.LazyTensor(
            lambda: tensor,
            dtype=tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
        )
    value.name = name


class Names:
    """The names of the values of a model and its bodies, and which are still free.

    A pass makes one and asks it for every new name: counting all names again for each would
    take time with the square of the model's size.
    """

    def __init__(self, model: ir.Model) -> None:
        """Count how many values have each name.

        Args:
            model: The model.
        """
        self._taken: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()
        for graph in model.graphs():
            self._taken.update(
                str(value.name) for value in (*graph.inputs, *graph.initializers.values())
            )
            self._taken.update(str(value.name) for node in graph for value in node.outputs)

    def shared(self, name: str) -> bool:
        """Return whether several values have a name."""
        return self._taken[name] > 1

    def another(self, name: str) -> str:
        """Give one of the values of a name another, and count it.

        Args:
            name: The name they share.

        Returns:
            The name with a number behind it.
        """
        free = self.new(name)
        self._taken[name] -= 1
        return free

    def new(self, name: str) -> str:
        """Find a name for a new value, and count it.

        Args:
            name: What it is made of.

        Returns:
            The name with the first number behind it that makes it another one.
        """
        numbers = itertools.count(self._tried[name] + 1)
        number = next(n for n in numbers if f"{name}_{n}" not in self._taken)
        self._tried[name] = number  # names that were ever taken are never free again
        free = f"{name}_{number}"
        self._taken[free] += 1
        return free


def raise_ir_version(model: ir.Model, _notes: Notes) -> None:
    """After: initializers can be overridden by inputs."""
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)
