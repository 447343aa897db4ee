"""Every file of the exporter matrix: points of its surface from files rebuilt by other means.

What a point moved is read from the direction file; those tensors of the file are edited with
plain onnx, the outputs come from plain ONNX Runtime, and the loss from numpy in float64.
"""

from __future__ import annotations

import pytest
from fixture_kinds import EVALUATED
from fixture_networks import boxes_task

THREE_POINTS = ((0.5, -0.5), (-0.5, 0.0), (0.0, 0.5))


def assert_points(evaluation, truth, fixture, task=None):
    delta, eta = evaluation.directions
    for alpha, beta in THREE_POINTS:
        place = truth.steps.index(beta), truth.steps.index(alpha)
        expected = truth.loss_at(fixture, delta, eta, alpha, beta, task)
        assert evaluation.landscape.loss[place] == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("fixture", EVALUATED)
def test_points_equal_the_file_with_edited_weights(fixture, evaluated, truth):
    evaluation = evaluated(fixture)
    assert all(evaluation.directions)  # something moves
    assert_points(evaluation, truth, fixture)


@pytest.mark.parametrize("road", ["torch_legacy_nofolding", "torch_dynamo_optimized"])
def test_points_of_another_output_equal_the_file_with_edited_weights(road, evaluated, truth):
    fixture, task = f"detect_{road}", boxes_task()
    assert_points(evaluated(fixture, task), truth, fixture, task)
