from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from onnxscape.core.loss import Labels
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
    assert "model input 'b'" in str(caught.value)
    assert "a [?, 2] float32, b [?, 3] float32" in str(caught.value)
    assert "a [50, 2], z [50, 7]" in str(caught.value)
    with pytest.raises(DataError, match="name the arrays like the inputs, or 'x'"):
        prepare_samples(data, [ROWS])


def test_labels_under_another_name_than_the_models_input_are_told():
    inputs = [TensorSignature("input", (None, 2), F4), TensorSignature("labels", (None,), F4)]
    with pytest.raises(DataError, match=r"y \[50\];.*the labels 'y' as its input 'labels'"):
        prepare_samples(toy(fields={"input": np.zeros((50, 2))}), inputs)


def test_a_model_without_inputs_is_an_error():
    with pytest.raises(DataError, match="no input"):
        prepare_samples(toy(), [])


def test_options_for_values_are_refused_with_several_inputs():
    fields = {"a": np.zeros((6, 2)), "b": np.zeros((6, 2))}
    fields["rate"] = np.float32(0.5)
    inputs = [TensorSignature(name, (None, 2), F4) for name in "ab"]
    inputs.append(TensorSignature("rate", (), F4))
    with pytest.raises(DataError, match=r"this one has 3 inputs \(a, b, rate\)"):
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
    samples = prepare_samples(data, [ROWS], labels=Labels.VALUES, samples=None)
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


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(Labels.CLASSES, np.int64), (Labels.VALUES, np.float32), (Labels.ANY, np.float64)],
)
def test_labels_are_what_the_loss_wants(labels, dtype):
    y = np.arange(50.0)
    samples = prepare_samples(toy(labels=y), [ROWS], labels=labels, samples=5)
    assert samples.labels.dtype == dtype
    assert samples.labels.tolist() == y[subset_indices(samples.digest, 50, 5)].tolist()


def test_a_loss_without_labels_looks_at_none():
    unusable = toy(labels=np.full(50, np.nan))
    assert prepare_samples(unusable, [ROWS], labels=Labels.NONE, samples=5).labels is None
    without = toy(labels=None)
    for labels in (Labels.NONE, Labels.ANY):
        assert prepare_samples(without, [ROWS], labels=labels, samples=5).labels is None


@pytest.mark.parametrize("labels", [Labels.CLASSES, Labels.VALUES])
def test_labels_that_are_missing_are_an_error_that_lists_what_there_is(labels):
    data = toy(labels=None, fields={"x": np.zeros((50, 4)), "target": np.zeros(50)})
    with pytest.raises(DataError) as caught:
        prepare_samples(data, [ROWS], labels=labels)
    assert "labels under 'y', got x [50, 4] float64, target [50] float64" in str(caught.value)


def test_ignored_labels_are_kept_and_one_must_count():
    y = np.array([[0, 255], [255, 2]], np.uint8)
    data = toy(2, labels=y)
    options = {"classes": 3, "positions": 1, "samples": None}
    found = prepare_samples(data, [ROWS], ignore_index=255, **options)
    assert found.labels.tolist() == y.tolist()
    with pytest.raises(DataError, match=r"are 255.*none counts"):
        prepare_samples(toy(2, labels=y | 255), [ROWS], ignore_index=255, **options)


def test_samples_may_have_weights():
    weights = np.arange(50, dtype=np.float32)
    data = toy(fields={"x": np.zeros((50, 4), F4), "sample_weight": weights})
    samples = prepare_samples(data, [ROWS], samples=5)
    assert samples.weights.dtype == np.float64
    assert samples.weights.tolist() == subset_indices(samples.digest, 50, 5).tolist()
    assert prepare_samples(toy(), [ROWS], samples=5).weights is None


def test_an_input_named_like_the_weights_is_an_input():
    fields = {"x": np.zeros((6, 4), F4), "sample_weight": np.full((6, 2), -1, F4)}
    inputs = [ROWS, TensorSignature("sample_weight", (None, 2), F4)]
    data = toy(6, fields={**fields, "input": fields["x"]})
    samples = prepare_samples(data, inputs, samples=None)
    assert samples.weights is None
    assert (samples.inputs["sample_weight"] == -1).all()


@pytest.mark.parametrize("rate", [np.array(16000.0), np.full(6, 16000, np.uint16)])
def test_an_input_without_axes_is_fed_one_value(rate):
    data = toy(6, fields={"input": np.zeros((6, 4)), "rate": rate})
    inputs = [TensorSignature("rate", (), np.dtype(np.int64)), ROWS]
    samples = prepare_samples(data, inputs, samples=3)
    assert list(samples.inputs) == ["input"]
    assert samples.constants["rate"].shape == ()
    assert samples.constants["rate"].dtype == np.int64
    assert samples.constants["rate"] == 16000


@pytest.mark.parametrize("rate", [np.arange(6), np.ones((6, 2)), np.array(0.5)])
def test_an_input_without_axes_takes_no_other_values(rate):
    data = toy(6, fields={"input": np.zeros((6, 4)), "rate": rate})
    inputs = [TensorSignature("rate", (), np.dtype(np.int64)), ROWS]
    with pytest.raises(DataError, match=r"store one value|do not fit its type int64"):
        prepare_samples(data, inputs, samples=None)


def test_a_single_value_for_an_input_with_axes_is_an_error():
    data = toy(6, fields={"a": np.zeros((6, 4)), "input": np.array(3.0)})
    with pytest.raises(DataError, match="'input' of toy is a single value, but model input"):
        prepare_samples(data, [ROWS], samples=None)


def test_a_model_of_single_values_only_cannot_be_fed_samples():
    with pytest.raises(DataError, match="no input that samples"):
        prepare_samples(toy(), [TensorSignature("rate", (), F4)])


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int32", np.array([[0, 7], [2**31 - 1, -1]])),
        ("int64", np.array([[0, 7], [2, 1]], np.uint8)),
        ("float16", np.array([[0.5, 1], [2, -4]])),
        ("bfloat16", np.array([[0.5, 1], [2, -4]])),
        ("float64", np.array([[0.1, 1], [2, -4]])),
        ("uint8", np.array([[0.0, 255], [2, 1]])),
        ("int8", np.array([[-128, 127], [2, 1]])),
        ("bool", np.array([[0, 1], [1, 0]])),
        ("float32", np.array([[True, False], [True, True]])),
    ],
)
def test_sequences_of_any_length_come_in_every_type(dtype, values):
    wanted = np.dtype(getattr(ml_dtypes, dtype, dtype))
    signature = TensorSignature("ids", (None, None), wanted)
    fields = {"ids": values}
    fed = prepare_samples(toy(2, fields=fields), [signature], samples=None).inputs["ids"]
    assert fed.dtype == wanted
    assert fed.astype(np.float64).tolist() == values.astype(np.float64).tolist()


@pytest.mark.parametrize(
    ("dtype", "value"), [("int32", 2**31), ("bool", 2), ("uint8", -1), ("int64", 0.5)]
)
def test_values_that_a_type_cannot_hold_are_an_error(dtype, value):
    signature = TensorSignature("ids", (None, None), np.dtype(dtype))
    with pytest.raises(DataError, match=f"do not fit its type {dtype}"):
        prepare_samples(
            toy(2, fields={"ids": np.full((2, 3), value)}), [signature], samples=None
        )


def test_an_input_may_be_one_number_a_sample():
    signature = TensorSignature("age", (None,), F4)
    for shape in ((6,), (6, 1)):
        fields = {"age": np.arange(6).reshape(shape)}
        fed = prepare_samples(toy(6, fields=fields), [signature], samples=None).inputs["age"]
        assert fed.tolist() == [0, 1, 2, 3, 4, 5]


def test_axes_of_one_name_must_have_one_size():
    fields = {"ids": np.zeros((6, 12), int), "mask": np.ones((6, 10), int)}
    inputs = [
        TensorSignature(name, (None, None), np.dtype(np.int64), ("batch", axis))
        for name, axis in (("ids", "length"), ("mask", "length"))
    ]
    with pytest.raises(
        DataError, match=r"share the axis 'length'.*12 for ids and 10 for mask"
    ):
        prepare_samples(toy(6, fields=fields), inputs, samples=None)
    inputs[1] = TensorSignature("mask", (None, None), inputs[1].dtype, ("batch", "other"))
    assert len(prepare_samples(toy(6, fields=fields), inputs, samples=None)) == 6


@pytest.mark.parametrize("axis", ["?", "", "unk__12", "unk__3", "unknown", "None"])
def test_axes_without_a_real_name_may_have_any_size(axis):
    fields = {"x": np.zeros((6, 1, 4, 8), F4)}
    signature = TensorSignature("x", (None, 1, None, None), F4, ("batch", None, axis, axis))
    fed = prepare_samples(toy(6, fields=fields), [signature], samples=None).inputs["x"]
    assert fed.shape == (6, 1, 4, 8)


TABLE = {
    "age": np.arange(6),
    "height": np.arange(6) / 4,
    "smokes": np.arange(6) % 2 == 0,
    "sample_weight": np.ones(6),
}
TABLE_ROWS = TensorSignature("features", (None, 3), F4)


def test_columns_of_a_table_make_rows_in_its_order():
    data = Dataset(name="people", fields=TABLE, labels=np.zeros(6), table=True)
    samples = prepare_samples(data, [TABLE_ROWS], samples=3)
    chosen = subset_indices(samples.digest, 6, 3)
    rows = [[n, n / 4, n % 2 == 0] for n in chosen]
    assert samples.inputs["features"].tolist() == rows
    assert samples.weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("table", "shape", "extra"),
    [
        (False, (None, 3), {}),
        (True, (None, None), {}),
        (True, (None, 4), {}),
        (True, (None, 1, 3), {}),
        (True, (None, 4), {"words": np.zeros((6, 2))}),
    ],
)
def test_columns_that_need_not_be_meant_are_not_put_together(table, shape, extra):
    data = Dataset(name="people", fields=TABLE | extra, labels=np.zeros(6), table=table)
    with pytest.raises(DataError, match="no array for model input 'features'"):
        prepare_samples(data, [TensorSignature("features", shape, F4)], samples=None)


def test_a_column_named_like_the_input_goes_before_all_columns():
    fields = {"features": np.ones((6, 3)), "a": np.zeros(6), "b": np.zeros(6)}
    data = Dataset(name="d", fields=fields, labels=np.zeros(6), table=True)
    assert prepare_samples(data, [TABLE_ROWS], samples=None).inputs["features"].all()


def test_arrays_of_the_models_type_are_not_copied():
    data = toy()
    fed = prepare_samples(data, [ROWS], samples=None).inputs["input"]
    assert np.shares_memory(fed, data.fields["x"])


def test_shuffled_samples_keep_their_labels_and_begin_with_every_subset():
    x = np.arange(12, dtype=np.float32).reshape(12, 1)
    dataset = Dataset.from_arrays("arrays", {"x": x, "y": np.arange(12)})
    signature = TensorSignature("x", (None, 1), np.dtype(np.float32))
    shuffled, few = (
        prepare_samples(dataset, [signature], samples=samples, shuffled=samples is None)
        for samples in (None, 5)
    )
    assert sorted(shuffled.labels.tolist()) == list(range(12))
    assert np.array_equal(shuffled.inputs["x"][:, 0], shuffled.labels)
    assert np.array_equal(shuffled.inputs["x"][:5], few.inputs["x"])
