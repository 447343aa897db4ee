"""The result: surfaces on a grid, with the spec and plan that made them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from onnxscape.core.grid import Grid
    from onnxscape.core.interpolation import Interpolation
    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Landscape:
    """The loss, and other metrics, of one model on a plane or line through its weights.

    Attributes:
        grid: Where the metrics were evaluated.
        surfaces: Metric name to values, float64 [n_beta, n_alpha] ([n] on a line). `loss` is
            always there; `accuracy` is a fraction. A non-finite loss is data; a point not
            evaluated is NaN too, with `evaluated` False, unless it was interpolated.
        evaluated: bool, shaped like the surfaces; on all samples of the run, where some points
            take fewer to be corrected.
        center: Metric name to its value at alpha = beta = 0, on the grid or not. Empty if the
            center was not reached before an interrupt.
        spec: What defines the numbers; None for surfaces that came from elsewhere.
        plan: What defines their bits; None likewise.
        provenance: For people: names of model and data, versions, machine, times.
        interpolation: How the points that were not evaluated got their values, and what is
            known of their error; None if they have none.
    """

    grid: Grid
    surfaces: Mapping[str, NDArray[np.float64]]
    evaluated: NDArray[np.bool_]
    center: Mapping[str, float]
    spec: EvalSpec | None = None
    plan: Plan | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    interpolation: Interpolation | None = None

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in reversed(self.grid.shape))
        loss = self.center.get("loss", float("nan"))
        return (
            f"Landscape({self.provenance.get('model', '?')} on "
            f"{self.provenance.get('data', '?')}, "
            f"{shape} points, center loss {loss:.4g})"
        )

    @property
    def complete(self) -> bool:
        """Whether every point of the grid has its value: evaluated, or interpolated."""
        return bool(self.known.all())

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where values are no gaps: all points after an interpolation, else the evaluated."""
        return self.evaluated if self.interpolation is None else self.evaluated | True

    @property
    def loss(self) -> NDArray[np.float64]:
        """Mean loss per sample [n_beta, n_alpha], or [n] on a line."""
        return self.surfaces["loss"]

    @property
    def accuracy(self) -> NDArray[np.float64] | None:
        """Fraction classified right, shaped like `loss`; None if it has no meaning."""
        return self.surfaces.get("accuracy")

    @property
    def loss_stderr(self) -> NDArray[np.float64] | None:
        """Standard error of `loss` from drawing a subset of the samples, shaped like it."""
        return self.surfaces.get("loss_stderr")

    @property
    def alphas(self) -> NDArray[np.float64] | None:
        """Steps along delta [n_alpha]; None on a line along eta."""
        return self.grid.alphas

    @property
    def betas(self) -> NDArray[np.float64] | None:
        """Steps along eta [n_beta]; None on a line along delta."""
        return self.grid.betas

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the landscape as a surface file (HDF5), atomically.

        A file of the same spec is replaced, another landscape only if you say so.

        Args:
            path: The file to write.
            overwrite: Whether to replace another landscape of onnxscape's.

        Raises:
            OutputError: If the file cannot be written, or holds anything else.
            StorageError: If the disk is full or fails.
        """
        # Looked up when asked for, like the drawing below: core does no I/O itself.
        storage = importlib.import_module("onnxscape.storage")
        storage.save_without_loss(self, Path(path), overwrite=overwrite)

    def plot(self, kind: str | None = None, *, path: str | Path | None = None) -> Figure:
        """Draw the landscape.

        Args:
            kind: `line` for a line; `contour`, `filled`, `heatmap` or `surface` for a
                plane. By default `line` or `contour`.
            path: Where to save the picture (.png, .pdf or .svg), if anywhere.

        Returns:
            The matplotlib figure; notebooks show it.

        Raises:
            UsageError: If the kind does not fit the grid.
        """
        # Looked up when asked for, as pandas does: core stays free of matplotlib.
        plots = importlib.import_module("onnxscape.plots")
        figure: Figure = plots.draw(self, kind, path=path)
        return figure
