"""Where the time of a forward pass goes: batch sizes, CUDA options, weights, precisions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import graphs
from engines import Bare, Resident, Runs, cut, per_sample
from measuring import (
    CHECKED,
    FLOPS,
    Case,
    Place,
    Results,
    Setting,
    deviation,
    make_case,
    open_session,
    seconds,
)

if TYPE_CHECKING:
    import numpy as np

EXHAUSTIVE = {"cudnn_conv_algo_search": "EXHAUSTIVE"}
DEFAULT = {"cudnn_conv_algo_search": "DEFAULT"}
SMALL_WORKSPACE = {"cudnn_conv_use_max_workspace": "0"}
FUSED_BIAS = {"fuse_conv_bias": "1"}
NHWC = {"prefer_nhwc": "1"}
TF32 = {"use_tf32": "1"}

CONFIGURATIONS: tuple[tuple[str, str, dict[str, str], str | None], ...] = (
    ("heuristic", "overridable", {}, None),
    ("heuristic", "constant", {}, None),
    ("exhaustive", "overridable", EXHAUSTIVE, None),
    ("exhaustive", "constant", EXHAUSTIVE, None),
    ("heuristic, nhwc", "constant", NHWC, None),
    ("heuristic, nhwc", "overridable", NHWC, None),
    ("exhaustive, nhwc", "constant", EXHAUSTIVE | NHWC, None),
    ("heuristic, tf32", "overridable", TF32, None),
    ("heuristic, tf32", "constant", TF32, None),
    ("exhaustive, tf32, nhwc", "constant", EXHAUSTIVE | TF32 | NHWC, None),
    ("heuristic, tf32, nhwc", "overridable", TF32 | NHWC, None),
    ("heuristic", "constant", {}, "float16"),
    ("heuristic, nhwc", "constant", NHWC, "float16"),
    ("heuristic", "overridable", {}, "float16"),
    ("heuristic, nhwc", "overridable", NHWC, "float16"),
    ("heuristic, fused bias", "overridable", FUSED_BIAS, None),
    ("heuristic, fused bias", "constant", FUSED_BIAS, None),
    ("heuristic, small workspace", "overridable", SMALL_WORKSPACE, None),
    ("heuristic, nhwc", "constant", NHWC, "bfloat16"),
    ("default", "overridable", DEFAULT, None),
)
"""What is said of it, kind of weights, CUDA options, narrow type."""

BATCHES = (256, 512, 1024, 4096, 8192)


def forward(setting: Setting, results: Results) -> None:
    """Time forward passes of ResNet-56 under one change at a time."""
    place = Place(setting.device)
    name, samples, batch = (
        ("resnet20_cifar10", 64, 32) if setting.quick else ("resnet56_cifar10", 8192, 2048)
    )
    case = make_case(setting, name, max(samples, CHECKED))
    expected = case.reference()[0.0, 0.0]
    configurations = CONFIGURATIONS[:: 4 if setting.quick else 1]
    for label, weights, options, narrow in (*configurations, CONFIGURATIONS[0]):
        title = f"{batch} {weights}, {label}" + (f", {narrow}" if narrow else "")
        if setting.left() < 8:
            results.add(title, skipped="no time left")
            continue
        with results.attempt(title):
            _time(results, title, case, place, batch, expected, (weights, options, narrow))
    for size in () if setting.quick else BATCHES:
        title = f"{size} overridable, heuristic"
        if setting.left() > 5:
            with results.attempt(title):
                choice = ("overridable", {}, None)
                _time(results, title, case, place, size, expected, choice)


def _time(
    results: Results,
    title: str,
    case: Case,
    place: Place,
    batch: int,
    expected: np.ndarray,
    choice: tuple[str, dict[str, str], str | None],
) -> None:
    weights, options, narrow = choice
    start = time.perf_counter()
    shared = {}
    if weights == "overridable":
        model = graphs.overridable(case, batch)
        shared = {w.tensor: place.buffer(w.theta) for w in case.weights}
    else:
        model = graphs.fixed(
            graphs.onnx.load_from_string(case.prepared.proto.SerializeToString()),
            case.input,
            batch,
        )
    if narrow:
        graphs.narrowed(model, narrow)
    session = open_session(model.SerializeToString(), place, options)
    runs = Runs(session, place, cut(case, place, batch), shared, per_sample(case, batch))
    runs.run()
    opening = time.perf_counter() - start
    runs.run()
    point = seconds(runs.run)
    losses = runs.read(case.loss).ravel()[:CHECKED]
    rate = len(case.x) / point
    results.add(
        title,
        us_per_image=1e6 / rate,
        tflops=rate * FLOPS[case.name.split("_")[0]] / 1e12,
        opening_s=opening,
        deviation=deviation(losses, expected),
        loss_off=float(losses.mean() / expected.mean() - 1),
    )


def placement(setting: Setting, results: Results) -> None:
    """Say which nodes run where, and whether anything is copied between devices."""
    import collections
    import json
    from pathlib import Path

    import onnxruntime as ort

    place = Place(setting.device)
    for name in ("resnet20_cifar10", "digits_cnn"):
        with results.attempt(name):
            case = make_case(setting, name, 64)
            settings = ort.SessionOptions()
            settings.enable_profiling = True
            settings.profile_file_prefix = str(setting.out / "profile")
            model = graphs.overridable(case, 64).SerializeToString()
            session = open_session(model, place, session_options=settings)
            shared = {w.tensor: place.buffer(w.theta) for w in case.weights}
            Runs(session, place, cut(case, place, 64), shared, per_sample(case, 64)).run()
            path = Path(session.end_profiling())
            events = json.loads(path.read_text())
            path.unlink()
            counts = collections.Counter(
                (e["args"].get("provider"), e["args"].get("op_name"))
                for e in events
                if e.get("cat") == "Node" and "provider" in e.get("args", {})
            )
            by_provider: dict[str, dict[str, int]] = {}
            for (provider, op), count in sorted(counts.items()):
                by_provider.setdefault(str(provider), {})[str(op)] = count
            for provider, ops in by_provider.items():
                results.add(f"{name}: {provider}", nodes=sum(ops.values()), ops=ops)


def small_batches(setting: Setting, results: Results) -> None:
    """Time bare passes of small batches: there launching costs more than computing."""
    place = Place(setting.device)
    for name in ("digits_cnn", "resnet20_cifar10"):
        for batch in (32, 256):
            with results.attempt(f"{name} {batch}"):
                case = make_case(setting, name, 256)
                bare, ours = Bare(case, place, batch), Resident(case, place, batch)
                for engine in (bare, ours):
                    engine.point(0.0, 0.0)
                runs = 256 // batch
                results.add(
                    f"{name} {batch}",
                    bare_us_per_run=1e6 * seconds(lambda b=bare: b.point(0.0, 0.0)) / runs,
                    resident_us_per_run=1e6 * seconds(lambda o=ours: o.point(0.1, 0.0)) / runs,
                )
