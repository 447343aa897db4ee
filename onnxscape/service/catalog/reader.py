"""What the catalog wants of those who read what strangers wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.jobs.order import DataRef


class Facts(Protocol):
    """What is known of a model that was read.

    Attributes:
        audit_json: The audit.
        parameters: Number of parameters.
        moved: Of those, the ones that move by default.
    """

    @property
    def audit_json(self) -> str:
        """The audit."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""

    @property
    def moved(self) -> int:
        """Of those, the ones that move by default."""


class Reader(Protocol):
    """Reads what strangers wrote, in processes of their own."""

    async def audit_model(self, sha256: str, *, user: str = "") -> Facts:
        """Read a model.

        Args:
            sha256: Its blob.
            user: Who waits for it; empty for the server itself.

        Returns:
            What is in it.
        """

    async def inspect_data(
        self, sha256: str, ref: DataRef, *, user: str = ""
    ) -> Sequence[tuple[str, str, Sequence[int]]]:
        """Read arrays.

        Args:
            sha256: Their blob.
            ref: What is known of them.
            user: Who waits for it; empty for the server itself.

        Returns:
            Name, type and shape of each.
        """
