from __future__ import annotations

import json

import numpy as np
import pytest

from onnxscape.core.samples import TensorSignature
from onnxscape.data import Dataset, Preprocessing, load_dataset, prepare_samples
from onnxscape.data.subset import subset_indices
from onnxscape.errors import DataError

F4 = np.dtype(np.float32)
ROWS = TensorSignature("input", (None, 4), F4)


def toy(n=50, **changes):
    values = {
        "name": "toy",
        "fields": {"x": np.arange(n * 4, dtype=np.float32).reshape(n, 4)},
        "labels": np.arange(n) % 3,
    }
    return Dataset(**(values | changes))


def test_samples_come_in_the_order_of_the_subset():
    data = toy()
    samples = prepare_samples(data, [ROWS], samples=10)
    chosen = subset_indices(data.digest(), 50, 10)
    assert np.array_equal(samples.inputs["input"], data.fields["x"][chosen])
    assert samples.labels.tolist() == (chosen % 3).tolist()
    assert samples.labels.dtype == np.int64
    assert (len(samples), samples.population, samples.name) == (10, 50, "toy")
    assert samples.digest == data.digest()


def test_all_samples_come_in_natural_order():
    data = toy()
    samples = prepare_samples(data, [ROWS], samples=None)
    assert np.array_equal(samples.inputs["input"], data.fields["x"])


def test_a_smaller_subset_is_the_start_of_a_larger_one():
    small = prepare_samples(toy(), [ROWS], samples=5).inputs["input"]
    large = prepare_samples(toy(), [ROWS], samples=20).inputs["input"]
    assert np.array_equal(large[:5], small)


def test_more_samples_than_there_are_is_an_error():
    with pytest.raises(DataError, match="has 50 samples"):
        prepare_samples(toy(), [ROWS])


def test_what_was_done_is_plain_json():
    data = toy(preprocessing=Preprocessing(255.0, (0.5,), (0.25,)))
    samples = prepare_samples(data, [ROWS], samples=2)
    assert json.loads(json.dumps(samples.preprocessing)) == {
        "input": {"layout": "as is", "scale": 255.0, "mean": [0.5], "std": [0.25]}
    }


def test_the_cifar_defaults_are_those_of_the_reference():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    cifar = {info.name: info for info in _infos()}["cifar10"]
    data = Dataset(
        name="c",
        fields={"x": pixels},
        labels=np.zeros(6),
        layout="NHWC",
        preprocessing=cifar.preprocessing,
    )
    wanted = TensorSignature("input", (None, 3, 32, 32), F4)
    fed = prepare_samples(data, [wanted], samples=None).inputs["input"]
    # torchvision: ToTensor, then Normalize with these numbers.
    mean = np.array([125.3, 123.0, 113.9]) / 255
    std = np.array([63.0, 62.1, 66.7]) / 255
    exact = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(fed, exact, rtol=1e-6, atol=1e-6)
    raw = prepare_samples(data, [wanted], samples=None, scale="raw").inputs["input"]
    assert np.array_equal(raw, pixels.transpose(0, 3, 1, 2))


def _infos():
    from onnxscape.data import list_datasets

    return list_datasets()


def test_digits_are_divided_by_16():
    data = load_dataset("digits")
    wanted = TensorSignature("input", (None, 1, 8, 8), F4)
    samples = prepare_samples(data, [wanted], samples=None, classes=10)
    assert np.array_equal(samples.inputs["input"][:, 0] * 16, data.fields["x"])
    assert samples.preprocessing["input"]["layout"] == "grey as NCHW"


def test_a_model_of_whole_numbers_gets_the_raw_values():
    data = toy(
        fields={"x": np.arange(200, dtype=np.uint8).reshape(50, 4)},
        preprocessing=Preprocessing(255.0, (0.5,), (0.25,)),
    )
    wanted = TensorSignature("input", (None, 4), np.dtype(np.uint8))
    samples = prepare_samples(data, [wanted], samples=None)
    assert np.array_equal(samples.inputs["input"], data.fields["x"])
    assert samples.preprocessing["input"]["mean"] is None
    with pytest.raises(DataError, match="takes whole numbers"):
        prepare_samples(data, [wanted], samples=None, scale="unit")


def test_inputs_are_matched_by_name():
    a, b = np.zeros((6, 2), np.float32), np.ones((6, 3), np.int64)
    data = Dataset(name="two", fields={"b": b, "a": a, "spare": a}, labels=np.zeros(6))
    inputs = [
        TensorSignature("a", (None, 2), F4),
        TensorSignature("b", (1, 3), np.dtype(np.int64)),
    ]
    samples = prepare_samples(data, inputs, samples=3)
    assert list(samples.inputs) == ["a", "b"]
    assert np.array_equal(samples.inputs["b"], b[:3])


def test_an_array_named_like_the_input_goes_before_x():
    fields = {"x": np.zeros((6, 4), np.float32), "input": np.ones((6, 4), np.float32)}
    samples = prepare_samples(toy(6, fields=fields), [ROWS], samples=None)
    assert samples.inputs["input"].all()


def test_inputs_without_an_array_are_an_error_that_lists_both_sides():
    data = toy(fields={"a": np.zeros((50, 2)), "z": np.zeros((50, 7))})
    inputs = [TensorSignature("a", (None, 2), F4), TensorSignature("b", (None, 3), F4)]
    with pytest.raises(DataError) as caught:
        prepare_samples(data, inputs)
    assert "model input b" in str(caught.value)
    assert "a [?, 2] float32, b [?, 3] float32" in str(caught.value)
    assert "a [50, 2], z [50, 7]" in str(caught.value)
    with pytest.raises(DataError, match="name the arrays like the inputs, or 'x'"):
        prepare_samples(data, [ROWS])


def test_a_model_without_inputs_is_an_error():
    with pytest.raises(DataError, match="no input"):
        prepare_samples(toy(), [])


def test_options_for_values_are_refused_with_several_inputs():
    fields = {"a": np.zeros((6, 2)), "b": np.zeros((6, 2))}
    inputs = [TensorSignature(name, (None, 2), F4) for name in "ab"]
    with pytest.raises(DataError, match="one input, this one has 2"):
        prepare_samples(toy(6, fields=fields), inputs, samples=None, scale="unit")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error_wherever_they_are(value, monkeypatch):
    monkeypatch.setattr("onnxscape.data.dataset._BLOCK_BYTES", 64)
    data = toy()
    data.fields["x"][41, 2] = value
    data.fields["x"][45, 0] = value
    with pytest.raises(DataError, match=r"in 'x' of toy, got \w+ at x\[41, 2\] \(2 NaN"):
        prepare_samples(data, [ROWS], samples=1)


def test_labels_are_checked_against_the_classes():
    with pytest.raises(DataError, match=r"in 0\.\.1 in toy, got 2 at index 2"):
        prepare_samples(toy(), [ROWS], samples=5, classes=2)


def test_a_regression_gets_float_targets():
    data = toy(labels=np.arange(100.0).reshape(50, 2) / 7)
    samples = prepare_samples(data, [ROWS], loss="mse", samples=None)
    assert samples.labels.dtype == np.float32
    assert np.array_equal(samples.labels, (np.arange(100) / 7).reshape(50, 2).astype(F4))


def test_only_the_chosen_samples_are_preprocessed(monkeypatch):
    seen = []

    def spy(values, *arguments, **options):
        seen.append(len(values))
        return apply(values, *arguments, **options)

    from onnxscape.data.preprocessing import apply

    monkeypatch.setattr("onnxscape.data.preparation.apply", spy)
    prepare_samples(toy(), [ROWS], samples=7)
    assert seen == [7]


def test_arrays_are_contiguous_and_of_the_models_type():
    data = toy(fields={"x": np.asfortranarray(np.zeros((50, 4)))})
    fed = prepare_samples(data, [ROWS], samples=None).inputs["input"]
    assert fed.dtype == F4
    assert fed.flags.c_contiguous
