"""Points that take as many samples as their standard error asks for."""

from __future__ import annotations

import numpy as np
import pytest

from onnxscape import evaluate, load
from onnxscape.core.loss import Loss
from onnxscape.core.samples import Growth
from onnxscape.errors import SpecConflictError, UsageError
from onnxscape.evaluation.approximation import check_growth
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.evaluation.run import run_in_memory
from onnxscape.runtime.evaluator import Collector

AUTO = {"samples": "auto", "stderr": 0.3, "strategy": "overriding"}


@pytest.fixture
def whole(request_of, recorder):
    """Evaluates a request in memory."""
    return lambda grid="7x5", **options: (
        run_in_memory(request_of(grid, **options), recorder()).landscape
    )


def test_samples_are_doubled_until_there_are_no_more():
    assert Growth(0.1).prefixes(1000) == [128, 256, 512, 1000]
    assert Growth(0.1).prefixes(256) == [128, 256]
    assert Growth(0.1).prefixes(100) == [100]


@pytest.mark.parametrize(
    ("loss", "stderr", "enough"),
    [
        (1.0, 0.09, True),
        (1.0, 0.1, False),
        (1.0, np.nan, False),
        (np.inf, np.nan, True),
        (np.nan, np.nan, True),
    ],
)
def test_enough_is_below_the_error_or_beyond_hope(loss, stderr, enough):
    assert Growth(0.1).enough({"loss": loss, "loss_stderr": stderr}) is enough


@pytest.mark.parametrize("strategy", ["constant", "overriding"])
@pytest.mark.parametrize("batch", [16, 100, 256])
def test_a_point_is_that_of_the_subset_it_took(whole, strategy, batch):
    options = {"strategy": strategy, "batch_size": batch}
    grown = whole(**{**AUTO, **options})
    used = grown.surfaces["samples_used"]
    assert set(np.unique(used)) == {128.0, 256.0, 300.0}
    for samples in (128, 256, "all"):
        fixed = whole(samples=samples, **options)
        at = used == (300 if samples == "all" else samples)
        for name, values in fixed.surfaces.items():
            np.testing.assert_allclose(
                grown.surfaces[name][at], values[at], rtol=1e-6, err_msg=name
            )


def test_every_point_is_below_the_error_and_none_was_before(whole):
    grown = whole(**AUTO)
    used = grown.surfaces["samples_used"]
    assert (grown.loss_stderr < 0.3).all()
    assert (grown.loss_stderr[used == 300] == 0).all()
    half = whole(samples=128, strategy="overriding")
    assert (half.loss_stderr[used > 128] >= 0.3).all()
    assert (half.loss_stderr[used == 128] < 0.3).all()


def test_no_sample_is_evaluated_twice_or_for_nothing(whole, monkeypatch):
    counts, add = [], Collector.add

    def counting(collector, results, count, rows):
        counts.append(count)
        add(collector, results, count, rows)

    monkeypatch.setattr(Collector, "add", counting)
    grown = whole(**AUTO)
    assert sum(counts) == grown.surfaces["samples_used"].sum()


def test_the_center_tells_how_many_samples_it_took(whole):
    assert whole("4x4", **AUTO).center["samples_used"] in {128.0, 256.0, 300.0}


@pytest.mark.parametrize("after", [1, 20])
def test_an_interrupted_run_goes_on_to_the_same_bits(run, whole, recorder, tmp_path, after):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(after), grid="7x5", **AUTO)
    report = run(grid="7x5", **AUTO)
    assert report.reused == after
    undisturbed, read = whole(**AUTO), load(tmp_path / "surface.h5")
    for name, values in undisturbed.surfaces.items():
        assert np.array_equal(report.landscape.surfaces[name], values)
        assert np.array_equal(read.surfaces[name], values)


def test_another_standard_error_is_another_landscape(run, recorder):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(3), **AUTO)
    with pytest.raises(SpecConflictError, match=r"stderr \(0.3, not 0.2\)"):
        run(**{**AUTO, "stderr": 0.2})
    with pytest.raises(SpecConflictError, match=r"stderr \(0.3, not none\)"):
        run(samples="all")


def test_samples_without_weight_do_not_stop_a_point(reference, digits_arrays):
    x, y = digits_arrays
    weight = np.zeros(len(x))
    weight[-1] = 1.0  # wherever it comes in the permutation
    landscape = evaluate(
        reference / "model.onnx",
        {"x": x, "y": y, "sample_weight": weight},
        grid=3,
        threads=1,
        **AUTO,
    )
    assert np.isfinite(landscape.loss).all()


def test_it_goes_together_with_refinement(whole):
    both = whole("33", adaptive=True, tolerance=0.2, **AUTO)
    used = both.surfaces["samples_used"]
    assert np.isin(used[both.evaluated], (128, 256, 300)).all()
    assert (used[~both.evaluated] == 0).all()
    assert both.spec.stderr == 0.3
    assert both.spec.tolerance == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "auto"}, "needs --stderr.*got nothing"),
        ({"samples": "auto", "stderr": 0.0}, "above 0 such as 0.01; got 0"),
        ({"samples": "auto", "stderr": np.inf}, "got inf"),
        ({"samples": 40, "stderr": 0.1}, "got --samples 40; use both"),
        ({"samples": "some"}, "'all' or 'auto', got 'some'"),
    ],
)
def test_options_without_sense_are_refused(request_of, recorder, options, message):
    with pytest.raises(UsageError, match=message):
        run_in_memory(request_of(**options), recorder())


def test_a_loss_of_a_whole_batch_has_no_standard_error_to_wait_for():
    loss = Loss(name="none", output="loss", per_batch=True)
    check_growth(None, loss)
    with pytest.raises(UsageError, match=r"a loss for each sample.*give a number of samples"):
        check_growth(Growth(0.1), loss)
