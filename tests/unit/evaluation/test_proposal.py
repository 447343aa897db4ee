"""What loss is proposed for which output and labels."""

from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.samples import Samples
from onnxscape.errors import DataError
from onnxscape.evaluation.probe import Probe
from onnxscape.evaluation.proposal import propose

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((4, 3))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
CLASSES = np.array([0, 1, 2, 1, 0, 0])
BINARY = np.array([0, 1, 1, 0, 1, 0])


def proposed(values, labels, last=None, *, per_batch=False, axis=None):
    values = np.float32(values)
    samples = Samples({"x": np.zeros((4, 1))}, None, 6, "data", "0" * 64)
    probe = Probe("out", values, {"out": values}, per_batch, last, samples)
    labels = None if labels is None else np.asarray(labels)
    return propose(probe, labels, {"x": np.zeros((6, 1))}, class_axis=axis, ignore_index=-100)[
        0
    ]


@pytest.mark.parametrize(
    ("values", "labels", "last", "loss"),
    [
        (LOGITS, CLASSES, "Gemm", "cross-entropy"),
        (LOGITS, CLASSES.astype(float), "Gemm", "cross-entropy"),
        (LOGITS, CLASSES[:, None], "Gemm", "cross-entropy"),
        (PROBABILITIES, CLASSES, "Softmax", "log-loss"),
        (PROBABILITIES, CLASSES, "Div", "log-loss"),
        (np.log(PROBABILITIES), CLASSES, "LogSoftmax", "nll"),
        (np.log(PROBABILITIES), CLASSES, "Sub", "nll"),
        (-np.abs(LOGITS) - 5, CLASSES, "Gemm", "cross-entropy"),
        (LOGITS[..., None, None], CLASSES, "Conv", "cross-entropy"),
        (np.moveaxis([LOGITS] * 2, 0, 1), np.stack([CLASSES] * 2, 1), None, "cross-entropy"),
        (
            np.moveaxis([PROBABILITIES] * 2, 0, -1),
            np.stack([CLASSES] * 2, 1),
            None,
            "log-loss",
        ),
        (PROBABILITIES[:, :1], BINARY, "Sigmoid", "bce"),
        (PROBABILITIES[:, :1], BINARY, "Div", "bce"),
        (PROBABILITIES[:, 0], BINARY.astype(float), "Squeeze", "bce"),
        (PROBABILITIES, np.stack([BINARY, BINARY, BINARY], 1), "Sigmoid", "bce"),
        (LOGITS[:, :1], BINARY, "Gemm", "bce-with-logits"),
        (LOGITS[:, :1], BINARY.astype(bool), "Gemm", "bce-with-logits"),
        (LOGITS[:, :1], BINARY.astype(float), "Gemm", "bce-with-logits"),
        (LOGITS[:, 0], BINARY.astype(float), "Gemm", "bce-with-logits"),
        (LOGITS[:, :1], np.zeros(6), "Gemm", "mse"),
        (
            LOGITS,
            np.float32(RNG.integers(0, 2, (6, 3)) | [1, 0, 1]),
            "Gemm",
            "bce-with-logits",
        ),
        (LOGITS[:, :1], CLASSES, "Gemm", "mse"),
        (LOGITS, RNG.standard_normal((6, 3)), "Gemm", "mse"),
        (LOGITS, np.full((6, 3), 7), "Gemm", "mse"),
        (LOGITS, np.eye(3)[CLASSES], "Gemm", "cross-entropy"),  # which then says: argmax
        (LOGITS, RNG.standard_normal(6), "Gemm", "mse"),
        (LOGITS[:, 0], None, "Gemm", "none"),
        (LOGITS[:, :1], None, "Gemm", "none"),
    ],
)
def test_the_loss_is_that_of_output_labels_and_last_operator(values, labels, last, loss):
    assert proposed(values, labels, last) == loss


def test_one_number_for_a_batch_is_the_loss_itself():
    assert proposed(3.0, None, per_batch=True) == "none"
    assert proposed(3.0, CLASSES, per_batch=True) == "none"


def test_without_labels_several_values_mean_nothing():
    with pytest.raises(
        DataError, match=r"no labels for the output 'out' \[N, 3\]; give.*: --loss none if"
    ):
        proposed(LOGITS, None)


def test_values_that_are_not_finite_are_no_probabilities():
    spoiled = PROBABILITIES.copy()
    spoiled[0, 0] = np.nan
    assert proposed(spoiled, CLASSES, "Div") == "cross-entropy"
    assert proposed(spoiled, CLASSES, "Softmax") == "log-loss"


TOKENS = RNG.integers(0, 5, (4, 6))


def proposed_for_tokens(labels, scored=5, *, tokens=TOKENS, ignore_index=-100):
    samples = Samples({"ids": tokens[:4]}, labels, len(tokens), "data", "0" * 64)
    values = np.float32(RNG.standard_normal((4, 6, scored)))
    probe = Probe("out", values, {"out": values}, False, "MatMul", samples)
    return propose(probe, labels, {"ids": tokens}, class_axis=None, ignore_index=ignore_index)[
        0
    ]


@pytest.mark.parametrize(
    ("labels", "loss"),
    [
        (None, "next-token"),
        (TOKENS, "next-token"),
        (np.where(TOKENS == 2, -100, TOKENS), "next-token"),
        (TOKENS[:, ::-1], "cross-entropy"),
        (TOKENS % 3, "cross-entropy"),
        (np.full_like(TOKENS, -100), "cross-entropy"),
    ],
)
def test_labels_that_are_the_inputs_own_tokens_are_those_to_come(labels, loss):
    assert proposed_for_tokens(labels) == loss


@pytest.mark.parametrize(
    ("others", "loss"),
    [
        (["attention_mask"], "next-token"),
        (["token_type_ids", "position_ids"], "next-token"),
        (["more"], "next-token"),  # of `ids` and another the likelier name
    ],
)
def test_inputs_that_hold_no_tokens_do_not_hide_those_that_do(others, loss):
    inputs = {"ids": TOKENS} | {name: np.ones_like(TOKENS) for name in others}
    samples = Samples(inputs, None, len(TOKENS), "data", "0" * 64)
    values = np.float32(RNG.standard_normal((4, 6, 5)))
    probe = Probe("out", values, {"out": values}, False, "MatMul", samples)
    found, _ = propose(probe, None, inputs, class_axis=None, ignore_index=-100)
    assert found == loss


def test_labels_are_compared_with_the_tokens_of_all_samples():
    tokens = np.concatenate([TOKENS] * 100)
    labels = np.full_like(tokens, -100)
    labels[399, 3] = tokens[399, 3]
    assert proposed_for_tokens(labels, tokens=tokens) == "next-token"
    labels[398, 2] = (tokens[398, 2] + 1) % 5
    assert proposed_for_tokens(labels, tokens=tokens) == "cross-entropy"
    tagged = tokens.copy()
    tagged[200:] = tokens[200:] % 2
    assert proposed_for_tokens(tagged, tokens=tokens) == "cross-entropy"


def test_the_label_that_does_not_count_is_the_users():
    labels = np.where(TOKENS == 2, 7, TOKENS)
    assert proposed_for_tokens(labels, scored=9) == "cross-entropy"
    assert proposed_for_tokens(labels, scored=9, ignore_index=7) == "next-token"
    masked = np.where(TOKENS == 2, -100, TOKENS)
    assert proposed_for_tokens(masked, ignore_index=7) == "cross-entropy"


def test_states_of_tokens_are_no_scores():
    with pytest.raises(DataError, match="no labels"):
        proposed_for_tokens(None, scored=3)  # less than there are tokens
