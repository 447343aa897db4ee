"""What is wrong with the fields of a request, collected and told together."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxscape.service.answers.rich_errors import BadRequestError, Violation

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnxscape.v1 import blobs_pb2

TEXT = 1024
"""Characters of a text in a request, at most."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class Findings:
    """Collects what is wrong with a request.

    Attributes:
        violations: What was found so far.
    """

    violations: list[Violation] = field(default_factory=list)

    def add(self, path: str, expected: str, got: object) -> None:
        """Note that a field holds something else than expected.

        Args:
            path: The field.
            expected: What would be right.
            got: What it holds.
        """
        found = repr(got) if isinstance(got, str) else str(got)
        found = found if len(found) <= 100 else f"{found[:100]}..."
        self.violations.append(Violation(path, f"expected {expected}, got {found}"))

    def refuse(self) -> None:
        """Raise what was found, if anything.

        Raises:
            BadRequestError: If there is something.
        """
        if self.violations:
            raise BadRequestError(self.violations)

    def one_of(self, path: str, choices: Collection[str], got: str, *, empty: bool) -> None:
        """Check a name against all that there are.

        Args:
            path: The field.
            choices: All names.
            got: What it holds.
            empty: Whether it may be empty.
        """
        if got not in choices and (got or not empty):
            self.add(path, f"one of {', '.join(choices)}", got)

    def number(
        self, path: str, got: float, *, least: float = -math.inf, above: float = -math.inf
    ) -> None:
        """Check that a number is finite and not too small.

        Args:
            path: The field.
            got: What it holds.
            least: Smallest that may be.
            above: What it must be above of.
        """
        if not (math.isfinite(got) and got >= least and got > above):
            bound = "a number"
            if least > -math.inf:
                bound = f"a number of at least {least:g}"
            elif above > -math.inf:
                bound = f"a number above {above:g}"
            self.add(path, bound, f"{got:g}")

    def text(self, path: str, got: str, *, longest: int = TEXT) -> None:
        """Check the length of a text.

        Args:
            path: The field.
            got: What it holds.
            longest: Most characters that it may have.
        """
        if len(got) > longest:
            self.add(path, f"at most {longest} characters", f"{len(got)} of them")

    def count(self, path: str, got: int, *, most: int) -> None:
        """Check the number of entries of a list.

        Args:
            path: The field.
            got: How many it has.
            most: How many it may have.
        """
        if got > most:
            self.add(path, f"at most {most} entries", got)

    def digest(self, path: str, got: blobs_pb2.Digest) -> None:
        """Check that something can be the digest of a blob.

        Args:
            path: The field.
            got: What it holds.
        """
        if _SHA256.fullmatch(got.sha256) is None:
            self.add(f"{path}.sha256", "64 lower-case hexadecimal digits", got.sha256)
        if got.size < 1:
            self.add(f"{path}.size", "a number of bytes above 0", got.size)
