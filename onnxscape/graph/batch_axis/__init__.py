"""The batch axis: a model of one batch size, freed from it where that is provably right."""

from __future__ import annotations

from onnxscape.graph.batch_axis.proof import FixedBatch, fixed_batch, free_batch, why_unproven

__all__ = ["FixedBatch", "fixed_batch", "free_batch", "why_unproven"]
