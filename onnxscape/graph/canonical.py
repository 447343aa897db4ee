"""Canonical form: small passes that make all exports look alike before anything is found.

Every pass takes a model, changes it in place, and leaves what it computes unchanged. Names of
tensors in the user's file are kept: they are how parameters are addressed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveInitializersFromInputsPass,
)

from onnxscape.errors import ModelFileError, OnnxscapeError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

MIN_IR_VERSION = 4
"""From this version on an initializer that is an input too can be overridden."""

MIN_OPSET = 11
"""The loss head needs GatherElements."""


def canonical(proto: onnx.ModelProto) -> ir.Model:
    """Bring a model into canonical form.

    Args:
        proto: The user's model; it is not changed.

    Returns:
        The same function: weights are initializers, never inputs or Constant nodes; no
        model-local functions; nothing in training mode.

    Raises:
        ModelFileError: If the graph is broken.
        UnsupportedModelError: If a node only makes sense in training, or the opset is too old.
    """
    with broken_graphs_refused():
        _refuse_sparse_weights(proto)
        _refuse_unknown_names(proto.graph, frozenset())
        model = ir.from_proto(proto)
        for apply in PASSES:
            apply(model)
    return model


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


def _refuse_sparse_weights(proto: onnx.ModelProto) -> None:
    """The graph library would drop them.

    Raises:
        UnsupportedModelError: If there are any.
    """
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise UnsupportedModelError(
            f"the weight {name!r} is stored as a sparse tensor, which cannot be moved; "
            "export the model with dense weights"
        )


def _refuse_unknown_names(graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    """The graph library would make up values for them, and only log it.

    Raises:
        ModelFileError: If a node or output asks for a value that nothing makes.
    """
    known = outer | {""}
    known |= {tensor.name for tensor in graph.initializer}
    known |= {value.name for value in graph.input}
    known |= {name for node in graph.node for name in node.output}
    for reader, names in (
        *((f"node {node.name!r} ({node.op_type})", node.input) for node in graph.node),
        ("the graph's output", [output.name for output in graph.output]),
    ):
        for name in names:
            if name not in known:
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
                _refuse_unknown_names(body, known)


def _name_default_domain(model: ir.Model) -> None:
    """After: the default operator set is called "", not by its other name."""
    version = model.opset_imports.pop("ai.onnx", None)
    if version is not None:
        model.opset_imports.setdefault("", version)


def _free_initializers(model: ir.Model) -> None:
    """Old files list weights as inputs. After: no initializer is an input."""
    RemoveInitializersFromInputsPass()(model)


def _inline_functions(model: ir.Model) -> None:
    """After: no node calls a model-local function."""
    if model.functions:
        InlinePass()(model)


def _sort_nodes(model: ir.Model) -> None:
    """After: every node stands behind those it depends on; none depends on itself."""
    model.graph.sort()


def _lift_constants(model: ir.Model) -> None:
    """After: no Constant node with a numeric value is left in the main graph."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def _raise_ir_version(model: ir.Model) -> None:
    """After: initializers can be overridden by inputs."""
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)


def _refuse_old_opsets(model: ir.Model) -> None:
    """After: the default operator set is new enough for the loss head.

    Raises:
        UnsupportedModelError: If it is not.
    """
    opset = model.opset_imports.get("", 1)
    if opset < MIN_OPSET:
        raise UnsupportedModelError(
            f"expected operator set {MIN_OPSET} or newer, the model has {opset}; export it "
            "anew, or convert it with onnx.version_converter.convert_version"
        )


def _refuse_training_mode(model: ir.Model) -> None:
    """After: BatchNormalization and Dropout only do inference.

    Raises:
        UnsupportedModelError: If one of them is in training mode.
    """
    for node in model.graph.all_nodes():
        training = node.op_type == "BatchNormalization" and (
            (mode := node.attributes.get("training_mode")) is not None and mode.as_int() == 1
        )
        if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
            flag = ir.convenience.get_const_tensor(node.inputs[2])
            training = flag is None or bool(flag.numpy().any())
        if training:
            raise UnsupportedModelError(
                f"{node.op_type} {node.name!r} is in training mode: its output would change "
                "from run to run; export the model in evaluation mode (model.eval())"
            )


_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


def _refuse_randomness(model: ir.Model) -> None:
    """After: the same inputs give the same outputs.

    Raises:
        UnsupportedModelError: If a node draws random numbers.
    """
    for node in model.graph.all_nodes():
        if node.op_type in _RANDOM and node.domain in {"", "ai.onnx"}:
            raise UnsupportedModelError(
                f"{node.op_type} {node.name!r} draws random numbers: the loss would change "
                "from run to run; export the model in evaluation mode, or with fixed noise"
            )


PASSES: tuple[Callable[[ir.Model], None], ...] = (
    _name_default_domain,
    _refuse_old_opsets,
    _free_initializers,
    _inline_functions,
    _sort_nodes,
    _lift_constants,
    _raise_ir_version,
    _refuse_training_mode,
    _refuse_randomness,
)
"""In the order in which they run."""
