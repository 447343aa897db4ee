"""One model: who takes part, the contest, the whole process, and how far all agree."""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common.machine import describe, keep, rounded
from common.subject import BarePasses, Subject, evaluate_points, make_subject
from contest import Contestant, Row, compared, key, race, ratios
from packages import (
    landscaper_plane,
    landscaper_steps,
    loss_landscapes_plane,
    random_plane_setup,
)
from process import compare_process
from torch_loops import BATCH, Mode, ReferenceLoop, Task
from twin import deviation, make_twin

from onnxscape.core.direction import Direction
from onnxscape.core.grid import Grid
from onnxscape.evaluation.directions import write_directions
from onnxscape.evaluation.request import EvalRequest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    Points = Sequence[tuple[float, float]]
    Entry = tuple[str, int, Callable[[], Contestant]]

LIMIT = "ONNX Runtime, bare passes"
OURS = "onnxscape"
DISTANCE = 0.1
"""How far Landscaper goes; the work is the same at any distance."""


class Bare:
    """The limit, as a contestant.

    Args:
        passes: The passes.
    """

    def __init__(self, passes: BarePasses) -> None:
        self._passes = passes

    def advance(self, points: Points) -> list[float]:
        """Run all samples through once per point.

        Args:
            points: How often.

        Returns:
            Nothing: the weights stay where they are.
        """
        self._passes.run(len(points))
        return []

    def path(self, points: Points) -> None:
        """Return None: it is at the center only.

        Args:
            points: Not looked at.
        """

    def close(self) -> None:
        """Nothing is held."""


class Ours:
    """Our evaluation loop, as a contestant.

    Args:
        subject: The engine.
    """

    def __init__(self, subject: Subject) -> None:
        self._engine = subject.engine
        evaluate_points(self._engine, [(0.0, 0.0)])

    def advance(self, points: Points) -> list[float]:
        """Evaluate points.

        Args:
            points: The points.

        Returns:
            The mean losses.
        """
        return evaluate_points(self._engine, points)

    def path(self, points: Points) -> Points:
        """Return the points.

        Args:
            points: The points.
        """
        return points

    def close(self) -> None:
        """Nothing is held."""


def measure(model: Path, options: argparse.Namespace) -> None:
    """Measure one model, print the table, and keep it.

    Args:
        model: Path of the model.
        options: Of the command.
    """
    request = EvalRequest(
        model=model,
        data=options.data,
        grid=Grid.parse(f"{options.steps}x{options.steps}"),
        samples=options.samples,
        threads=options.threads,
        device=options.device,
    )
    subject = make_subject(request)
    torch.set_num_threads(subject.threads)
    task = _task(subject)
    inputs = subject.inputs
    machine = describe(
        subject.engine.device.name, subject.threads, "torch", "loss-landscapes", "Landscaper"
    )
    print(
        f"{model.name}, {len(inputs.samples)} samples, {machine['device']}, {subject.device}"
    )
    twin = deviation(task.network, inputs.file.content, task.x)
    print(f"torch's twin: outputs within {twin:.1e} of ONNX Runtime's")

    points = [(p.alpha, p.beta) for p in request.grid.points()]
    rows, contestants = _open(_entries(subject, task, options), options.only)
    race(contestants, rows, points, options.block, subject.device)
    table = ratios(rows, LIMIT, len(points))
    expected = {key(p): loss for p, loss in zip(points, rows[OURS].losses, strict=True)}
    for record in table:
        name = str(record["name"])
        if name in contestants and name != OURS:
            worst = compared(rows[name], contestants[name].path(points), expected)
            if name == "Landscaper" and not rows[name].error:
                worst = _landscaper_deviation(subject, task)
            record["deviation"] = None if math.isnan(worst) else rounded(worst, 2)
    for contestant in contestants.values():
        contestant.close()
    result: dict[str, Any] = {
        "model": model.name,
        "kind": subject.device,
        "samples": len(inputs.samples),
        "points": len(points),
        "block": options.block,
        "start_seconds": rounded(subject.start_seconds),
        "twin_deviation": rounded(twin, 2),
        "rows": table,
        "setup_seconds": _setup(contestants, task),
    }
    if options.processes:
        result["process"] = compare_process(
            BarePasses(subject),
            model=model,
            data=options.data,
            samples=options.samples,
            steps=options.steps,
            threads=subject.threads,
            device=subject.device,
            repeats=options.processes,
        )
    _print(result)
    keep(options.out, machine | result)


def _task(subject: Subject) -> Task:
    """Return what contestants that use torch get: our samples and our directions."""
    inputs = subject.inputs
    assert inputs.delta is not None
    assert inputs.eta is not None
    assert inputs.samples.labels is not None
    (x,) = inputs.samples.inputs.values()
    return Task(
        network=make_twin(inputs.file.content),
        delta=dict(inputs.delta.tensors),
        eta=dict(inputs.eta.tensors),
        x=x,
        y=inputs.samples.labels,
        device=subject.device,
    )


def _entries(subject: Subject, task: Task, options: argparse.Namespace) -> dict[str, Entry]:
    """Return who takes part: name to note, batch, and how to make it."""
    batch, threads, steps = subject.engine.plan.batch, subject.threads, options.steps
    entries: dict[str, Entry] = {
        LIMIT: ("constant weights", batch, lambda: Bare(BarePasses(subject))),
        OURS: ("", batch, lambda: Ours(subject)),
    }
    if subject.device == "cpu" and threads > 1:
        entries[f"{LIMIT}, {threads} at once"] = (
            "a session with one thread each",
            batch,
            lambda: Bare(BarePasses(subject, workers=threads)),
        )
    modes = {"torch eager": Mode(), "torch eager, channels_last": Mode(channels_last=True)}
    if subject.device == "cuda":
        modes = {
            f"{name}{', TF32' if tf32 else ''}": replace(mode, tf32=tf32)
            for tf32 in (False, True)
            for name, mode in {
                "torch eager": Mode(),
                "torch eager, our batch": Mode(batch),
                "torch eager, channels_last, our batch": Mode(batch, channels_last=True),
                "torch.compile, our batch": Mode(batch, compiled=True),
                "torch CUDA graph, our batch": Mode(batch, captured=True),
            }.items()
        }
    for name, mode in modes.items():
        entries[name] = (
            "the reference's loop",
            mode.batch,
            lambda mode=mode: ReferenceLoop(task, mode),
        )
    own = "a metric that goes through batches"
    entries["loss-landscapes"] = (
        own,
        BATCH,
        lambda: loss_landscapes_plane(task, steps, at_once=False),
    )
    entries["loss-landscapes, metric Loss"] = (
        "as documented: all samples at once",
        len(task.x),
        lambda: loss_landscapes_plane(task, steps, at_once=True),
    )
    entries["Landscaper"] = (own, BATCH, lambda: landscaper_plane(task, steps, DISTANCE))
    return entries


def _open(
    entries: dict[str, Entry], only: str | None
) -> tuple[dict[str, Row], dict[str, Contestant]]:
    """Make the contestants.

    Returns:
        The rows, with the reason in those of whom could not be made; and the others.
    """
    wanted = None if only is None else (LIMIT, *only.split(","))
    rows: dict[str, Row] = {}
    contestants: dict[str, Contestant] = {}
    for name, (note, batch, make) in entries.items():
        if wanted is not None and name != OURS and not _is_wanted(name, wanted, entries):
            continue
        rows[name] = Row(name, note, batch)
        try:
            contestants[name] = make()
        except Exception as error:
            if name in {LIMIT, OURS}:
                raise
            rows[name].error = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"  {name}: {rows[name].error}")
    return rows, contestants


def _is_wanted(name: str, wanted: tuple[str, ...], entries: dict[str, Entry]) -> bool:
    """Return whether a name is wanted, or begins with something wanted that is no name."""
    return any(name == w or (w not in entries and name.startswith(w)) for w in wanted)


def _setup(contestants: dict[str, Contestant], task: Task) -> dict[str, Any]:
    """Return what the packages take before their first point; it is in no ratio."""
    found: dict[str, Any] = {
        name: rounded(contestant.setup_seconds)
        for name, contestant in contestants.items()
        if hasattr(contestant, "setup_seconds")
    }
    if "loss-landscapes" in contestants:
        try:
            found["loss-landscapes, random_plane"] = rounded(random_plane_setup(task))
        except RuntimeError as error:  # it draws its directions on the CPU
            found["loss-landscapes, random_plane"] = " ".join(str(error).split())[:200]
    return found


def _landscaper_deviation(subject: Subject, task: Task) -> float:
    """Compare Landscaper with us on nine points along its own scaled directions.

    Returns:
        The largest relative difference.
    """
    steps = 3
    parameters = subject.inputs.parameters
    delta, eta = landscaper_steps(task, steps, DISTANCE)
    small = replace(task, x=task.x[:128], y=task.y[:128])
    plane = landscaper_plane(small, steps, DISTANCE)
    losses = plane.advance([(0.0, 0.0)] * steps**2)
    plane.close()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its norms are unlike the weights'
        path = Path(folder) / "directions.h5"
        write_directions(path, parameters, Direction(delta), Direction(eta))
        request = replace(
            subject.inputs.request,
            data=(small.x, small.y),
            samples="all",
            directions=path,
            grid=Grid.parse("3x3"),
        )
        engine = make_subject(request).engine
        ours = evaluate_points(
            engine, [(i - 1.0, j - 1.0) for i in range(3) for j in range(3)]
        )
    return max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(ours, losses, strict=True))


def _print(result: dict[str, Any]) -> None:
    print(f"\n{'':<44}{'ms/point':>10}{'ratio':>8}   {'blocks':<20}deviation")
    for row in result["rows"]:
        if "error" in row:
            print(f"{row['name']:<44}{row['error']}")
            continue
        blocks = "/".join(f"{ratio:.3f}" for ratio in row["over_bare_blocks"])
        shown = "" if row.get("deviation") is None else f"{row['deviation']:.1e}"
        print(
            f"{row['name']:<44}{row['ms_per_point']:>10.1f}{row['over_bare']:>8.3f}"
            f"   {blocks:<20}{shown}"
        )
    for name in ("setup_seconds", "process"):
        print(f"{name}: {result.get(name)}")
