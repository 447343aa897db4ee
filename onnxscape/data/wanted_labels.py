"""From what a loss wants of labels, and what the data holds, to the labels themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import IGNORE_INDEX, Labels
from onnxscape.data.labels import class_labels, float_targets
from onnxscape.data.next_token import next_token_labels
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscape.core.samples import TensorSignature
    from onnxscape.data.dataset import Dataset
    from onnxscape.data.matching import Matching


@dataclass(frozen=True, slots=True)
class WantedLabels:
    """What a loss wants of labels, as `prepare_samples` is told.

    Attributes:
        kind: What they are.
        classes: Number of classes of the model, where known.
        positions: Number of axes of positions of class labels; None if not known.
        ignore_index: Class number of positions that do not count; None if all count.
        next_token: Whether they are the tokens at the next position.
    """

    kind: Labels
    classes: int | None
    positions: int | None
    ignore_index: int | None
    next_token: bool

    def check_there(self, dataset: Dataset) -> None:
        """Refuse data that lacks labels that are wanted.

        Args:
            dataset: The data.

        Raises:
            DataError: If it does.
        """
        optional = self.next_token or self.kind in {Labels.NONE, Labels.ANY}
        if dataset.labels is None and not optional:
            raise DataError(
                f"{dataset.name} has no labels: expected labels under 'y', got "
                f"{dataset.contents()}; name the array that holds them 'y', or use a loss "
                "that takes none"
            )

    def of(
        self,
        dataset: Dataset,
        inputs: Sequence[TensorSignature],
        match: Matching,
        chosen: NDArray[np.int64],
    ) -> NDArray[Any] | None:
        """Return the labels of the chosen samples.

        Args:
            dataset: The data.
            inputs: The model's inputs.
            match: The arrays that the model is fed from.
            chosen: Indices of the samples.

        Returns:
            As in `Samples.labels`.

        Raises:
            DataError: If the labels are not what is wanted, or none of them counts.
        """
        if self.kind is Labels.NONE:
            return None
        if self.next_token:
            ignored = IGNORE_INDEX if self.ignore_index is None else self.ignore_index
            told = next_token_labels(
                dataset,
                inputs,
                match,
                classes=self.classes,
                ignore_index=ignored,
                chosen=chosen,
            )
            return _counted(told, ignored, dataset.name)
        if dataset.labels is None:
            return None
        if self.kind is Labels.VALUES:
            return float_targets(dataset.labels, name=dataset.name, chosen=chosen)
        if self.kind is Labels.ANY:
            return np.ascontiguousarray(dataset.labels[chosen])
        found = class_labels(
            dataset.labels,
            classes=self.classes,
            positions=self.positions,
            ignore_index=self.ignore_index,
            name=dataset.name,
            chosen=chosen,
        )
        return _counted(found, self.ignore_index, dataset.name)


def _counted(labels: NDArray[np.int64], ignored: int | None, name: str) -> NDArray[np.int64]:
    if ignored is not None and (labels == ignored).all():
        raise DataError(
            f"all labels of the {len(labels)} samples used of {name} are {ignored}, which is "
            "to be ignored: none counts"
        )
    return labels
