from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.loss import (
    LABELS_OF,
    Loss,
    class_axes,
    labels_of,
    metrics_of,
    same_values,
)


@pytest.mark.parametrize(
    ("output", "labels", "axes"),
    [
        ((8, 10), (8,), [1]),
        ((8, 10), (8, 1), [1]),
        ((8, 10, 1, 1), (8,), [1]),
        ((8, 1, 1, 10), (8,), [3]),
        ((8, 5, 7), (8, 7), [1]),
        ((8, 7, 5), (8, 7), [2]),
        ((8, 7, 7), (8, 7), [1, 2]),
        ((8, 3, 32, 32), (8, 32, 32), [1]),
        ((8, 32, 32, 3), (8, 32, 32), [3]),
        ((8, 3, 32, 32), (8, 1, 32, 32), [1]),
        ((8, 5, 1), (8, 1), [1]),
        ((8, 2, 1, 2), (8, 1, 2), [1]),  # without its axis of size 1 it would be ambiguous
        ((8, 1), (8,), []),
        ((8, 10), (8, 10), []),
        ((8, 7, 5), (8,), []),
        ((8,), (8,), []),
    ],
)
def test_the_axis_of_classes_is_what_the_labels_lack(output, labels, axes):
    assert class_axes(output, labels) == axes


@pytest.mark.parametrize(
    ("output", "labels", "same"),
    [
        ((8, 3), (8, 3), True),
        ((8, 1), (8,), True),
        ((8, 1, 4, 4), (8, 16), True),
        ((8, 16), (8, 4, 4), True),
        ((8, 4, 6), (8, 6, 4), False),  # as many values, in another order
        ((8, 3), (8, 2), False),
        ((8, 3), (8,), False),
    ],
)
def test_values_are_shaped_like_the_output_or_flat(output, labels, same):
    assert same_values(output, labels) is same


def test_positions_are_what_is_left_of_the_output():
    loss = Loss(name="nll", output="y", shape=(4, 7, 5), class_axis=2)
    assert (loss.classes, loss.positions) == (7, 20)


def test_ignored_positions_are_not_counted():
    loss = Loss(name="nll", output="y", shape=(3, 2), class_axis=1, ignore_index=9)
    counted = loss.counted(np.array([[0, 9], [9, 9], [2, 1]]))
    assert counted.tolist() == [1.0, 0.0, 2.0]
    assert loss.counted(np.array([[0, 9], [9, 1]])) is None  # each counts once
    assert Loss(name="mse", output="y", shape=(3,)).counted(np.zeros((2, 3))) is None


def test_every_loss_says_what_its_labels_are_and_what_metrics_it_has():
    for name in LABELS_OF:
        assert ("top5" in metrics_of(name)) == (labels_of(name) == "classes")
    assert labels_of("custom") == "any"
    assert metrics_of("bce") == ("accuracy", "error")
    assert metrics_of("custom") == metrics_of("none") == ()
