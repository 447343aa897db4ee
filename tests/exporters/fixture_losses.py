"""The losses of the fixtures' tasks in float64: each the mean over what counts."""

from __future__ import annotations

import numpy as np
from fixture_tasks import IGNORED


def log_softmax(logits, axis=1):
    """Return the logarithms of the probabilities."""
    largest = logits.max(axis=axis, keepdims=True)
    centered = logits - largest
    return centered - np.log(np.exp(centered).sum(axis=axis, keepdims=True))


def nll(log_probabilities, labels):
    """Return the mean of what is at the labels; classes are on axis 1."""
    counted = labels != IGNORED
    index = np.expand_dims(np.where(counted, labels, 0), 1)
    at_labels = np.take_along_axis(log_probabilities, index, axis=1)[:, 0]
    return -at_labels[counted].mean()


def cross_entropy(logits, labels):
    """Return the loss of a classification, of samples or of their positions."""
    return nll(log_softmax(logits), labels.reshape(len(labels), *logits.shape[2:]))


def log_loss(probabilities, labels):
    """Return the loss of probabilities."""
    return nll(np.log(np.maximum(probabilities, 1e-45)), labels)


def next_token(logits, ids, mask):
    """Return the loss of a language model [n, tokens, vocabulary] where both tokens are."""
    labels = np.where((mask[:, 1:] & mask[:, :-1]) == 1, ids[:, 1:], IGNORED)
    return cross_entropy(np.moveaxis(logits[:, :-1], 2, 1), labels)


def bce_with_logits(logits, wanted):
    """Return the loss of several labels, from logits."""
    return float(np.mean(np.logaddexp(0, logits) - wanted * logits))


def bce(probabilities, wanted):
    """Return the loss of several labels, from probabilities."""
    return float(
        -np.mean(wanted * np.log(probabilities) + (1 - wanted) * np.log1p(-probabilities))
    )


def mse(values, wanted):
    """Return the mean squared error."""
    return float(np.mean((values - wanted) ** 2))


def mean(losses, _):
    """Return the mean of losses that the model computed."""
    return float(np.mean(losses))
