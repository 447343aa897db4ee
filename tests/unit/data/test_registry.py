from __future__ import annotations

import pytest

from onnxscape.data import list_datasets
from onnxscape.data.registry import NAMED, similar_name


def test_the_list_tells_what_there_is(tmp_path):
    infos = {info.name: info for info in list_datasets(data_dir=tmp_path)}
    assert list(infos) == ["digits", "cifar10", "fashion-mnist", "mnist"]
    assert infos["cifar10"].samples == {"train": 50_000, "test": 10_000}
    assert infos["cifar10"].availability == "162.6 MiB to fetch"
    assert infos["cifar10"].file == tmp_path / "onnxscape-cifar10.npz"
    assert infos["digits"].here
    assert infos["digits"].file is None
    assert infos["digits"].availability == "comes with onnxscape"
    assert all(info.citation and info.licence for info in infos.values())


def test_a_cache_file_means_that_it_is_here(tmp_path):
    (tmp_path / "onnxscape-mnist.npz").write_bytes(b"")
    here = {info.name: info.availability for info in list_datasets(data_dir=tmp_path)}
    assert here["mnist"] == "here"


def test_default_preprocessing():
    steps = {name: entry.preprocessing for name, entry in NAMED.items()}
    assert steps["digits"].scale == 16
    assert [steps[name].scale for name in ("cifar10", "mnist", "fashion-mnist")] == [255] * 3
    assert steps["mnist"].mean is steps["fashion-mnist"].std is steps["digits"].mean is None
    assert steps["cifar10"].mean == pytest.approx((0.491373, 0.482353, 0.446667), abs=1e-6)
    assert steps["cifar10"].std == pytest.approx((0.247059, 0.243529, 0.261569), abs=1e-6)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("CIFAR-10", "cifar10"),
        ("cifar_10", "cifar10"),
        ("cifar", "cifar10"),
        ("fashionmnist", "fashion-mnist"),
        ("MNIST", "mnist"),
        ("digit", "digits"),
        ("imagenet21k", None),
    ],
)
def test_misspelt_names(given, meant):
    assert similar_name(given) == meant
