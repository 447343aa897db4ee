"""The request: all that a user can ask of an evaluation, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxscape.core.direction import Ignore
from onnxscape.core.loss import LABELS_OF
from onnxscape.core.normalization import Normalization
from onnxscape.core.selection import Overrides
from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx
    from numpy.typing import ArrayLike

    from onnxscape.core.grid import Grid
    from onnxscape.data import Dataset

    Model = str | Path | bytes | onnx.ModelProto
    Data = str | Path | tuple[ArrayLike, ArrayLike] | Mapping[str, ArrayLike] | Dataset

DEFAULT_SAMPLES = 1000
"""Samples used when nothing is said; fewer if there are not so many."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvalRequest:
    """What to evaluate, on what, where, and how.

    Attributes:
        model: Path of an .onnx file, its bytes, or the parsed model.
        data: Name, file, folder or `module:function`; or arrays: (x, y), or a mapping from
            input names to arrays with the labels under `y`; or a data set.
        grid: The points.
        name: What people call a model that comes without a path.
        seed: Seed of the random directions.
        normalization: How they are scaled by the weights.
        ignore: Which parameters they leave alone.
        orthogonal: Whether eta is made orthogonal to delta.
        directions: Direction file to use instead of random ones.
        include: Patterns of tensor names to move whatever their role.
        exclude: Patterns of tensor names to leave alone; they win.
        filter_axis: Name of a tensor to the axis that counts its filters.
        loss: Name of the loss, or an .onnx file that computes it from outputs and labels;
            None to have one proposed from the output and the labels.
        metrics: Names of the metrics besides the loss, or .onnx files; None for `accuracy`
            where the loss has it.
        output: Name of the output that the loss is computed from; None for the only one, or
            the only one of floats.
        class_axis: Axis of the output that counts classes; None for the one that shapes tell.
        ignore_index: Class number of positions that do not count; None for -100.
        label_smoothing: Share of the uniform distribution in the labels of `cross-entropy`.
        huber_delta: Where `huber` goes from square to straight.
        split: `train` or `test`, where the data has them.
        samples: Number of samples; `all`; `auto` for as many per point as `stderr` takes; or
            None for 1000, or all if there are fewer.
        layout: Layout of the data's images where it is ambiguous.
        mean: Subtracted per channel; None for the data set's own.
        std: Divides per channel; None for the data set's own.
        scale: `raw`, `unit`, or what divides the values; None for the data set's own.
        data_dir: Where data sets are kept instead of the user's cache folder.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `openvino`.
        provider: Name of any other execution provider of ONNX Runtime, instead of a device.
        threads: Threads on the CPU; None for all cores.
        workers: Points evaluated at the same time, which share the threads; None for what
            turns out fastest.
        strategy: How weights reach ONNX Runtime; None for the rule.
        batch_size: Samples per forward pass; None for the rule.
        precision: `fp32` computes all models in float32, `native` as they are; `tf32`, `fp16`
            and `bf16` are faster and less exact, where the device has them.
        weights: Values of model inputs that are weights: a .npz file, or arrays by name.
        adaptive: Whether points that are well interpolated are not evaluated.
        tolerance: Largest relative error of interpolated losses; None for 0.05.
        stderr: Largest standard error of the loss, with `auto` samples.
        two_level: Number of the samples that most points are evaluated on, to be corrected
            from a coarse grid that is evaluated on all; None to evaluate all points on all.
        graphs: Losses and metrics that `loss` and `metrics` name as files, by that name: they
            are taken from here, and no such file is read.
    """

    model: Model
    data: Data
    grid: Grid
    name: str | None = None
    seed: int = 0
    normalization: Normalization = Normalization.FILTER
    ignore: Ignore = Ignore.BIASBN
    orthogonal: bool = False
    directions: str | Path | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter_axis: Mapping[str, int] = field(default_factory=dict)
    loss: str | None = None
    metrics: tuple[str, ...] | None = None
    output: str | None = None
    class_axis: int | None = None
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    huber_delta: float = 1.0
    split: str = "train"
    samples: int | str | None = None
    layout: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    scale: str | float | None = None
    data_dir: Path | None = None
    device: str = "auto"
    provider: str | None = None
    threads: int | None = None
    workers: int | None = None
    strategy: str | None = None
    batch_size: int | None = None
    precision: str = "fp32"
    weights: str | Path | Mapping[str, ArrayLike] | None = None
    adaptive: bool = False
    tolerance: float | None = None
    stderr: float | None = None
    two_level: int | None = None
    graphs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def overrides(self) -> Overrides:
        """What the user says about single tensors."""
        return Overrides(
            include=self.include, exclude=self.exclude, filter_axis=self.filter_axis
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """Where the result goes.

    Attributes:
        path: The surface file.
        restart: Whether to throw away what is there.
        store: Folder for the live point store; None for beside the surface.
        save_directions: Direction file to write; None for none.
    """

    path: Path
    restart: bool = False
    store: Path | None = None
    save_directions: Path | None = None


def is_file(name: str) -> bool:
    """Return whether the name of a loss or metric is that of a file.

    Args:
        name: What the user wrote.
    """
    return name.lower().endswith(".onnx")


def check_names(request: EvalRequest) -> None:
    """Refuse a loss or split that is not known, before anything is read.

    Args:
        request: The request.

    Raises:
        UsageError: If it is not known, or an option means nothing.
    """
    loss = request.loss
    if loss is not None and loss not in LABELS_OF and not is_file(loss):
        raise UsageError(
            f"expected --loss as one of {', '.join(LABELS_OF)}, or a file such as loss.onnx, "
            f"got {loss!r}"
        )
    if not 0.0 <= request.label_smoothing <= 1.0:
        raise UsageError(
            f"expected --label-smoothing from 0 to 1, got {request.label_smoothing:g}"
        )
    if not 0.0 < request.huber_delta < math.inf:
        raise UsageError(f"expected --huber-delta above 0, got {request.huber_delta:g}")
    if request.split not in {"train", "test"}:
        raise UsageError(f"expected --split train or test, got {request.split!r}")
