"""From an order to the request of an evaluation: its blobs as files, its values checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnxscape.core.direction import Ignore
from onnxscape.core.normalization import Normalization
from onnxscape.errors import ModelFileError, UsageError
from onnxscape.evaluation.request import EvalRequest, is_file
from onnxscape.files.reason import reason
from onnxscape.jobs.order_data import dataset_of
from onnxscape.jobs.order_grid import grid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from onnxscape.data import Dataset
    from onnxscape.jobs.order import Order

_NUMBER = (int, float)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "seed": (int,),
    "normalization": (str,),
    "ignore": (str,),
    "orthogonal": (bool,),
    "include": (list, tuple),
    "exclude": (list, tuple),
    "filter_axis": (dict,),
    "loss": (str,),
    "metrics": (list, tuple),
    "output": (str,),
    "class_axis": (int,),
    "ignore_index": (int,),
    "label_smoothing": _NUMBER,
    "huber_delta": _NUMBER,
    "split": (str,),
    "samples": (int, str),
    "layout": (str,),
    "mean": (list, tuple),
    "std": (list, tuple),
    "scale": (str, *_NUMBER),
    "precision": (str,),
    "adaptive": (bool,),
    "tolerance": _NUMBER,
    "stderr": _NUMBER,
    "two_level": (int,),
}
"""Options of an order besides its axes, and their types. No path is among them."""

_NEVER_NONE = frozenset(
    {"seed", "normalization", "ignore", "orthogonal", "include", "exclude", "filter_axis",
     "label_smoothing", "huber_delta", "split", "precision", "adaptive"}
)  # fmt: skip


def request_of(
    order: Order,
    blob_path: Callable[[str], Path],
    *,
    device: str,
    threads: int,
    data_dir: Path | None,
    offline: bool,
    dataset: Dataset | None = None,
) -> EvalRequest:
    """Return the request that an order stands for.

    Args:
        order: The order.
        blob_path: Where the blob of a sha256 is.
        device: Where to evaluate: `cpu`, `cuda:0`.
        threads: Threads on the CPU.
        data_dir: Where data known by name are kept.
        offline: Whether such data must be there.
        dataset: From `dataset_of`, if it is read already.

    Returns:
        The request.

    Raises:
        UsageError: If an option is unknown, of another type, or names a file.
        DataError: If the data cannot be read.
        ModelFileError: If the model cannot be read.
    """
    options = checked_options(order)
    if dataset is None:
        split = options.get("split", "train")
        dataset = dataset_of(order.data, split, blob_path, data_dir=data_dir, offline=offline)
    return EvalRequest(
        model=_content(blob_path(order.model), order.model_name),
        name=order.model_name,
        data=dataset,
        directions=None if order.directions is None else blob_path(order.directions),
        weights=None if order.weights is None else blob_path(order.weights),
        graphs={name: _content(blob_path(sha), name) for name, sha in order.graphs.items()},
        data_dir=data_dir,
        device=_device(order.device, device),
        threads=threads,
        strategy=order.strategy,
        batch_size=order.batch_size,
        **options,
    )


def checked_options(order: Order) -> dict[str, Any]:
    """Return the options of an order as fields of a request, the grid among them.

    Args:
        order: The order.

    Returns:
        Field to value.

    Raises:
        UsageError: If one is unknown or of another type, or a graph is not in the order.
        GridError: If the grid is none.
    """
    grid = grid_of(order)
    options = {name: v for name, v in order.options.items() if name not in {"x", "y"}}
    for name, value in options.items():
        _check_type(name, value)
    for name in ("include", "exclude", "metrics", "mean", "std"):
        if options.get(name) is not None:
            options[name] = tuple(options[name])
    for name, choices in (("normalization", Normalization), ("ignore", Ignore)):
        if name in options:
            options[name] = _choice(name, options[name], choices)
    for named in filter(is_file, (options.get("loss") or "", *(options.get("metrics") or ()))):
        if named not in order.graphs:
            raise UsageError(f"the order has no graph {named!r}; it must come with it")
    return options | {"grid": grid}


def without_paths(order: Order, blob_path: Callable[[str], Path], text: str) -> str:
    """Return a text for people that does not tell where the server keeps blobs.

    Args:
        order: Whose blobs.
        blob_path: Where the blob of a sha256 is.
        text: Any.
    """
    called = [
        (order.data.blob, order.data.name),
        (order.directions, "the uploaded directions"),
        (order.weights, "the uploaded weights"),
        (order.model, order.model_name),
        *((sha, name) for name, sha in order.graphs.items()),
    ]
    for sha, name in called:
        if sha is not None:
            text = text.replace(str(blob_path(sha)), name)
    return text


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read {name}: {reason(error)}") from error


def _device(wanted: str, given: str) -> str:
    """Return the device to use.

    Raises:
        UsageError: If the order asks for another kind.
    """
    if wanted not in {"auto", given.partition(":")[0]}:
        raise UsageError(f"the order asks for the device {wanted!r}, this worker has {given}")
    return given


def _check_type(name: str, value: Any) -> None:
    """Refuse what is no value of an option.

    Raises:
        UsageError: If it is none.
    """
    if name not in _TYPES:
        raise UsageError(f"an order has no option {name!r}")
    wanted = _TYPES[name]
    fits = isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))
    if value is None:
        fits = name not in _NEVER_NONE
    entries = _entries(name, value) if fits else iter(())
    if not fits or not all(entries):
        raise UsageError(f"the option {name!r} of an order cannot be {value!r}")


def _entries(name: str, value: Any) -> Iterator[bool]:
    """Yield of each entry of a list or mapping whether it is of the right type."""
    kinds = _NUMBER if name in {"mean", "std"} else (str,)
    if isinstance(value, Mapping):
        for key, axis in value.items():
            yield isinstance(key, str) and type(axis) is int
    elif isinstance(value, list | tuple):
        for entry in value:
            yield isinstance(entry, kinds) and not isinstance(entry, bool)


def _choice(name: str, value: str, choices: type[Normalization | Ignore]) -> Any:
    try:
        return choices(value)
    except ValueError:
        raise UsageError(
            f"expected {name} to be one of {', '.join(choices)}, got {value!r}"
        ) from None
