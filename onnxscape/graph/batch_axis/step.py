"""One node of a proof: what its rule sees, and what it wants changed in the graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx_ir as ir

from onnxscape.graph.batch_axis.state import Sizes, State, Unprovable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Edit: TypeAlias = Callable[[], None]


@dataclass(slots=True)
class Edits:
    """Changes of a graph that are made once the proof is complete.

    Attributes:
        graph: The graph.
    """

    graph: ir.Graph
    _made: list[Edit] = field(default_factory=list)
    _names: int = 0

    def add(self, edit: Edit) -> None:
        """Remember a change."""
        self._made.append(edit)

    def apply(self) -> None:
        """Make all changes, in their order."""
        for edit in self._made:
            edit()

    def integers(self, values: Sequence[int]) -> ir.Value:
        """Return a new constant.

        Args:
            values: What it holds.

        Returns:
            The initializer, int64 [len(values)].
        """
        name = self._name()
        tensor = ir.tensor(np.array(values, dtype=np.int64), name=name)
        value = ir.val(name, const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def insert(
        self,
        before: ir.Node,
        op: str,
        inputs: Sequence[ir.Value],
        attributes: dict[str, int] | None = None,
    ) -> ir.Value:
        """Insert a node.

        Args:
            before: The node it goes in front of.
            op: Its operator.
            inputs: Its inputs.
            attributes: Its attributes.

        Returns:
            Its output.
        """
        node = ir.node(op, inputs, attributes or {}, name=self._name())
        node.outputs[0].name = f"{node.name}::out"
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def sizes(
        self, before: ir.Node, like: tuple[ir.Value, int], others: Sequence[int], axis: int
    ) -> ir.Value:
        """Compute a shape of which one entry follows the batch.

        Args:
            before: The node that needs it.
            like: A value and its axis of the size wanted.
            others: The shape; the entry at `axis` does not matter.
            axis: The entry that follows.

        Returns:
            The shape, int64 [len(others)].
        """
        value, at = like
        shape = self.insert(before, "Shape", [value])
        size = self.insert(before, "Gather", [shape, self.integers([at])], {"axis": 0})
        parts = [size]
        if axis:
            parts.insert(0, self.integers(others[:axis]))
        if axis + 1 < len(others):
            parts.append(self.integers(others[axis + 1 :]))
        return self.insert(before, "Concat", parts, {"axis": 0}) if len(parts) > 1 else size

    def _name(self) -> str:
        self._names += 1
        return f"onnxscape::batch_{self._names}"


@dataclass(slots=True)
class Choices:
    """Which of several places was taken for the batch, wherever sizes left it open.

    A proof that fails is tried again with the next ones, the last choice changed first.

    Attributes:
        taken: For each choice made so far, the place taken and how many there are.
    """

    taken: list[tuple[int, int]] = field(default_factory=list)
    _made: int = 0

    def among(self, count: int) -> int:
        """Return which of so many places to take."""
        if self._made == len(self.taken):
            self.taken.append((0, count))
        self._made += 1
        return self.taken[self._made - 1][0]

    def others(self) -> Choices | None:
        """Return the choices to try next; None if all were tried."""
        taken = list(self.taken)
        while taken:
            place, count = taken.pop()
            if place + 1 < count:
                return Choices([*taken, (place + 1, count)])
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node of a proof.

    Attributes:
        node: The node.
        states: What is known of its inputs; None for those left out.
        opset: Version of the default operator set.
        batch: The batch size that the model was exported for.
        edits: Takes the changes.
        choices: Tells where the batch lies if sizes leave it open.
    """

    node: ir.Node
    states: tuple[State | None, ...]
    opset: int
    batch: int
    edits: Edits
    choices: Choices

    @property
    def given(self) -> list[State]:
        """What is known of the inputs that are there."""
        return [state for state in self.states if state is not None]

    def has(self, slot: int) -> bool:
        """Return whether an input is there."""
        return slot < len(self.states) and self.states[slot] is not None

    def state(self, slot: int) -> State:
        """Return what is known of an input that must be there.

        Raises:
            Unprovable: If it is not.
        """
        found = self.states[slot] if slot < len(self.states) else None
        if found is None:
            raise Unprovable(f"lacks input {slot}")
        return found

    def tracked(self, slot: int) -> tuple[State, Sizes]:
        """Return an input and its shape.

        Raises:
            Unprovable: If its rank is not known.
        """
        state = self.state(slot)
        if state.shape is None:
            raise Unprovable(f"has a constant of unknown shape, {self.name_of(slot)}")
        return state, state.shape

    def name_of(self, slot: int) -> str:
        """Return the name of an input, for messages."""
        value = self.node.inputs[slot] if slot < len(self.node.inputs) else None
        return "an input" if value is None else repr(value.name)

    def constant(self, *slots: int) -> None:
        """Refuse inputs that hold the batch where the rule takes constants only.

        Raises:
            Unprovable: If one does.
        """
        for slot in slots:
            if self.has(slot) and self.state(slot).along is not None:
                raise Unprovable(f"takes {self.name_of(slot)} from the samples")

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else found.as_int()

    def text(self, name: str, default: str) -> str:
        """Return a text attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else found.as_string()

    def integers(self, name: str, slot: int | None = None) -> list[int] | None:
        """Return integers given as an attribute or as an input.

        Args:
            name: The attribute's name.
            slot: The input that newer operator sets have instead.

        Returns:
            The integers; None if they are left out.

        Raises:
            Unprovable: If they are no constants.
        """
        found = self.node.attributes.get(name)
        if found is not None:
            return list(found.as_ints())
        if slot is None or not self.has(slot):
            return None
        numbers = self.state(slot).numbers
        if numbers is None or any(n is None or n.per_sample for n in numbers.flat):
            raise Unprovable(
                f"takes its {name} from {self.name_of(slot)}, which is no constant"
            )
        return [number.fixed for number in numbers.flat]

    def set_integers(self, name: str, slot: int, values: list[int]) -> None:
        """Let the node have other integers, as an attribute or an input by its operator set.

        Args:
            name: The attribute's name.
            slot: The input of operator sets from 13 on.
            values: The integers.
        """

        def edit() -> None:
            if self.opset < 13:
                self.node.attributes[name] = ir.AttrInt64s(name, values)
                return
            self.node.resize_inputs(max(slot + 1, len(self.node.inputs)))
            self.node.replace_input_with(slot, self.edits.integers(values))

        self.edits.add(edit)


def product(sizes: Sizes) -> int | None:
    """Return the product of sizes; None if one is not known."""
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def normalized(axis: int, rank: int) -> int:
    """Return an axis counted from the front.

    Raises:
        Unprovable: If there is no such axis.
    """
    if not -rank <= axis < rank:
        raise Unprovable(f"names axis {axis} of {rank}")
    return axis % rank


Rule: TypeAlias = "Callable[[Step], Sequence[State]]"
"""From a node to what is known of its outputs: one state each, or one for all."""
