"""What the passes have to say about a model besides changing it."""

from __future__ import annotations

from dataclasses import dataclass, field

MOVED = (
    "quantized weights are moved as the floats they stand for, activations stay quantized: "
    "the landscape is that of the quantized model with unrounded steps"
)


@dataclass(slots=True)
class Notes:
    """Collects, while passes run, what the user should hear.

    Attributes:
        warnings: Sentences for the user, each once.
        loosened: Why the canonical form may differ from the file beyond rounding.
    """

    warnings: list[str] = field(default_factory=list)
    loosened: set[str] = field(default_factory=set)
    _said: set[str] = field(default_factory=set)

    def warn(self, text: str) -> None:
        """Note a sentence for the user, unless it was said already."""
        if text not in self._said:
            self._said.add(text)
            self.warnings.append(text)

    def quantized_weight(self, remark: str | None = None) -> None:
        """Note that a weight is moved that the file holds as integers.

        Args:
            remark: What it is moved as, if not as the floats that the integers stand for.
        """
        self.loosened.add("quantized")
        self.warn(MOVED if remark is None else remark)
