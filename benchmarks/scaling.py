"""How the time grows: with points, samples, the size of the model, threads.

Each line is one setting: bare forward passes and the evaluation loop in turns, block by block,
and what start-up and self-test take. For the number of points, the whole run is timed as well.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --curves threads --models resnet56_cifar10.onnx

The models of the curve `size` are made here, with random weights: convolutional networks of
growing width, where computing is most of the work, and perceptrons, where moving weights is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from common.machine import add_out_option, describe, keep, resident_mib, rounded
from common.subject import BarePasses, evaluate_points, make_subject
from onnx import helper, numpy_helper

from onnxscape.core.grid import Grid
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_to_file
from onnxscape.runtime.devices import find_device, usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = Path(__file__).resolve().parents[1] / "models"

CONV_WIDTHS = (16, 32, 64, 128)
DENSE_WIDTHS = (256, 1024, 4096)


def main() -> None:
    """Measure the curves asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = MODELS / "resnet20_cifar10.onnx"
    parser.add_argument("--curves", default="points,samples,size,threads")
    parser.add_argument("--models", type=Path, nargs="+", default=[known])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--block", type=int, default=4, help="points per interleaved block")
    parser.add_argument("--quick", action="store_true", help="the first settings of each only")
    add_out_option(parser, "scaling")
    options = parser.parse_args()

    device = find_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        for curve in options.curves.split(","):
            machine = describe(device.name, options.threads or usable_cores())
            settings = list(_settings(curve, options, Path(folder)))
            print(f"\n{curve}\n{'':<34}{'bare ms':>9}{'loop ms':>9}{'ratio':>7}{'start s':>9}")
            lines = []
            for name, value, request in settings[: 2 if options.quick else None]:
                line = {"name": name, "value": value} | _measure(request, options)
                if curve == "points":
                    line |= _whole(request)
                lines.append(line)
                more = f"  whole {line['whole_seconds']} s" if curve == "points" else ""
                print(
                    f"{name:<34}{line['bare_ms']:>9.1f}{line['loop_ms']:>9.1f}"
                    f"{line['over_bare']:>7.3f}{line['start_seconds']:>9.2f}{more}",
                    flush=True,
                )
            keep(options.out, machine | {"kind": device.kind, "curve": curve, "lines": lines})


def _settings(
    curve: str, options: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, int, EvalRequest]]:
    """Yield the settings of a curve: name, abscissa, request."""
    for model in options.models:
        request = EvalRequest(
            model=model,
            data=options.data,
            grid=Grid.parse("5x5"),
            samples=options.samples,
            threads=options.threads,
            device=options.device,
        )
        stem = model.stem
        if curve == "points":
            for n in (3, 5, 9, 15):
                grid = Grid.parse(f"{n}x{n}")
                small = replace(request, grid=grid, samples=min(options.samples, 200))
                yield f"{stem}, {n * n} points", n * n, small
        elif curve == "samples":
            for count in (125, 250, 500, 1000, 2000, 4000):
                yield f"{stem}, {count} samples", count, replace(request, samples=count)
        elif curve == "threads":
            most = options.threads or usable_cores()
            for threads in sorted({2**i for i in range(most.bit_length())} | {most}):
                if threads <= most:
                    yield (
                        f"{stem}, threads: {threads}",
                        threads,
                        replace(request, threads=threads),
                    )
    if curve == "size":
        noise = np.random.default_rng(0)
        data = (
            noise.normal(size=(256, 3, 32, 32)).astype(np.float32),
            noise.integers(0, 10, 256),
        )
        base = replace(request, data=data, samples="all", loss="cross-entropy")
        made = [("convolutions", width) for width in CONV_WIDTHS]
        made += [("perceptron", width) for width in DENSE_WIDTHS]
        for kind, width in made:
            path = folder / f"{kind}_{width}.onnx"
            size = _make_model(path, width, convolutional=kind == "convolutions")
            yield f"{kind}, {size / 1e6:.2f} M weights", size, replace(base, model=path)


def _measure(request: EvalRequest, options: argparse.Namespace) -> dict[str, Any]:
    """Time bare passes and the loop in turns.

    Returns:
        Times and settings.
    """
    subject = make_subject(request)
    bare = BarePasses(subject)
    noise = np.random.default_rng(1)
    points = [tuple(map(float, p)) for p in noise.uniform(-1, 1, (options.block, 2))]
    evaluate_points(subject.engine, points[:1])
    bare_seconds = loop_seconds = 0.0
    for _ in range(options.blocks):
        begin = time.perf_counter()
        bare.run(len(points))
        middle = time.perf_counter()
        evaluate_points(subject.engine, points)
        loop_seconds += time.perf_counter() - middle
        bare_seconds += middle - begin
    count = options.blocks * len(points)
    return {
        "samples": len(subject.inputs.samples),
        "threads": subject.threads,
        "batch": subject.engine.plan.batch,
        "bare_ms": rounded(1e3 * bare_seconds / count),
        "loop_ms": rounded(1e3 * loop_seconds / count),
        "over_bare": rounded(loop_seconds / bare_seconds),
        "start_seconds": rounded(subject.start_seconds),
        "resident_mib": rounded(resident_mib()),
    }


def _whole(request: EvalRequest) -> dict[str, float]:
    """Time a whole run into a file, without pictures.

    Returns:
        Its seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        run_to_file(request, OutputOptions(path=Path(folder) / "surface.h5"), QuietObserver())
        return {"whole_seconds": rounded(time.perf_counter() - begin)}


def _make_model(path: Path, width: int, *, convolutional: bool) -> int:
    """Write a network for images of 32 x 32 with random weights.

    Returns:
        The number of its weights.
    """
    noise = np.random.default_rng(width)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(op: str, name: str, *inputs: str, shape: tuple[int, ...] = (), **more: Any) -> str:
        names = list(inputs)
        if shape:
            values = noise.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
            weights.append(
                numpy_helper.from_array(values.astype(np.float32), f"{name}.weight")
            )
            names.append(f"{name}.weight")
        nodes.append(helper.make_node(op, names, [name], **more))
        return name

    if convolutional:
        out, before = "input", 3
        for i, (channels, stride) in enumerate(
            ((width, 1), (width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2))
        ):
            shape = (channels, before, 3, 3)
            sizes = {"strides": [stride, stride], "pads": [1, 1, 1, 1]}
            out = add("Relu", f"relu{i}", add("Conv", f"conv{i}", out, shape=shape, **sizes))
            before = channels
        out = add("Flatten", "flat", add("GlobalAveragePool", "pool", out))
    else:
        out, before = add("Flatten", "flat", "input"), 3072
        for i in range(2):
            hidden = add("Gemm", f"dense{i}", out, shape=(width, before), transB=1)
            out, before = add("Relu", f"relu{i}", hidden), width
    add("Gemm", "logits", out, shape=(10, before), transB=1)
    graph = helper.make_graph(
        nodes,
        "scaling",
        [helper.make_tensor_value_info("input", 1, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", 1, ["batch", 10])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return sum(int(np.prod(w.dims)) for w in weights)


if __name__ == "__main__":
    main()
