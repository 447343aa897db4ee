"""The user's own file, run as it is: what every evaluation is compared with."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.canonical import canonical_of
from onnxscape.graph.prepared import rebuilt
from onnxscape.runtime.evaluator import filled_up
from onnxscape.runtime.sessions import open_session, run, session_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnxruntime as ort
    from numpy.typing import NDArray

    from onnxscape.graph.model_file import ModelFile
    from onnxscape.runtime.devices import Device

_FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
"""What the same input is of in the user's file and in its canonical form."""

_HALVES = frozenset({"float16", "bfloat16"})
"""Precisions that not every device computes in."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UserModel:
    """The user's file and how it is run.

    Attributes:
        file: The model.
        device: Where it runs.
        threads: Threads within one operator.
        precision: Arithmetic of the forward pass, one of `PRECISIONS`.
        pieces: Samples that the file takes at once; None for any number.
    """

    file: ModelFile
    device: Device
    threads: int
    precision: str = "fp32"
    pieces: int | None = None

    @property
    def loosened(self) -> frozenset[str]:
        """Why the file may differ beyond rounding from what is evaluated."""
        return canonical_of(self.file, self.precision).loosened

    def outputs(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
        """Run the file as it is, but for training mode.

        A file of half floats that cannot be run here as it is, is run in float32.

        Args:
            feeds: Arrays by input name, without labels; floats are cast to what it wants.

        Returns:
            Its outputs by name: arrays [samples, ...], or what else the file computes.

        Raises:
            UnsupportedModelError: If it cannot be run.
        """
        return self.ready()(feeds)

    def ready(self) -> Callable[[Mapping[str, NDArray[np.generic]]], dict[str, Any]]:
        """Open the file once, for several batches.

        Returns:
            What does for one batch the same as `outputs`.

        Raises:
            UnsupportedModelError: If it cannot be opened.
        """
        if "training" in self.loosened or self.refusal() is not None:
            model = rebuilt(self.file, {}, precision=self.precision)
        else:
            model = self.file.runnable()
        return partial(self._run, self._session(model))

    def refusal(self) -> str | None:
        """Return why a file of half floats cannot be run here as it is; None if it can."""
        if self.precision == "native" or not self.loosened & _HALVES:
            return None
        try:
            self._session(self.file.runnable())
        except UnsupportedModelError as error:
            return str(error)
        return None

    def outputs_at(
        self,
        values: Mapping[str, NDArray[np.floating]],
        feeds: Mapping[str, NDArray[np.generic]],
    ) -> dict[str, Any]:
        """Run the file with other values in its own tensors.

        Args:
            values: Parameter name to values.
            feeds: As `outputs` takes them.

        Returns:
            Its outputs by name.
        """
        return self._run(
            self._session(rebuilt(self.file, values, precision=self.precision)), feeds
        )

    def _session(self, model: bytes) -> ort.InferenceSession:
        # On x86-64 without VNNI, sums of 8-bit products may saturate.
        if "quantized" in self.loosened:
            options = session_options(self.threads)
            options.add_session_config_entry("session.x64quantprecision", "1")
            # Some operators have no kernel that is exact.
            with contextlib.suppress(UnsupportedModelError):
                return open_session(model, self.device, options)
        return open_session(model, self.device, session_options(self.threads))

    def _run(
        self, session: ort.InferenceSession, feeds: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Any]:
        wanted = {value.name: _FLOATS.get(value.type) for value in session.get_inputs()}
        cast = {
            name: array.astype(dtype) if (dtype := wanted.get(name)) is not None else array
            for name, array in feeds.items()
        }
        names = [value.name for value in session.get_outputs()]
        if self.pieces is None:
            return dict(zip(names, run(session, names, cast), strict=True))
        samples = sample_count(cast)
        results = []
        for start in range(0, samples, self.pieces):
            rows = slice(start, start + self.pieces)
            piece = {name: part[rows] if part.ndim else part for name, part in cast.items()}
            results.append(run(session, names, filled_up(piece, self.pieces)))
        return {
            name: self._joined(parts, samples)
            for name, parts in zip(names, zip(*results, strict=True), strict=True)
        }

    def _joined(self, parts: tuple[Any, ...], samples: int) -> Any:
        # One output of all pieces, without the samples that filled up the last one.
        if not all(isinstance(part, np.ndarray) and part.ndim for part in parts):
            return parts[0]
        whole = np.concatenate(parts)
        return whole[:samples] if all(len(part) == self.pieces for part in parts) else whole


def sample_count(feeds: Mapping[str, NDArray[Any]]) -> int:
    """Return the number of samples in a batch; what has no axes is fed with each.

    Args:
        feeds: Arrays by input name.

    Returns:
        The length of the shortest.
    """
    return min(len(array) for array in feeds.values() if array.ndim)
