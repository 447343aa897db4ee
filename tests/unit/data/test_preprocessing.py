from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from onnxscape.core.samples import TensorSignature
from onnxscape.data.dataset import Preprocessing
from onnxscape.data.layout import Arrangement, arrange
from onnxscape.data.preprocessing import apply, resolve
from onnxscape.errors import DataError, UsageError

CIFAR = Preprocessing(255.0, (0.5, 0.4, 0.3), (0.25, 0.2, 0.1))


def signature(*shape, dtype=np.float32):
    return TensorSignature("input", (None, *shape), np.dtype(dtype))


def run(values, target, steps=None, *, dtype=np.float32, known=None, asked=None):
    wanted = signature(*target, dtype=dtype)
    found = arrange("x", values.shape[1:], wanted, known=known, asked=asked)
    return apply(values, found, steps or Preprocessing(), wanted, field="x")


def resolved(default=None, **options):
    return resolve(default, **({"scale": None, "mean": None, "std": None} | options))


def test_without_options_the_defaults_hold():
    assert resolved(CIFAR) == CIFAR
    assert resolved(None) == Preprocessing(1.0, None, None)


@pytest.mark.parametrize("scale", ["unit", 255, "255", 255.0])
def test_the_default_scale_keeps_mean_and_std(scale):
    assert resolved(CIFAR, scale=scale) == CIFAR


@pytest.mark.parametrize(("scale", "divisor"), [("raw", 1.0), ("127.5", 127.5), (16, 16.0)])
def test_another_scale_switches_mean_and_std_off(scale, divisor):
    assert resolved(CIFAR, scale=scale) == Preprocessing(divisor, None, None)


def test_mean_and_std_replace_their_own_default():
    assert resolved(CIFAR, mean=[0]) == Preprocessing(255.0, (0.0,), CIFAR.std)
    assert resolved(CIFAR, std=2.0).std == (2.0,)
    assert resolved(CIFAR, scale="raw", mean=(128,)) == Preprocessing(1.0, (128.0,), None)


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "percent", ""])
def test_a_scale_that_means_nothing_is_an_error(scale):
    with pytest.raises(UsageError, match="--scale raw, unit or a positive number"):
        resolved(scale=scale)


@pytest.mark.parametrize(
    "options", [{"std": [0.0]}, {"std": [-1]}, {"mean": [np.nan]}, {"mean": []}]
)
def test_numbers_that_cannot_be_used_are_an_error(options):
    with pytest.raises(DataError, match="one or one per channel"):
        resolved(**options)


def test_values_are_scaled_then_shifted_then_divided_per_channel():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    fed = run(pixels, (3, 6, 5), CIFAR, known="NHWC")
    for channel in range(3):
        exact = (
            pixels[..., channel].astype(np.float64) / 255 - CIFAR.mean[channel]
        ) / CIFAR.std[channel]
        assert np.array_equal(fed[:, channel], exact.astype(np.float32))
    assert fed.dtype == np.float32
    assert fed.flags.c_contiguous


def test_channels_first_data_has_its_channels_on_the_other_axis():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 5), dtype=np.uint8)
    expected = run(pixels.transpose(0, 2, 3, 1), (3, 6, 5), CIFAR, known="NHWC")
    assert np.array_equal(run(pixels, (3, 6, 5), CIFAR), expected)


def test_bytes_are_cast_and_not_scaled():
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 64)
    assert np.array_equal(run(pixels, (64,)), np.arange(256.0).reshape(4, 64))


def test_one_number_holds_for_all_channels():
    pixels = np.full((1, 3, 6, 5), 100.0)
    assert (run(pixels, (3, 6, 5), Preprocessing(10.0, (5.0,), (2.5,))) == 2.0).all()


def test_a_row_of_features_has_a_mean_each():
    rows = np.array([[1.0, 20.0], [3.0, 40.0]])
    fed = run(rows, (2,), Preprocessing(1.0, (1.0, 20.0), (2.0, 20.0)))
    assert fed.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_results_do_not_depend_on_the_size_of_the_pieces(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
    expected = run(pixels, (3, 6, 5), CIFAR, known="NHWC")
    monkeypatch.setattr("onnxscape.data.dataset._BLOCK_BYTES", 700)
    assert np.array_equal(run(pixels, (3, 6, 5), CIFAR, known="NHWC"), expected)


@pytest.mark.parametrize("numbers", [(0.5, 0.5), (0.1, 0.2, 0.3, 0.4)])
def test_a_wrong_number_of_channels_is_an_error(numbers):
    with pytest.raises(
        DataError, match=rf"expected 1 or 3 numbers for --mean.*{len(numbers)}"
    ):
        run(np.zeros((1, 6, 5, 3)), (3, 6, 5), Preprocessing(1.0, numbers), known="NHWC")
    with pytest.raises(DataError, match="expected 1 number for --std"):
        run(np.zeros((1, 6, 5)), (6, 5), Preprocessing(1.0, None, (0.5, 0.5)))


def test_channels_that_could_be_first_or_last_are_an_error():
    with pytest.raises(DataError, match="--layout NCHW or NHWC"):
        run(np.zeros((1, 3, 5, 3)), (3, 5, 3), CIFAR)
    fed = run(np.ones((1, 3, 5, 3)), (3, 5, 3), Preprocessing(1.0, (1, 2, 3)), asked="NHWC")
    assert fed[0, 0, 0].tolist() == [0.0, -1.0, -2.0]
    fed = run(np.ones((1, 3, 5, 3)), (3, 5, 3), Preprocessing(1.0, (1, 2, 3)), asked="NCHW")
    assert fed[0, :, 0, 0].tolist() == [0.0, -1.0, -2.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_the_model_gets_its_own_floating_type(dtype):
    fed = run(np.array([[0.5, 2.0]]), (2,), dtype=dtype)
    assert fed.dtype == dtype
    assert fed.astype(float).tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1.0, 2.0]], np.int64),
        ([[0, 255]], np.uint8),
        ([[-128, 127]], np.int8),
        ([[0, 1]], np.bool_),
        ([[True, False]], np.int32),
    ],
)
def test_whole_numbers_fit_a_model_that_takes_them(values, dtype):
    fed = run(np.array(values), (2,), dtype=dtype)
    assert fed.dtype == dtype
    assert fed.tolist() == values


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1.0, 2.5]], np.int64),
        ([[0, 256]], np.uint8),
        ([[-1, 0]], np.uint8),
        ([[0, 2]], np.bool_),
        ([[1e300, 0.0]], np.int32),
        ([[70000.0, 0.0]], np.float16),
        ([[1e39, 0.0]], np.float32),
    ],
)
def test_values_that_do_not_fit_the_models_type_are_an_error(values, dtype):
    with pytest.raises(DataError, match=f"do not fit its type {np.dtype(dtype)}"):
        run(np.array(values), (2,), dtype=dtype)


def test_unsigned_values_above_the_signed_range_are_an_error():
    with pytest.raises(DataError, match="do not fit its type int64"):
        run(np.array([[2**64 - 1, 0]], dtype=np.uint64), (2,), dtype=np.int64)


def test_scaling_for_a_model_of_whole_numbers_is_an_error():
    with pytest.raises(DataError, match="takes whole numbers"):
        run(np.zeros((1, 2)), (2,), Preprocessing(255.0), dtype=np.uint8)


def test_a_model_that_takes_text_is_an_error():
    with pytest.raises(DataError, match="wants object; expected numbers"):
        run(np.zeros((1, 2)), (2,), dtype=object)


def test_a_sample_that_is_one_value_is_scaled_too():
    whole = Arrangement("as is", (), None, None, ())
    fed = apply(np.array([2.0, 4.0]), whole, Preprocessing(2.0), signature(), field="x")
    assert fed.tolist() == [1.0, 2.0]
