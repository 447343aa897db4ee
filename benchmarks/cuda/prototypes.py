"""Sections that time the prototypes against the bare forward passes, interleaved."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from common.watch import Watch
from engines import (
    CAPTURABLE,
    Accumulating,
    Bare,
    ConstantSession,
    Engine,
    InGraph,
    Product,
    Resident,
    Run,
)
from measuring import (
    POINTS,
    Case,
    Place,
    Results,
    Setting,
    deviation,
    make_case,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Makers = dict[str, Callable[[Case, Place, int], Engine]]

ROUNDS = 5

UNCAPTURED: Makers = {
    "bare": Bare,
    "today": Product,
    "product, resident": lambda *a: Product(*a, "resident"),
    "product, in graph": lambda *a: Product(*a, "in-graph"),
    "product, shared": lambda *a: Product(*a, "shared"),
    "resident": Resident,
    "in graph": InGraph,
    "accumulating": Accumulating,
    "resident, waiting": lambda *a: Resident(*a, wait=True),
    "resident, exhaustive": lambda *a: Resident(*a, {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    "bare, exhaustive": lambda *a: Bare(*a, {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    "constant session": ConstantSession,
}

CAPTURED: Makers = {
    "bare": Bare,
    "resident": Resident,
    "resident, unfused": lambda *a: Resident(*a, disabled=CAPTURABLE),
    "captured": lambda *a: Resident(*a, disabled=CAPTURABLE, captured=True),
    "product, captured": lambda *a: Product(*a, "captured"),
    "captured, in graph": lambda *a: InGraph(*a, disabled=CAPTURABLE, captured=True),
    "captured, waiting": lambda *a: Resident(
        *a, disabled=CAPTURABLE, captured=True, wait=True
    ),
    "captured, fused": lambda *a: Resident(*a, captured=True),
}

SIZES = (
    ("resnet56_cifar10", 10240, 2048),
    ("resnet20_cifar10", 10240, 2048),
    ("digits_cnn", 1792, 1792),
    ("resnet56_cifar10", 1024, 128),
)
CORNERS = ((0.0, 0.0), (1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0))
"""Where the loss of each precision is compared with float32's."""

QUICK = (("resnet20_cifar10", 64, 32), ("digits_cnn", 256, 256))
"""Model, samples, batch."""


def engines(setting: Setting, results: Results) -> None:
    """Time the prototypes that need no CUDA graph."""
    for size in QUICK if setting.quick else SIZES:
        _compare(setting, results, UNCAPTURED, *size)


def capture(setting: Setting, results: Results) -> None:
    """Time those that do, in a section of its own: a failed capture may spoil the rest."""
    for size in QUICK if setting.quick else (SIZES[2], SIZES[3], SIZES[0]):
        _compare(setting, results, CAPTURED, *size)


def _compare(
    setting: Setting, results: Results, makers: Makers, name: str, samples: int, batch: int
) -> None:
    if setting.left() < 5:
        results.add(name, skipped="no time left")
        return
    case = make_case(setting, name, samples)
    reference = case.reference()
    place = Place(setting.device)
    label = f"{name} {samples}/{batch}"
    made: dict[str, Engine] = {}
    for kind, make in makers.items():
        if setting.only and kind not in setting.only:
            continue
        with results.attempt(f"{label}: {kind}"):
            start = time.perf_counter()
            engine = make(case, place, batch)
            engine.point(0.0, 0.0)
            opening = time.perf_counter() - start
            results.add(
                f"{label}: {kind}", first_point_s=opening, **_deviations(engine, reference)
            )
            made[kind] = engine
    _race(results, made, label)
    resident = made.get("resident")
    if isinstance(resident, Resident):
        parts = {part: 1e3 * seconds(run) for part, run in resident.parts().items()}
        parts |= _host_parts(case, place)
        results.add(f"{label}: parts of a point, ms", **parts)
    constant = made.get("constant session")
    if isinstance(constant, ConstantSession):
        results.add(f"{label}: constant session", opening_ms=1e3 * constant.opening)


def _host_parts(case: Case, place: Place) -> dict[str, float]:
    """Return what moving weights costs, in ms, when the host computes them."""
    moved = [w.at(0.5, 0.5) for w in case.weights]
    buffers = [place.buffer(values) for values in moved]

    def upload() -> None:
        for buffer, values in zip(buffers, moved, strict=True):
            buffer.update_inplace(values)

    return {
        "host_weights": 1e3 * seconds(lambda: [w.at(0.5, 0.5) for w in case.weights]),
        "host_upload": 1e3 * seconds(upload),
    }


def _deviations(
    engine: Engine, reference: dict[tuple[float, float], np.ndarray]
) -> dict[str, float]:
    """Return how far an engine is from the CPU; what has only sums is shown by its sums."""
    found: dict[str, float] = {}
    for point, expected in reference.items():
        losses = engine.point(*point)
        if losses is None:
            return {}
        if len(losses) >= len(expected):
            worst = deviation(losses[: len(expected)], expected)
            found["deviation"] = max(worst, found.get("deviation", 0.0))
            found[f"mean_loss{point}"] = float(losses.mean())
        else:
            found[f"sum_or_mean{point}"] = float(losses[0])
    again = engine.point(*POINTS[1])
    found["changed_when_repeated"] = float(np.max(np.abs(again - engine.point(*POINTS[1]))))
    return found


def _race(results: Results, made: dict[str, Engine], label: str) -> None:
    """Time all in turns, so that a drifting clock treats them alike."""
    times: dict[str, list[float]] = {kind: [] for kind in made}
    for i in range(ROUNDS + 1):
        for kind, engine in list(made.items()):
            if kind == "constant session" and i > 2:
                continue
            start = time.perf_counter()
            engine.point(0.1 * i, -0.05 * i)
            if i:
                times[kind].append(time.perf_counter() - start)
    medians = {kind: statistics.median(values) for kind, values in times.items() if values}
    for kind, median in medians.items():
        ratio = median / medians["bare"] if "bare" in medians else float("nan")
        spread = (max(times[kind]) - min(times[kind])) / median
        results.add(f"{label}: {kind}", ms=1e3 * median, over_bare=ratio, spread=spread)


def whole(setting: Setting, results: Results) -> None:
    """Evaluate the ResNets on 50 000 images for a while in each precision, as a run does."""
    samples = 64 if setting.quick else 50000
    for name in (
        ("resnet20_cifar10",) if setting.quick else ("resnet56_cifar10", "resnet20_cifar10")
    ):
        case = make_case(setting, name, samples)
        precisions = ("fp32",) if setting.device == "cpu" else ("fp32", "tf32", "fp16", "bf16")
        ways = [(p, "resident") for p in precisions] + [("fp32", "captured")]
        batch = samples
        for precision, strategy in ways:
            title = f"{name} {samples}: {precision}, {strategy}"
            with results.attempt(title):
                engine = Run(case, setting.model(name), setting.device, precision, strategy)
                batch = engine.batch
                _watched(setting, results, title, engine, batch=batch)
                del engine
        title = f"{name} {samples}: bare"
        with results.attempt(title):
            full = np.arange(-(-samples // batch) * batch) % samples
            same = replace(case, x=case.x[full], y=case.y[full])
            bare = Bare(same, Place(setting.device), batch)
            _watched(setting, results, title, bare, batch=batch)
            del bare


def _watched(
    setting: Setting, results: Results, title: str, engine: Engine, **more: int
) -> None:
    """Time points for a few seconds and watch the device meanwhile."""
    engine.point(0.0, 0.0)
    watch = Watch(setting.device)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 2 and not setting.quick):
        start = time.perf_counter()
        engine.point(0.01 * len(times), 0.0)
        times.append(time.perf_counter() - start)
    seen = watch.stop()
    found = [engine.point(*at) for at in CORNERS]
    losses = [float(np.mean(values)) for values in found if values is not None]
    point = statistics.median(times)
    results.add(
        title,
        s_per_point=point,
        points=len(times),
        losses=losses,
        extrapolated_51x51_min=point * 2601 / 60,
        **more,
        **seen,
    )
