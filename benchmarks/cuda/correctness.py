"""Sections that ask whether CUDA computes what the CPU computes."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from measuring import MODELS, Place, Results, Setting, cifar, digits, open_session
from onnx import TensorProto, helper, numpy_helper

import onnxscape as ox
from onnxscape.errors import OnnxscapeError
from onnxscape.runtime.devices import find_device

if TYPE_CHECKING:
    from onnxscape.core.landscape import Landscape

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "exporters"


def device(setting: Setting, results: Results) -> None:
    """Say what is there, and whether float32 is float32."""
    found = find_device("auto")
    results.add("find_device('auto')", device=str(found), called=found.name)
    results.add("versions", onnxruntime=ort.__version__, numpy=np.__version__, at=ort.__file__)
    if setting.device == "cuda":
        fields = "name,driver_version,memory.total,clocks.max.sm,power.limit"
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        results.add("nvidia-smi", says=answer.stdout.strip())
    for name, model, feeds, exact in (_convolution(), _product()):
        for tf32 in ("0", "1"):
            with results.attempt(f"{name}, use_tf32={tf32}"):
                options = {"use_tf32": tf32}
                ours = _run(model, feeds, Place(setting.device), options)
                error = np.linalg.norm(ours - exact) / np.linalg.norm(exact)
                results.add(f"{name}, use_tf32={tf32}", relative_error=float(error))
        with results.attempt(f"{name}, the product's options"):
            session = ort.InferenceSession(
                model.SerializeToString(),
                providers=find_device(setting.device).providers(),
            )
            narrow = {key: value.astype(np.float32) for key, value in feeds.items()}
            error = np.linalg.norm(session.run(None, narrow)[0] - exact)
            error /= np.linalg.norm(exact)
            results.add(f"{name}, the product's options", relative_error=float(error))


_Problem = tuple[str, onnx.ModelProto, dict[str, np.ndarray], np.ndarray]


def _convolution() -> _Problem:
    """Return a convolution and its result in float64, by numpy."""
    noise = np.random.default_rng(1)
    x = noise.normal(size=(16, 64, 32, 32)).astype(np.float32)
    w = noise.normal(size=(64, 64, 3, 3)).astype(np.float32)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    exact = np.zeros(x.shape)
    for i in range(3):
        for j in range(3):
            part = padded[:, :, i : i + 32, j : j + 32]
            exact += np.tensordot(part, w[:, :, i, j], (1, 1)).transpose(0, 3, 1, 2)
    feeds = {"x": x, "w": w}
    return "convolution", _model("Conv", feeds, np.float32, pads=[1, 1, 1, 1]), feeds, exact


def _product() -> _Problem:
    noise = np.random.default_rng(2)
    x, w = (noise.normal(size=(1024, 1024)).astype(np.float32) for _ in range(2))
    feeds = {"x": x, "w": w}
    exact = x.astype(np.float64) @ w.astype(np.float64)
    return "matrix product", _model("MatMul", feeds, np.float32), feeds, exact


def _model(
    op: str, feeds: dict[str, np.ndarray], kind: Any, **attributes: Any
) -> onnx.ModelProto:
    """Return a model of one node, its inputs of one type unless they are integers."""
    types = {
        name: np.dtype(kind) if array.dtype.kind == "f" else array.dtype
        for name, array in feeds.items()
    }
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(types[name]), array.shape
        )
        for name, array in feeds.items()
    ]
    outputs = attributes.pop("outputs", ["out"])
    node = helper.make_node(op, list(feeds), outputs, **attributes)
    values = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph([node], "graph", inputs, values)
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def _run(
    model: onnx.ModelProto,
    feeds: dict[str, np.ndarray],
    place: Place,
    options: dict[str, str],
) -> np.ndarray:
    session = open_session(model.SerializeToString(), place, options, threads=0)
    result: np.ndarray = session.run(None, feeds)[0].astype(np.float64)
    return result


def kernels(setting: Setting, results: Results) -> None:
    """Say which operators that losses are made of have kernels on the device."""
    noise = np.random.default_rng(3)
    x = noise.normal(size=(4, 6))
    x[1, 2], x[2, 0], x[3, 1] = np.nan, np.inf, -np.inf
    positive = np.abs(noise.normal(size=(4, 6))) + 0.1
    rows = np.array([[1], [0], [2], [5]])
    one, k = np.array([1]), np.array([2])
    unary = "Abs Exp Log Sqrt Neg Sign Sigmoid Softplus Tanh Erf Round Floor IsNaN IsInf Not"
    cases: list[tuple[str, dict[str, np.ndarray], dict[str, Any]]] = [
        (op, {"x": positive > 0.5 if op == "Not" else positive if op == "Log" else x}, {})
        for op in unary.split()
    ]
    binary = "Add Sub Mul Div Min Max Pow Equal Less Greater LessOrEqual"
    cases += [(op, {"x": positive, "y": positive[::-1].copy()}, {}) for op in binary.split()]
    cases += [
        (op, {"x": x, "axes": one}, {"keepdims": 1})
        for op in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceLogSumExp", "ReduceL2")
    ]
    cases += [
        ("LogSoftmax", {"x": x}, {"axis": 1}),
        ("Softmax", {"x": x}, {"axis": 1}),
        ("ReduceSum", {"x": x, "axes": one}, {"keepdims": 1}),
        ("ReduceSum", {"x": rows, "axes": one}, {"keepdims": 1}),
        ("GatherElements", {"x": x, "rows": rows}, {"axis": 1}),
        ("Gather", {"x": x, "rows": rows % 4}, {"axis": 0}),
        ("ScatterElements", {"x": x, "rows": rows, "new": positive[:, :1]}, {"axis": 1}),
        ("TopK", {"x": positive, "k": k}, {"axis": 1, "outputs": ["out", "where"]}),
        ("ArgMax", {"x": positive}, {"axis": 1}),
        ("Where", {"c": positive > 0.5, "x": x, "y": positive}, {}),
        ("Clip", {"x": positive, "l": np.array(0.5), "h": np.array(1.0)}, {}),
        ("Cast", {"x": positive}, {"to": TensorProto.BOOL}),
        ("Cast", {"x": positive}, {"to": TensorProto.FLOAT}),
        ("Cast", {"x": rows}, {"to": TensorProto.DOUBLE}),
        ("Equal", {"x": rows, "y": rows[::-1].copy()}, {}),
        ("And", {"x": positive > 0.5, "y": positive > 0.2}, {}),
        ("Or", {"x": positive > 0.5, "y": positive > 0.2}, {}),
        ("CumSum", {"x": positive, "axis": np.array(1)}, {}),
        ("Einsum", {"x": positive, "y": positive}, {"equation": "ij,ij->i"}),
        ("MatMul", {"x": positive, "y": positive.T.copy()}, {}),
        ("Gemm", {"x": positive, "y": positive.T.copy()}, {}),
        ("Transpose", {"x": positive}, {"perm": [1, 0]}),
        ("Trilu", {"x": positive}, {}),
        ("NonZero", {"x": positive}, {}),
        ("Flatten", {"x": positive}, {"axis": 1}),
        ("Concat", {"x": positive, "y": positive}, {"axis": 1}),
    ]
    absent: dict[str, list[str]] = {"float64": [], "float32": []}
    for op, feeds, attributes in cases:
        for kind in (np.float64, np.float32):
            title = f"{op} {np.dtype(kind)} {[a.dtype.kind for a in feeds.values()]}"
            verdict = _kernel(setting, op, feeds, kind, attributes)
            if verdict is not None:
                results.add(title, found=verdict)
                if "no kernel" in verdict:
                    absent[str(np.dtype(kind))].append(op)
    results.add("operators without a kernel", tried=len(cases), **absent)


def _kernel(
    setting: Setting,
    op: str,
    feeds: dict[str, np.ndarray],
    kind: Any,
    attributes: dict[str, Any],
) -> str | None:
    """Return what is wrong with an operator on the device; None if nothing is."""
    arrays = {n: a.astype(kind) if a.dtype.kind == "f" else a for n, a in feeds.items()}
    try:
        model = _model(op, feeds, kind, **dict(attributes)).SerializeToString()
        expected = open_session(model, Place("cpu")).run(None, arrays)
    except Exception as error:  # noqa: BLE001
        return f"not even on the CPU: {' '.join(str(error).split())[:150]}"
    try:
        session = open_session(model, Place(setting.device), only=True)
    except Exception as error:  # noqa: BLE001
        return f"no kernel: {' '.join(str(error).split())[:150]}"
    try:
        ours = session.run(None, arrays)
    except Exception as error:  # noqa: BLE001
        return f"fails: {' '.join(str(error).split())[:150]}"
    for mine, theirs in zip(ours, expected, strict=True):
        if not np.allclose(mine, theirs, rtol=1e-6, atol=1e-9, equal_nan=True):
            return f"differs: {mine.ravel()[:12]} from the CPU's {theirs.ravel()[:12]}"
    return None


def losses(setting: Setting, results: Results) -> None:
    """Compare the losses of one sample whose outputs are huge, infinite or not a number."""
    cases = {
        "ordinary": ([1.0, -2.0, 0.5], np.eye(3)),
        "large": ([3e4, -3e4, 1.0], np.eye(3)),
        "huge": ([3e38, -3e38, 1.0], np.eye(3)),
        "one inf": ([1e38, 1.0, 1.0], np.diag([100.0, 1.0, 1.0])),
        "one -inf": ([1e38, 1.0, 1.0], np.diag([-100.0, 1.0, 1.0])),
        "inf and -inf": ([1e38, 1e38, 1.0], np.diag([100.0, -100.0, 1.0])),
        "two infs": ([1e38, 1e38, 1.0], np.diag([100.0, 100.0, 1.0])),
        "nan": ([1e38, 1e38, 1.0], np.array([[100.0, 0, 0], [-100.0, 1, 0], [0, 0, 1.0]])),
    }
    for name, (x, weight) in cases.items():
        for label in range(3):
            with results.attempt(f"{name}, label {label}"):
                ours, expected = (
                    _center(np.array([x]), weight, label, kind)
                    for kind in (setting.device, "cpu")
                )
                same = all(
                    np.isclose(ours[key], value, rtol=1e-6, equal_nan=True)
                    for key, value in expected.items()
                )
                results.add(f"{name}, label {label}", same=same, ours=ours, expected=expected)


def _center(x: np.ndarray, weight: np.ndarray, label: int, kind: str) -> dict[str, float]:
    tensors = {"weight": weight.astype(np.float32), "bias": np.zeros(3, dtype=np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["out"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    data = (x.astype(np.float32), np.array([label]))
    landscape = ox.evaluate(
        model, data, grid="3", device=kind, samples="all", observer=Silent()
    )
    return {key: float(value) for key, value in landscape.center.items()}


class Silent:
    """An observer that is told everything and says nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


def surfaces(setting: Setting, results: Results) -> None:
    """Compare whole surfaces of the CIFAR-10 networks and the digits network."""
    images, labels = cifar(setting)
    cases = [
        ("resnet20_cifar10", images, labels),
        ("resnet56_cifar10", images, labels),
        ("digits_cnn", *digits()),
        ("resnet20_noshort_cifar10", images, labels),
        ("resnet56_noshort_cifar10", images, labels),
    ]
    samples = 32 if setting.quick else 1000
    for name, x, y in cases[:: 2 if setting.quick else 1]:
        if not setting.model(name).exists():
            results.add(name, skipped="the model is not there")
            continue
        with results.attempt(name):
            found, times = {}, {}
            for kind in (setting.device, "cpu"):
                start = time.perf_counter()
                found[kind] = ox.evaluate(
                    setting.model(name),
                    (x[:samples], y[:samples].astype(np.int64)),
                    grid="5x5",
                    device=kind,
                    samples="all",
                    observer=Silent(),
                )
                times[f"{kind}_s"] = time.perf_counter() - start
            ours, expected = found[setting.device], found["cpu"]
            accuracy = np.abs(ours.surfaces["accuracy"] - expected.surfaces["accuracy"]).max()
            results.add(
                name,
                largest_relative_difference=_worst(ours.loss, expected.loss),
                accuracy_difference=float(accuracy),
                center=ours.center["loss"],
                highest=float(np.nanmax(expected.loss)),
                **times,
            )


def _worst(ours: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest relative difference; infinite if only one is finite somewhere."""
    finite = np.isfinite(expected)
    if (finite != np.isfinite(ours)).any():
        return float("inf")
    if not finite.any():
        return 0.0
    difference = np.abs(ours[finite] - expected[finite])
    return float((difference / np.maximum(np.abs(expected[finite]), 1e-12)).max())


def fixtures(setting: Setting, results: Results) -> None:
    """Evaluate every model of the tests' exporter matrix on both devices."""
    paths = sorted([*(FIXTURES / "models").glob("*.onnx"), *MODELS.glob("digits*.onnx")])
    if setting.quick:
        paths = paths[::12]
    workers = max(1, min(8, (os.cpu_count() or 1) // 2))
    context = multiprocessing.get_context("spawn")
    agree, refused, wrong = 0, [], []
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(_fixture, str(path), setting.device): path for path in paths}
        limit = max(1.0, setting.left() - 5)
        try:
            for job in concurrent.futures.as_completed(jobs, timeout=limit):
                name = jobs[job].stem
                try:
                    verdict, values = job.result()
                except Exception as error:  # noqa: BLE001
                    verdict, values = "crashed", {"why": f"{type(error).__name__}: {error}"}
                if verdict.startswith("agrees"):
                    agree += 1
                elif verdict == "refused":
                    refused.append(name)
                else:
                    wrong.append(name)
                if verdict != "agrees" or setting.quick:
                    results.add(name, verdict=verdict, **values)
        except concurrent.futures.TimeoutError:
            late = [jobs[job].stem for job in jobs if not job.done()]
            results.add("out of time", missing=late)
            for process in multiprocessing.active_children():
                process.terminate()
    results.add("models", tried=len(paths), agree=agree, refused_by_both=refused, wrong=wrong)


def _fixture(path: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Return a verdict on one model, evaluated as the tests do it."""
    if str(FIXTURES) not in sys.path:
        sys.path.insert(0, str(FIXTURES))
    stem = Path(path).stem
    try:
        expected = _evaluate_fixture(path, stem, "cpu")
    except OnnxscapeError as error:
        return "refused", {"why": str(error)[:200]}
    try:
        ours = _evaluate_fixture(path, stem, kind)
    except Exception as error:  # noqa: BLE001
        text = " ".join(str(error).split())[:400]
        return "fails", {"why": f"{type(error).__name__}: {text}"}
    worst = _worst(ours.loss, expected.loss)
    if worst < 1e-4:
        return "agrees", {"relative_difference": worst}
    # Where samples of a batch see each other, only the same batches are comparable.
    batch = ours.plan.batch
    same = _worst(ours.loss, _evaluate_fixture(path, stem, "cpu", batch_size=batch).loss)
    found = {"relative_difference": worst, "in_batches_alike": same, "batch": batch}
    return ("agrees in batches alike" if same < 1e-4 else "differs"), found


def _evaluate_fixture(path: str, stem: str, kind: str, **options: Any) -> Landscape:
    from fixture_evaluation import evaluate

    if Path(path).parent != FIXTURES / "models":
        options |= {"grid": "3x3", "radius": 0.5, "samples": 96, "observer": Silent()}
        return ox.evaluate(path, "digits", device=kind, **options)
    landscape: Landscape = evaluate(stem, device=kind, threads=2, observer=Silent(), **options)
    return landscape


def tests(setting: Setting, results: Results) -> None:
    """Run the tests that are marked as needing a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    command += ["--no-header", "--durations=8", str(ROOT / "tests" / "unit")]
    limit = max(5.0, setting.left() - 3)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit, cwd=ROOT, check=False
    )
    (setting.out / "pytest.txt").write_text(done.stdout + done.stderr)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    results.add("pytest -m gpu", status=done.returncode, last=lines[-1:])
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            results.add("pytest -m gpu", failure=line[:300])
