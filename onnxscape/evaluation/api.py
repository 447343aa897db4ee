"""The Python API: one call from a model to a landscape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxscape.errors import SurfaceFileError, UsageError
from onnxscape.evaluation.arguments import make_request
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import OutputOptions
from onnxscape.evaluation.run import run_in_memory, run_to_file
from onnxscape.storage import PointStore, load_landscape

if TYPE_CHECKING:
    from onnxscape.core.grid import Axis, Grid
    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import Data, Model


def evaluate(
    model: Model,
    data: Data,
    *,
    grid: str | int | Grid = "25x25",
    radius: float = 1.0,
    x: str | Axis | tuple[float, float, int] | None = None,
    y: str | Axis | tuple[float, float, int] | None = None,
    normalize: str = "filter",
    ignore: str = "biasbn",
    out: str | Path | None = None,
    restart: bool = False,
    store: str | Path | None = None,
    save_directions: str | Path | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> Landscape:
    """Evaluate the loss landscape of a model.

    L(alpha, beta) = loss(theta + alpha * delta + beta * eta) on a grid, with filter-normalized
    random directions delta and eta (Li et al., NeurIPS 2018, section 4).

    Example:
        >>> import onnxscape as ox
        >>> landscape = ox.evaluate("models/digits_cnn.onnx", "digits", grid="5x5")
        >>> landscape.loss.shape
        (5, 5)
        >>> bool(landscape.loss.min() == landscape.center["loss"])
        True

    Args:
        model: Path of an .onnx file, its bytes, or an `onnx.ModelProto`.
        data: Name (`digits`, `cifar10`, ...), file, folder or `module:function`; or arrays:
            `(x, y)`, or a mapping from input names to arrays with the labels under `y`.
        grid: `"51x51"` for a plane, `"51"` for a line along delta, or a `Grid`.
        radius: Largest coordinate of `grid`.
        x: `MIN:MAX:NUM`, (min, max, num) or an `Axis` along delta; with `y` it replaces
            `grid`.
        y: The same along eta.
        normalize: `filter`, `layer`, `weight`, `dfilter`, `dlayer` or `none`.
        ignore: `biasbn` leaves biases and normalization parameters alone, `none` scales them
            with the weights.
        out: Surface file to write; it also keeps finished points through interrupts.
        restart: Whether to throw away what `out` holds.
        store: Folder for the live point store; beside `out` by default, and needs it.
        save_directions: Direction file to write; needs `out`.
        observer: Told what happens; by default warnings become Python warnings, and
            nothing else is said.
        **options: Further fields of `EvalRequest`: `seed`, `samples`, `split`, `loss`,
            `metrics`, `output`, `class_axis`, `ignore_index`, `label_smoothing`,
            `huber_delta`, `directions`, `orthogonal`, `include`, `exclude`, `filter_axis`,
            `batch_size`, `device`, `provider`, `threads`, `workers`, `strategy`, `layout`,
            `mean`, `std`, `scale`, `data_dir`, `precision`, `weights`, `adaptive`,
            `tolerance`, `stderr`, `two_level`.

    Returns:
        The landscape.

    Raises:
        UsageError: If an option means nothing.
        OnnxscapeError: If the request cannot be carried out.
        EvaluationInterrupted: On an interrupt; its `report.landscape` holds what is there.
    """
    request = make_request(
        model,
        data,
        grid=grid,
        radius=radius,
        x=x,
        y=y,
        normalize=normalize,
        ignore=ignore,
        **options,
    )
    observer = observer or QuietObserver()
    if out is None:
        if store is not None or save_directions is not None:
            raise UsageError("store and save_directions need out, the surface file to write")
        return run_in_memory(request, observer).landscape
    output = OutputOptions(
        path=Path(out),
        restart=restart,
        store=None if store is None else Path(store),
        save_directions=None if save_directions is None else Path(save_directions),
    )
    return run_to_file(request, output, observer).landscape


def load(path: str | Path) -> Landscape:
    """Read a surface file, ours or the reference implementation's.

    Example:
        >>> import onnxscape as ox
        >>> landscape = ox.load("tests/reference/surface_2d.h5")
        >>> landscape.loss.shape
        (11, 11)

    Args:
        path: The file.

    Returns:
        The landscape.

    Raises:
        SurfaceFileError: If it is no readable surface.
    """
    path = Path(path)
    live = PointStore.location(path)
    if not path.exists() and live.is_file():
        raise SurfaceFileError(
            f"there is no {path} yet: its run is not finished, and the points so far are in "
            f"{live.name}; the same eval command continues it"
        )
    return load_landscape(path)
