"""The spec: everything that defines the numbers of a landscape, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.loss import IGNORE_INDEX
from onnxscape.errors import SurfaceFileError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSpec:
    """Defines a landscape: the same spec gives the same numbers.

    Device, threads and output are no part of it.

    Attributes:
        model: sha256 (hex) of the model file with its external data.
        data: sha256 (hex) of the data before subset and preprocessing.
        preprocessing: What is done to the raw values (plain JSON values).
        samples: Number of samples used.
        population: Number of samples they are drawn from.
        loss: Name of the loss.
        loss_file: sha256 (hex) of a loss given as a graph; None for a built-in one.
        metrics: Names of the further metrics.
        metric_files: sha256 (hex) of those given as graphs, by name.
        output: The model's output that the loss is computed from; None for the only one, or
            the only one of floats.
        class_axis: Axis of the output that counts classes; None for the one that shapes tell.
        ignore_index: Class number of positions that do not count.
        label_smoothing: Share of the uniform distribution in class labels.
        huber_delta: Where the loss `huber` goes from square to straight.
        grid: The points.
        seed: Seed of the random directions; None if they come from a file.
        normalization: `filter`, `layer`, `weight`, `dfilter`, `dlayer`, `none`; None likewise.
        ignore: `biasbn` or `none`; None likewise.
        orthogonal: Whether eta was made orthogonal to delta; None likewise.
        directions: sha256 (hex) of the directions from a file; None for random ones.
        include: Patterns of tensors moved whatever their role, sorted; none with directions
            from a file.
        exclude: Patterns of tensors left alone, likewise.
        filter_axis: Name of a tensor to the axis chosen to count its filters, likewise.
        precision: Arithmetic of the forward pass.
        scheme: Version of the rules for randomness.
        tolerance: Largest relative error of interpolated losses; None if every point is
            evaluated. Left out of the JSON where it is None: specs from before it was there
            stay what they are.
        stderr: Standard error of the loss below which a point takes no more samples; None if
            all points take all. Left out likewise.
        two_level: Number of the first samples that most points are evaluated on, to be
            corrected from those that are evaluated on all; None if there are no such points.
            Left out likewise.
    """

    model: str
    data: str
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    samples: int
    population: int
    loss: str
    metrics: tuple[str, ...]
    grid: Grid
    seed: int | None
    normalization: str | None
    ignore: str | None
    orthogonal: bool | None
    directions: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter_axis: Mapping[str, int] = field(default_factory=dict)
    loss_file: str | None = None
    metric_files: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    class_axis: int | None = None
    ignore_index: int = IGNORE_INDEX
    label_smoothing: float = 0.0
    huber_delta: float = 1.0
    precision: str = "fp32"
    scheme: int = 1
    tolerance: float | None = None
    stderr: float | None = None
    two_level: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        grid = values.pop("grid")
        for name in _LEFT_OUT:
            if values[name] is None:
                del values[name]
        for name in ("preprocessing", "metric_files", "filter_axis"):
            values[name] = json.loads(json.dumps(dict(values[name])))
        for name in ("metrics", "include", "exclude"):
            values[name] = list(values[name])
        for name, axis in (("x", grid.x), ("y", grid.y)):
            values[name] = (
                None
                if axis is None
                else [
                    float(axis.start),
                    float(axis.stop),
                    int(axis.num),
                ]
            )
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Args:
            values: Plain JSON values.

        Returns:
            The spec.

        Raises:
            SurfaceFileError: If a field is missing, unknown or of another type.
        """
        try:
            fields = dict(values)
            _check_types(fields)
            axes = [fields.pop(name) for name in ("x", "y")]
            x, y = (
                None if a is None else Axis(float(a[0]), float(a[1]), int(a[2])) for a in axes
            )
            for name in {"metrics", "include", "exclude"} & fields.keys():
                fields[name] = tuple(fields[name])
            return cls(grid=Grid(x, y), **fields)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise SurfaceFileError(
                f"the stored spec is not one this version can read ({error}); "
                "use --restart to compute anew"
            ) from error

    def to_json(self) -> str:
        """Return the canonical text: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Return the sha256 (hex) of the canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def differences(self, other: EvalSpec) -> list[str]:
        """Name the fields in which another spec differs.

        Args:
            other: The spec to compare with.

        Returns:
            For each differing field, or entry of one, `name (this one's value, not the
            other's)`.
        """
        mine, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        return [
            f"{name} ({_short(name, mine.get(name))}, not {_short(name, theirs.get(name))})"
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        ]


_LEFT_OUT = ("tolerance", "stderr", "two_level")
"""Fields that the JSON does not mention where they are None."""


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "model": str,
    "data": str,
    "preprocessing": dict,
    "samples": int,
    "population": int,
    "loss": str,
    "metrics": list,
    "seed": (int, NoneType),
    "normalization": (str, NoneType),
    "ignore": (str, NoneType),
    "orthogonal": (bool, NoneType),
    "directions": (str, NoneType),
    "include": list,
    "exclude": list,
    "filter_axis": dict,
    "loss_file": (str, NoneType),
    "metric_files": dict,
    "output": (str, NoneType),
    "class_axis": (int, NoneType),
    "ignore_index": int,
    "label_smoothing": (int, float),
    "huber_delta": (int, float),
    "precision": str,
    "scheme": int,
    "tolerance": (int, float, NoneType),
    "stderr": (int, float, NoneType),
    "two_level": (int, NoneType),
}
"""JSON type of each field but the axes."""


def _check_types(fields: Mapping[str, Any]) -> None:
    for name, expected in _TYPES.items():
        if name in fields and not isinstance(fields[name], expected):
            raise TypeError(f"{name} is {fields[name]!r}")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with the entries of its mappings as fields: `scale of image`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, dict):
            found[name] = value
            continue
        for key, entry in value.items():
            if isinstance(entry, dict):
                found |= {f"{step} of {key}": number for step, number in entry.items()}
            else:
                found[f"{name} of {key}"] = entry
    return found


def _short(name: str, value: Any) -> str:
    if value is None or value == []:
        return "none"
    if name in {"x", "y"}:
        return str(Axis(*value))
    if isinstance(value, list):
        return " ".join(_short(name, entry) for entry in value)
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, str) and len(value) == 64:
        return value[:8] + "…"  # a digest
    return str(value)
