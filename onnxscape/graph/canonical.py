"""Canonical form: small passes that make all exports look alike before anything is found.

Names of tensors in the user's file are kept: they are how parameters are addressed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.core.execution import PRECISIONS
from onnxscape.errors import ModelFileError, OnnxscapeError, UsageError
from onnxscape.graph.passes.constants import fold_constants
from onnxscape.graph.passes.fused import take_fused_apart
from onnxscape.graph.passes.loops import (
    capture_unchanged_states,
    refuse_endless_loops,
    refuse_long_loops,
)
from onnxscape.graph.passes.notes import Notes
from onnxscape.graph.passes.opsets import with_supported_opset
from onnxscape.graph.passes.precision import HALVES, keep_halves, widen_halves
from onnxscape.graph.passes.quantization import dequantize_weights
from onnxscape.graph.passes.randomness import refuse_randomness
from onnxscape.graph.passes.sparse import with_dense_weights
from onnxscape.graph.passes.structure import (
    free_initializers,
    hoist_initializers,
    inline_functions,
    lift_constants,
    name_default_domain,
    raise_ir_version,
    sort_nodes,
)
from onnxscape.graph.passes.training import leave_training_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

    from onnxscape.core.samples import TensorSignature
    from onnxscape.graph.model_file import ModelFile

    Pass = Callable[[ir.Model, Notes], None]


@dataclass(frozen=True, slots=True, eq=False)
class Canonical:
    """A model in canonical form.

    Every constant operand of a node is an initializer of the main graph, or a view of one
    (`operands.resolve`). No node is in training mode or draws random numbers, no model-local
    function is left, quantized weights are floats.

    Attributes:
        model: The model; share it, but do not change it.
        warnings: What the user should know of it.
        loosened: Why it may differ from the file at the center beyond rounding: `float16`,
            `bfloat16`, `quantized`, `training`; empty if it must not.
    """

    model: ir.Model
    warnings: tuple[str, ...]
    loosened: frozenset[str]


def canonical(proto: onnx.ModelProto, *, precision: str = "fp32") -> Canonical:
    """Bring a model into canonical form.

    Args:
        proto: The user's model; it is not changed.
        precision: One of `PRECISIONS`: `native` leaves float16 and bfloat16, all others make
            them float32.

    Returns:
        The same function of its inputs and weights.

    Raises:
        ModelFileError: If the graph is broken.
        UnsupportedModelError: If something in it cannot be handled.
        UsageError: If the precision is not known.
    """
    if precision not in PRECISIONS:
        *names, last = PRECISIONS
        raise UsageError(
            f"expected --precision {', '.join(names)} or {last}, got {precision!r}"
        )
    notes = Notes()
    with broken_graphs_refused():
        _refuse_unknown_names(proto.graph, ())
        proto = with_dense_weights(with_supported_opset(proto))
        model = ir.from_proto(proto)
        for apply in PASSES["native" if precision == "native" else "fp32"]:
            apply(model, notes)
    return Canonical(model, tuple(notes.warnings), frozenset(notes.loosened))


_MADE: weakref.WeakKeyDictionary[ModelFile, dict[str, Canonical]] = weakref.WeakKeyDictionary()
"""The canonical forms of the files that are in memory: some passes take their time."""


def canonical_of(file: ModelFile, precision: str = "fp32") -> Canonical:
    """Return the canonical form of a model file; it is made once and kept with the file.

    Args:
        file: The model.
        precision: As in `canonical`.

    Returns:
        The canonical form.

    Raises:
        OnnxscapeError: As in `canonical`.
    """
    forms = _MADE.setdefault(file, {})
    if precision in PRECISIONS and precision != "native":
        precision = "fp32"
    if precision not in forms:
        forms[precision] = canonical(file.proto, precision=precision)
    return forms[precision]


def fed_inputs(file: ModelFile, precision: str = "fp32") -> tuple[TensorSignature, ...]:
    """Return what the canonical form is fed: the file's inputs, half floats as float32.

    Args:
        file: The model.
        precision: As in `canonical`.

    Returns:
        Their signatures, in the file's order.
    """
    if precision == "native":
        return file.inputs
    halves = {dtype.numpy() for dtype in HALVES}
    wide = np.dtype(np.float32)
    return tuple(
        dataclasses.replace(s, dtype=wide) if s.dtype in halves else s for s in file.inputs
    )


@contextlib.contextmanager
def broken_graphs_refused() -> Iterator[None]:
    """Turn whatever a damaged graph makes the graph library raise into one error.

    Yields:
        Nothing.

    Raises:
        OnnxscapeError: One of ours that was raised inside, as it is.
        ModelFileError: In place of any other.
    """
    try:
        yield
    except OnnxscapeError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise ModelFileError(
            f"the model's graph is broken: {reason}; export it again"
        ) from error


def _refuse_unknown_names(graph: onnx.GraphProto, outer: tuple[set[str], ...]) -> None:
    """The graph library would make up values for them, and only log it.

    Raises:
        ModelFileError: If a node or output asks for a value that nothing makes.
    """
    known = {""}
    known |= {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    known |= {value.name for value in graph.input}
    known |= {name for node in graph.node for name in node.output}
    scopes = (known, *outer)  # not united: bodies may be as many as the names around them
    for reader, names in (
        *((f"node {node.name!r} ({node.op_type})", node.input) for node in graph.node),
        ("the graph's output", [output.name for output in graph.output]),
    ):
        for name in names:
            if not any(name in scope for scope in scopes):
                raise ModelFileError(
                    f"the model's graph is broken: {reader} asks for {name!r}, which nothing "
                    "makes; export it again"
                )
    for node in graph.node:
        for attribute in node.attribute:
            for body in (
                *attribute.graphs,
                *([attribute.g] if attribute.HasField("g") else []),
            ):
                _refuse_unknown_names(body, scopes)


def _passes(precision: Pass) -> tuple[Pass, ...]:
    return (
        name_default_domain,
        free_initializers,
        inline_functions,
        sort_nodes,
        lift_constants,
        hoist_initializers,
        raise_ir_version,
        refuse_randomness,
        refuse_endless_loops,
        capture_unchanged_states,
        leave_training_mode,
        take_fused_apart,
        precision,
        dequantize_weights,
        fold_constants,
        refuse_long_loops,
    )


PASSES = {"fp32": _passes(widen_halves), "native": _passes(keep_halves)}
"""By the precision that they leave a file in, in the order in which they run."""
