"""Names of the ways in which a landscape can be computed."""

from __future__ import annotations

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "native")
"""Arithmetic of the forward pass: float32, float32 with products of 10 bits, half floats, or
every type as it is in the file. All but the last start from the same form, in float32."""

GPU_PRECISIONS = frozenset({"tf32", "fp16", "bf16"})
"""Those that the CPU does not have."""

STRATEGY_NAMES = ("constant", "overriding", "resident", "captured", "in-graph", "shared")
"""How weights reach ONNX Runtime; `onnxscape.runtime.strategies` has what does it."""
