"""The order: a request for a landscape as plain values, its files as blobs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRef:
    """The data of an order: a name that the server knows, or arrays in a blob.

    Attributes:
        name: What it is called: `digits`, or, of arrays, what people call it.
        blob: sha256 (hex) of the .npz file; None for data known by name.
        layout: Of images in a blob, where it is known.
        preprocessing: What is done to the values by default, as `Preprocessing.as_json` gives
            it; None for nothing.
        table: Whether the arrays are columns of a table.
        arrays: Names of the arrays in their order, which a table depends on.
    """

    name: str
    blob: str | None = None
    layout: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    table: bool = False
    arrays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a job evaluates, and how: an `EvalRequest` that names no paths.

    Attributes:
        model: sha256 (hex) of the blob with the ONNX file.
        model_name: What people call it.
        data: The data.
        options: Fields of `EvalRequest` that are plain JSON values, by their names; those left
            out have its defaults. `x` and `y` are axes as [start, stop, num], or None.
        graphs: Losses and metrics given as graphs: file name to sha256 of the blob.
        directions: sha256 of a direction file.
        weights: sha256 of an .npz file with values for inputs that are weights.
        device: Kind of device asked for: `auto`, `cpu`, `cuda`.
        strategy: How weights are fed; None for the rule.
        batch_size: Samples per forward pass; None for the rule.
    """

    model: str
    model_name: str
    data: DataRef
    options: Mapping[str, Any] = field(default_factory=dict)
    graphs: Mapping[str, str] = field(default_factory=dict)
    directions: str | None = None
    weights: str | None = None
    device: str = "auto"
    strategy: str | None = None
    batch_size: int | None = None

    @property
    def blobs(self) -> frozenset[str]:
        """sha256 of all blobs that the job needs."""
        given = (self.data.blob, self.directions, self.weights, *self.graphs.values())
        return frozenset({self.model, *filter(None, given)})

    @property
    def affinity(self) -> str:
        """Equal for jobs of which a worker has much loaded: same model, same data."""
        return f"{self.model}/{self.data.blob or self.data.name}"

    def digest(self) -> str:
        """Return the sha256 (hex) of everything in it: equal orders give equal results."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return it as canonical text: sorted keys, no spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Args:
            text: The text.

        Returns:
            The order.
        """
        values = json.loads(text)
        data = values.pop("data")
        data["arrays"] = tuple(data["arrays"])
        return cls(data=DataRef(**data), **values)
