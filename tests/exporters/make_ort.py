"""Optimize torch's exports with ONNX Runtime, as people do before they deploy.

python tests/exporters/make_ort.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort
from fixture_files import MODELS, save

LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}


def optimized(name, level):
    """Return what a session writes down after its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(path)
        providers = ["CPUExecutionProvider"]
        ort.InferenceSession(MODELS / f"{name}.onnx", options, providers=providers)
        return onnx.load(path)


if __name__ == "__main__":
    for network, source, levels in (
        ("cnn", "cnn_torch_legacy_nofolding_eval", LEVELS),
        ("block", "block_torch_legacy_nofolding", LEVELS),
        ("encoder", "encoder_torch_dynamo_optimized", ("extended",)),
        ("gptuntied", "gptuntied_torch_dynamo_optimized", ("extended",)),
    ):
        for name in levels:
            save(optimized(source, LEVELS[name]), f"{network}_ort_{name}")
