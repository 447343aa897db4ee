from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from onnxscape.files.hdf5_image import hdf5_image

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_image_is_a_file_and_touches_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = hdf5_image(lambda file: file.create_dataset("a", data=np.arange(3.0)))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.h5").write_bytes(image)
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["a"]
        assert file["a"][()].tolist() == [0.0, 1.0, 2.0]
