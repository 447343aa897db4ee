"""What a run says of itself: the outline before it, the report after it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import CLAMPED
from onnxscape.core.parameter import TRAINABLE
from onnxscape.core.two_level import TwoLevels
from onnxscape.data.dataset import SAMPLE_WEIGHT
from onnxscape.data.layout import AS_IS
from onnxscape.evaluation.observer import Outline
from onnxscape.runtime.devices import HEADS_APART
from onnxscape.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.landscape import Landscape
    from onnxscape.core.samples import Samples
    from onnxscape.core.spec import EvalSpec
    from onnxscape.evaluation.assembly import Results
    from onnxscape.evaluation.engine import Engine
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.observer import Observer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """What a run did.

    Attributes:
        landscape: The result.
        computed: Number of points evaluated now.
        reused: Number of points that were there already.
        seconds: Time by phase: `start`, `self_test`, `evaluation`.
    """

    landscape: Landscape
    computed: int
    reused: int
    seconds: Mapping[str, float]


class EvaluationInterrupted(KeyboardInterrupt):
    """The user interrupted a run; what was evaluated is kept."""

    def __init__(self, report: Report) -> None:
        """Carry what there is.

        Args:
            report: The run so far; its landscape is incomplete.
        """
        super().__init__("interrupted")
        self.report = report


def point_count(inputs: EvalInputs) -> int:
    """Return the number of points of a run: the grid's, and the center if it is not on it.

    Args:
        inputs: What is evaluated.

    Returns:
        The number.
    """
    grid = inputs.spec.grid
    return grid.size + (grid.center().row < 0)


def evaluated_points(landscape: Landscape) -> int:
    """Return how many points were evaluated, a center off the grid included.

    Args:
        landscape: Finished or not.
    """
    apart = landscape.grid.center().row < 0 and bool(landscape.center)
    used = landscape.surfaces.get("samples_used")  # of two levels on a few samples, or on all
    done = landscape.evaluated if used is None else used > 0
    return int(np.count_nonzero(done)) + apart


def warn_of_clamping(landscape: Landscape, samples: int, observer: Observer) -> None:
    """Say if the surface of a logarithm of probabilities is flattened where they are 0.

    Args:
        landscape: The result.
        samples: Number of samples.
        observer: Told of it.
    """
    counts = landscape.surfaces.get(CLAMPED)
    if counts is None:
        return
    known = counts[landscape.evaluated]
    touched = int((known > 0).sum())
    if not touched:
        return
    share = 100.0 * float(known.max()) / samples
    observer.warning(
        f"{touched} of {known.size} point{'s' if known.size > 1 else ''} "
        f"{'has' if touched == 1 else 'have'} samples of probability 0 (up to {share:.3g} "
        "% of them), taken as 1e-45: the surface is flattened there; evaluate the logits "
        "instead (export the model without its last operator)"
    )


def provenance(inputs: EvalInputs, engine: Engine | None) -> dict[str, Any]:
    """Return where a landscape comes from, for people.

    Args:
        inputs: What is evaluated.
        engine: What evaluates it; None if it did not start.

    Returns:
        Plain JSON values.
    """
    origin: dict[str, Any] = {
        "model": inputs.file.name,
        "data": inputs.samples.name,
        "split": inputs.request.split,
        "samples": len(inputs.samples),
        "onnxscape": __version__,
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if engine is not None:
        origin |= {"device": str(engine.device), "threads": engine.threads}
    return origin


def outline(inputs: EvalInputs, engine: Engine, results: Results) -> Outline:
    """Describe a run before it starts.

    Args:
        inputs: What is evaluated.
        engine: What evaluates it.
        results: The points that are there already.

    Returns:
        The outline.
    """
    moved = [p for p in inputs.parameters if p.name in inputs.moved]
    staying = [p for p in inputs.parameters if p.role in TRAINABLE and p not in moved]
    losses = [m["loss"] for key, m in results.items() if min(key) >= 0]
    losses = [loss for loss in losses if math.isfinite(loss)]
    request, plan, device = inputs.request, engine.plan, engine.device
    if request.directions is not None:
        directions = f"from {request.directions}"
    else:
        orthogonal = ", orthogonal" if request.orthogonal else ""
        directions = (
            f"random, seed {request.seed}, normalize {request.normalization}{orthogonal}"
        )
    threads = f", {engine.calibration.chosen.sharing}" if device.kind != "cuda" else ""
    provider = f", {device.provider}" if device.kind in HEADS_APART else ""
    precision = f", {request.precision}" if request.precision != "fp32" else ""
    folded = ", BatchNormalization folded" if plan.folded else ""
    two_level, share = _two_level(inputs.spec)
    return Outline(
        model=inputs.file.name,
        moved=len(moved),
        elements=sum(p.values.size for p in moved),
        others=len(staying),
        directions=directions,
        loss=inputs.objective.text,
        data=_data(inputs.samples),
        samples=len(inputs.samples),
        population=inputs.samples.population,
        points=point_count(inputs),
        at_most=inputs.spec.tolerance is not None,
        growing=inputs.spec.stderr is not None,
        two_level=two_level,
        reused=len(results),
        center_apart=inputs.spec.grid.center().row < 0,
        known=(min(losses), max(losses)) if losses else None,
        device=f"{device.name}{provider}{precision}{threads}",
        strategy=f"{plan.strategy} weights, batches of {plan.batch}{folded}",
        seconds_per_point=engine.seconds_per_point * share,
        calibration=tuple(engine.calibration.table()),
    )


def _two_level(spec: EvalSpec) -> tuple[tuple[int, int] | None, float]:
    """Return how many points take all samples, how many samples the others take, and a share.

    Returns:
        Both numbers, None where all points are alike; and the samples that are evaluated, as a
        share of what all points on all samples take.
    """
    if spec.two_level is None:
        return None, 1.0
    whole = int(TwoLevels.of(spec.grid).whole.sum())
    few = spec.grid.size - whole
    share = (whole + few * spec.two_level / spec.samples) / spec.grid.size
    return (whole, spec.two_level), share


def _data(samples: Samples) -> str:
    """Return name, preprocessing and weights of the data, for people."""
    weighted = "" if samples.weights is None else f", weighted by {SAMPLE_WEIGHT}"
    return f"{samples.name}: {_preprocessing(samples)}{weighted}"


def _preprocessing(samples: Samples) -> str:
    """Return what is done to each input, for people."""
    steps: Mapping[str, Any] = samples.preprocessing
    one = len(steps) + len(samples.constants) == 1
    texts = []
    for name, step in steps.items():
        layout = str(step.get("layout", AS_IS))
        done = [] if layout == AS_IS else [layout]
        if step.get("scale", 1.0) != 1.0:
            done.append(f"divided by {step['scale']:g}")
        done += [
            f"{key} {' '.join(f'{number:.4g}' for number in step[key])}"
            for key in ("mean", "std")
            if step.get(key) is not None
        ]
        text = ", ".join(done) or AS_IS
        texts.append(text if one else f"{name} {text}")
    texts += [f"{name} {value:g} for all" for name, value in samples.constants.items()]
    return "; ".join(texts) or AS_IS
