"""Data sets by name, from files or from code, and their preprocessing."""

from __future__ import annotations

from onnxscape.data.cache import default_data_dir
from onnxscape.data.dataset import Dataset, Preprocessing
from onnxscape.data.loading import load_dataset
from onnxscape.data.preparation import prepare_samples
from onnxscape.data.registry import DatasetInfo, list_datasets

__all__ = [
    "Dataset",
    "DatasetInfo",
    "Preprocessing",
    "default_data_dir",
    "list_datasets",
    "load_dataset",
    "prepare_samples",
]
