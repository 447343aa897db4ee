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
    from collections.abc import Iterator

    from onnxscape.graph.passes.notes import Notes

MAX_NODES = 10**6
"""Nodes of a model whose functions are written out."""

MAX_NAMING = 2**25
"""Attempts to name the values of functions that are written out: the graph library's inliner
counts up from one for every copy of a name, and compares functions with one another."""

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
            twice double with every level. Or if it takes far too long to name them.
    """
    if not model.functions:
        return
    copies = _copies(model)
    for uncalled in set(model.functions) - set(copies):
        del model.functions[uncalled]  # or the inliner would write out what they call
    total, names = 0, Counter[str]()
    for key, count in copies.items():
        graph = model.graph if key is None else model.functions[key]
        for node in graph.all_nodes():
            total += 0 if node.op_identifier() in model.functions else count
            for name in {"node " + str(node.name), *(str(v.name) for v in node.outputs)}:
                names[name] += count
    if total > MAX_NODES:
        raise UnsupportedModelError(
            f"the model's functions stand for {total} nodes, more than {MAX_NODES}; export it "
            "anew"
        )
    if sum(n * n for n in (len(model.functions), *names.values())) > 2 * MAX_NAMING:
        most = max(names.values(), default=0)
        raise UnsupportedModelError(
            f"the model has {len(model.functions)} functions, and written out up to {most} "
            "nodes or values of one name, more than can be told apart in time; export it with "
            "its functions inlined"
        )
    InlinePass()(model)


def _copies(model: ir.Model) -> dict[ir.OperatorIdentifier | None, int]:
    """Return how often each function is written out; None stands for the main graph, once.

    Functions in a circle, which the inliner reports, count as if they did not call back.
    """
    calls = {
        key: Counter(
            called
            for node in (model.graph if key is None else model.functions[key]).all_nodes()
            if (called := node.op_identifier()) in model.functions
        )
        for key in (None, *model.functions)
    }
    behind: list[ir.OperatorIdentifier | None] = []  # each after all that it calls
    seen: set[ir.OperatorIdentifier | None] = {None}
    stack: list[tuple[ir.OperatorIdentifier | None, Iterator[ir.OperatorIdentifier]]]
    stack = [(None, iter(calls[None]))]
    while stack:
        key, rest = stack[-1]
        found = next((called for called in rest if called not in seen), None)
        if found is None:
            behind.append(key)
            stack.pop()
        else:
            seen.add(found)
            stack.append((found, iter(calls[found])))
    copies: dict[ir.OperatorIdentifier | None, int] = dict.fromkeys(behind[::-1], 0)
    copies[None] = 1
    for key in behind[::-1]:
        for called, count in calls[key].items():
            copies[called] += copies[key] * count
    return copies


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
