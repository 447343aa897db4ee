"""Refinement of functions whose shape is known, replayed from all of their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.refinement import Refined, refine, relative_error


@dataclass(frozen=True)
class Replay:
    """What a refinement asked for, and what it made of the answers."""

    truth: np.ndarray
    questions: list[np.ndarray]
    result: Refined

    @property
    def errors(self):
        return relative_error(self.result.loss, self.truth, self.result.floor)


def replay(grid, truth, tolerance=0.05):
    questions, asked = refine(grid, tolerance), []
    wanted = next(questions)
    while True:
        asked.append(wanted)
        try:
            wanted = questions.send(truth.ravel()[wanted])
        except StopIteration as end:
            return Replay(truth, asked, end.value)


def on(function, columns=51, rows=51, radius=1.0):
    grid = Grid(Axis(-radius, radius, columns), Axis(-radius, radius, rows))
    a, b = np.meshgrid(grid.alphas, grid.betas)
    return grid, function(a, b)


def bowl(a, b):
    return 0.1 + a**2 + 2 * b**2


def kink(a, b):
    return 1.0 + 5 * np.abs(a - 0.3 * b - 0.11)


def ridge(a, b):
    return 0.5 + np.exp(-(((a + b - 0.2) / 0.06) ** 2))


def corner(a, b):
    loss = np.exp(2 * (a + b))
    return np.where(a + b > 1.2, np.nan, loss)


def explosion(a, b):
    return np.where(a > 0.55, np.inf, bowl(a, b))


def steps(a, b):
    return np.floor(3 * a + 2 * b) + 10


def saddle(a, b):
    return a**2 - b**2 + 0.3 * a * b**2


SMOOTH = [bowl, saddle, lambda a, b: np.exp(3 * a - b), lambda a, b: 0 * a + 2.0]
ROUGH = [kink, ridge, corner, explosion, steps]


@pytest.mark.parametrize("function", SMOOTH)
def test_a_smooth_function_takes_few_evaluations(function):
    run = replay(*on(function))
    assert run.result.evaluated.mean() < 0.25
    assert run.errors.max() <= 0.05


@pytest.mark.parametrize("function", [kink, ridge])
def test_points_gather_where_the_curvature_is(function):
    grid, truth = on(function)
    run = replay(grid, truth)
    assert run.result.evaluated.mean() < 0.7
    assert (run.errors > 0.05).mean() < 0.01
    a, b = np.meshgrid(grid.alphas, grid.betas)
    at = a - 0.3 * b - 0.11 if function is kink else a + b - 0.2
    near, far = np.abs(at) < 0.08, np.abs(at) > 0.5
    assert run.result.evaluated[near].mean() > 1.5 * run.result.evaluated[far].mean()


@pytest.mark.parametrize("function", [corner, explosion])
def test_points_that_are_not_finite_are_all_evaluated(function):
    run = replay(*on(function))
    assert run.result.evaluated[~np.isfinite(run.truth)].all()
    assert np.isfinite(run.result.loss[~run.result.evaluated]).all()
    assert np.array_equal(np.isfinite(run.result.loss), np.isfinite(run.truth))
    assert run.result.evaluated.mean() < 0.75


@pytest.mark.parametrize("function", SMOOTH + ROUGH)
@pytest.mark.parametrize("tolerance", [0.01, 0.05, 0.3])
def test_the_error_that_is_told_is_the_true_one_at_the_held_out_points(function, tolerance):
    run = replay(*on(function, 40, 33), tolerance)
    result, held_out = run.result, run.result.held_out
    kept = ~held_out
    assert np.array_equal(result.loss[kept], result.predicted[kept], equal_nan=True)
    if not held_out.any():
        assert result.evaluated.all()
        assert result.largest_error == 0.0
        return
    # They were asked for last, after everything else had been settled without them.
    assert sorted(run.questions[-1].tolist()) == np.flatnonzero(held_out).tolist()
    predicted, true = result.predicted[held_out], run.truth[held_out]
    off = np.abs(predicted - true) / np.maximum(np.abs(true), result.floor)
    assert result.largest_error == off.max() <= tolerance
    before = result.evaluated & kept
    wanted = max(20, 0.02 * (~before).sum())
    assert held_out.sum() == min(np.ceil(wanted), (~before).sum())


@given(
    columns=st.integers(2, 30),
    rows=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    roughness=st.floats(0, 2),
    tolerance=st.floats(1e-6, 1),
)
def test_no_point_is_asked_for_twice_and_what_is_evaluated_is_exact(
    columns, rows, seed, roughness, tolerance
):
    grid = Grid(Axis(-1.0, 1.0, columns), None if rows == 1 else Axis(-0.5, 1.0, rows))
    rng = np.random.default_rng(seed)
    a, b = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-0.5, 1, rows))
    truth = bowl(a, b) + roughness * rng.normal(size=a.shape)
    truth[rng.random(a.shape) < 0.02] = np.nan
    run = replay(grid, truth, tolerance)
    asked = np.concatenate(run.questions)
    assert len(set(asked.tolist())) == asked.size <= truth.size
    evaluated = run.result.evaluated
    assert asked.size == evaluated.sum()
    assert np.array_equal(run.result.loss[evaluated], truth[evaluated], equal_nan=True)
    assert np.isfinite(run.result.loss[~evaluated]).all()
    if evaluated.any() and run.result.held_out.any():
        assert run.result.largest_error <= tolerance


def test_a_tolerance_that_nothing_meets_evaluates_everything_exactly():
    grid, _ = on(bowl, 20, 20)
    truth = np.random.default_rng(1).exponential(size=(20, 20))
    run = replay(grid, truth, 1e-9)
    assert run.result.evaluated.all()
    assert np.array_equal(run.result.loss, truth)
    assert run.result.largest_error == 0.0
    assert not run.result.held_out.any()


@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (9, 9)])
def test_small_grids_are_evaluated_whole(shape):
    run = replay(*on(bowl, *shape))
    assert run.result.evaluated.all()
    assert len(run.questions) == 1


def test_what_verification_finds_is_refined_around():
    # A dent between all points of the 9 x 9 grid: nothing but chance can find it.
    grid, truth = on(bowl, 51, 51)
    dent = np.zeros_like(truth, dtype=bool)
    dent[19:25, 26:31] = True
    truth = np.where(dent, truth * 3, truth)
    found = [replay(grid, np.roll(truth, k, axis=0)) for k in range(0, 20, 4)]
    for run in found:
        if run.result.rounds > 1:
            assert run.errors.max() <= 0.05
    assert any(run.result.rounds > 1 for run in found)


def test_lines_of_both_kinds_are_refined_alike():
    values = 0.1 + np.linspace(-1, 1, 201) ** 4
    along = replay(Grid(Axis(-1.0, 1.0, 201), None), values[None, :])
    across = replay(Grid(None, Axis(-1.0, 1.0, 201)), values[:, None])
    assert along.result.evaluated.sum() < 60
    assert along.errors.max() <= 0.05
    assert np.array_equal(along.result.loss.ravel(), across.result.loss.ravel())


def test_the_same_answers_make_the_same_questions():
    first, second = (replay(*on(kink)) for _ in range(2))
    for mine, theirs in zip(first.questions, second.questions, strict=True):
        assert np.array_equal(mine, theirs)


def test_logarithms_are_taken_where_all_losses_have_one():
    assert replay(*on(bowl)).result.log
    assert not replay(*on(saddle)).result.log


def test_a_loss_of_zero_that_turns_up_late_ends_the_logarithms():
    grid, truth = on(bowl)
    truth[3, 4:] = 0.0  # a row of the fourth level
    run = replay(grid, truth)
    assert run.result.evaluated[3, 10] == (not run.result.log)
    assert np.isfinite(run.result.loss).all()


def test_the_floor_follows_the_median_not_the_largest_loss():
    grid, truth = on(bowl)
    truth[-1, -1] = 1e30
    assert replay(grid, truth).result.floor == pytest.approx(
        0.001 * np.median(truth[::6, ::6]), rel=0.2
    )


def test_losses_that_are_all_zero_are_no_difficulty():
    run = replay(*on(lambda a, _: 0.0 * a))
    assert run.result.largest_error == 0.0
    assert not run.result.loss.any()


def test_a_center_off_the_middle_of_the_grid_is_evaluated():
    grid = Grid(Axis(-0.5, 1.5, 41), Axis(-0.3, 1.7, 41))
    a, b = np.meshgrid(grid.alphas, grid.betas)
    center = grid.center()
    assert center.row >= 0
    assert replay(grid, bowl(a, b)).result.evaluated[center.row, center.column]
