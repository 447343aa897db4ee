"""How much memory a file may ask for: checked before anything is read into it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a kind of file may claim.

    Attributes:
        most: Most bytes of values that one file may hold.
        ratio: Most bytes of values per byte of a compressed file.
        always_fine: Up to this many bytes the ratio does not matter: zeros compress well.
    """

    most: int
    ratio: int
    always_fine: int = 64 << 20

    def allowed(self, stored: int) -> int:
        """Return how many bytes of values may come from compressed ones.

        Args:
            stored: Number of bytes in the file.

        Returns:
            Number of bytes.
        """
        return min(self.most, max(self.always_fine, self.ratio * stored))

    def excess(self, size: int, *, stored: int | None = None) -> str | None:
        """Return why a claimed size is refused.

        Args:
            size: Claimed number of bytes.
            stored: Number of bytes in the file, where they are compressed.

        Returns:
            For instance `claims 4.0 TiB; expected at most 32.0 GiB`, to follow the name of
            what claims it; None if it is not refused.
        """
        if size > self.most:
            return f"claims {human_bytes(size)}; expected at most {human_bytes(self.most)}"
        if stored is not None and size > self.allowed(stored):
            return (
                f"claims {human_bytes(size)} from {human_bytes(stored)} of file, as a "
                f"decompression bomb does; expected at most {self.ratio} times as much: store "
                "it uncompressed if it is real"
            )
        return None


def human_bytes(size: float) -> str:
    """Write a number of bytes for people.

    Args:
        size: Number of bytes.

    Returns:
        For instance `162.6 MiB`.
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
