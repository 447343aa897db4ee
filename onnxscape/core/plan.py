"""The plan: what defines the bits of a landscape beyond its numbers."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from onnxscape.errors import SurfaceFileError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a landscape is computed: equal spec, plan, runtime and machine give equal bits.

    Attributes:
        provider: ONNX Runtime's execution provider, e.g. `CPUExecutionProvider`.
        strategy: How weights reach the session, e.g. `constant` or `overriding`.
        batch: Samples per forward pass.
        folded: Whether BatchNormalization is folded into the weights where nothing moves it.
        reduction: How per-sample losses become a mean.
        runtime: Version of ONNX Runtime.
        machine: Type of the processor that computes.
    """

    provider: str
    strategy: str
    batch: int
    folded: bool
    reduction: str = "exactly rounded float64 sum"
    runtime: str
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Args:
            values: Plain JSON values.

        Returns:
            The plan.

        Raises:
            SurfaceFileError: If a field is missing or unknown.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise SurfaceFileError(
                f"the stored plan is not one this version can read ({error}); "
                "use --restart to compute anew"
            ) from error

    def to_json(self) -> str:
        """Return the canonical text: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def differences(self, other: Plan) -> list[str]:
        """Name the fields in which another plan differs.

        Args:
            other: The plan to compare with.

        Returns:
            For each differing field `name (this one's value, not the other's)`.
        """
        mine, theirs = self.to_dict(), other.to_dict()
        return [
            f"{name} ({mine[name]}, not {theirs[name]})"
            for name in mine
            if mine[name] != theirs[name]
        ]
