from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.samples import TensorSignature
from onnxscape.data import Dataset, prepare_samples
from onnxscape.errors import DataError

I8 = np.dtype(np.int64)
IDS = TensorSignature("input_ids", (None, None), I8)
MASK = TensorSignature("attention_mask", (None, None), I8)
TOKENS = np.array([[5, 6, 7, 8], [1, 2, 3, 4]], dtype=np.uint16)


def labels(fields, inputs=(IDS,), y=None, **options):
    data = Dataset(name="text", fields=fields, labels=y)
    options = {"samples": None, "classes": 10} | options
    return prepare_samples(data, list(inputs), next_token=True, **options).labels.tolist()


def test_each_position_holds_the_token_that_follows():
    assert labels({"input_ids": TOKENS}) == [[6, 7, 8, -100], [2, 3, 4, -100]]
    assert labels({"x": TOKENS}, ignore_index=0) == [[6, 7, 8, 0], [2, 3, 4, 0]]


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_])
def test_neither_padding_nor_what_follows_it_counts(dtype):
    mask = np.array([[1, 1, 1, 0], [0, 0, 1, 1]]).astype(dtype)
    fields = {"input_ids": TOKENS, "attention_mask": mask}
    signature = TensorSignature("attention_mask", (None, None), np.dtype(dtype))
    expected = [[6, 7, -100, -100], [-100, -100, 4, -100]]
    assert labels(fields, [IDS, signature]) == expected
    # The same where only the data knows of the mask.
    assert labels(fields, [IDS]) == expected


def test_tokens_stored_as_labels_are_shifted_and_else_taken_as_they_are():
    y = np.array([[-100, 6, -100, 8], [1, 2, 3, 4]])
    mask = np.zeros((2, 4), int)
    assert labels({"input_ids": TOKENS, "attention_mask": mask}, [IDS, MASK], y) == [
        [6, -100, 8, -100],
        [2, 3, 4, -100],
    ]


def test_labels_belong_to_the_samples_of_the_subset():
    tokens = np.arange(200).reshape(50, 4)
    data = Dataset(name="text", fields={"input_ids": tokens}, labels=None)
    samples = prepare_samples(data, [IDS], next_token=True, samples=7)
    assert np.array_equal(samples.labels[:, :-1], samples.inputs["input_ids"][:, 1:])


def integers(*names):
    return [TensorSignature(name, (None, None), I8) for name in names]


@pytest.mark.parametrize(
    "names",
    [
        ("input_ids", "position_ids", "token_type_ids"),
        ("words", "attention_mask", "position_ids", "segment_ids"),
        ("decoder_input_ids", "input_ids"),
        ("x", "tokens"),
    ],
)
def test_the_input_of_tokens_is_told_by_its_name_or_by_being_the_only_one(names):
    wanted = {"input_ids", "tokens", "words"}.intersection(names).pop()
    fields = {name: np.ones((2, 4), int) for name in names} | {wanted: TOKENS}
    assert labels(fields, integers(*names)) == [[6, 7, 8, -100], [2, 3, 4, -100]]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (integers("left", "right"), "any of the inputs left, right could"),
        (
            [TensorSignature("input", (None, 4), np.dtype("f4"))],
            r"none of the inputs input \[",
        ),
    ],
)
def test_an_input_of_tokens_that_cannot_be_told_asks_for_labels(inputs, said):
    with pytest.raises(DataError, match=rf"{said}.*store them in text as 'y'"):
        labels({signature.name: TOKENS for signature in inputs}, inputs)


def test_masks_that_cannot_be_told_ask_for_labels():
    names = ("input_ids", "mask_a", "mask_b")
    with pytest.raises(DataError, match="which of the masks mask_a, mask_b is 0"):
        labels(dict.fromkeys(names, TOKENS), integers(*names))
    with pytest.raises(DataError, match="1 at tokens and 0 at padding, got other"):
        labels({"input_ids": TOKENS, "attention_mask": -TOKENS.astype(int)}, [IDS, MASK])
    with pytest.raises(DataError, match=r"shaped like the tokens \[2, 4\], got \[2, 3\]"):
        labels({"input_ids": TOKENS, "attention_mask": TOKENS[:, 1:]}, [IDS])


@pytest.mark.parametrize("y", [np.array([1, 2]), np.ones((2, 1)), np.ones((2, 4, 3))])
def test_labels_that_are_no_sequences_are_an_error(y):
    with pytest.raises(DataError, match=r"needs tokens \[samples, positions\]"):
        labels({"input_ids": TOKENS}, y=y)


def test_tokens_the_model_does_not_know_are_an_error():
    with pytest.raises(DataError, match=r"in 0\.\.7 in 'input_ids' of text, got 8 at"):
        labels({"input_ids": TOKENS}, classes=8)


def test_samples_without_any_position_that_counts_are_an_error():
    with pytest.raises(DataError, match=r"all labels of the 2 samples.*none counts"):
        labels({"input_ids": TOKENS}, y=np.full((2, 4), -100))
