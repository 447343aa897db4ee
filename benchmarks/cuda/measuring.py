"""What all sections of the CUDA benchmark share: results, data, cases and sessions."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from onnxscape.core.grid import Grid
from onnxscape.core.loss import Loss
from onnxscape.core.perturbation import displaced
from onnxscape.evaluation.directions import make_directions
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest
from onnxscape.graph.heads import LABELS
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from onnxscape.core.direction import Direction
    from onnxscape.graph.model_file import ModelFile
    from onnxscape.graph.prepared import PreparedModel

MODELS = Path(__file__).resolve().parents[2] / "models"
MEAN = np.array([125.3, 123.0, 113.9], dtype=np.float32)
STD = np.array([63.0, 62.1, 66.7], dtype=np.float32)
"""Preprocessing of the CIFAR-10 networks, on values 0..255."""

POINTS = ((0.0, 0.0), (0.5, -0.25), (-1.0, 1.0))
"""Where prototypes are compared with the CPU."""

CHECKED = 256
"""Samples of a comparison with the CPU."""

FLOPS = {"resnet56": 251.0e6, "resnet20": 81.6e6}
"""Operations of one image's forward pass, two per multiply-add."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the sections are told.

    Attributes:
        device: `cuda` or `cpu`; the CPU is for trying the script out.
        models: Folder that is searched for models besides the project's own.
        images: .npz with x uint8 [n, 32, 32, 3] and y; None for the data set `cifar10`.
        out: Where results go.
        quick: Whether sizes are so small that a CPU finishes soon.
        deadline: `time.monotonic()` at which a section should have ended.
        only: Names of the evaluators to compare; all if empty.
    """

    device: str
    models: Path
    images: Path | None
    out: Path
    quick: bool
    deadline: float
    only: tuple[str, ...] = ()

    def model(self, name: str) -> Path:
        """Return the path of a model by its file's stem."""
        here = self.models / f"{name}.onnx"
        return here if here.exists() else MODELS / f"{name}.onnx"

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - time.monotonic()


class Results:
    """Prints results as they come and appends them to a file of JSON lines."""

    def __init__(self, path: Path, section: str) -> None:
        self._path = path
        self._section = section

    def add(self, name: str, **values: Any) -> None:
        """Keep one result."""
        entry = {"section": self._section, "name": name} | values
        with self._path.open("a") as file:
            file.write(json.dumps(entry, default=_plain) + "\n")
        shown = " ".join(f"{key}={_short(value)}" for key, value in values.items())
        print(f"{self._section:<11} {name:<34} {shown}", flush=True)

    @contextlib.contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Keep the error of a step instead of ending the section."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the results
            text = " ".join(str(error).split())
            self.add(name, error=f"{type(error).__name__}: {text[:400]}")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)[:160]


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """One tensor of the prepared graph and its steps, float32."""

    tensor: str
    theta: np.ndarray
    delta: np.ndarray
    eta: np.ndarray

    def at(self, alpha: float, beta: float) -> np.ndarray:
        """Return the tensor of one point."""
        return np.ascontiguousarray(displaced(self.theta, self.delta, self.eta, alpha, beta))


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A model with directions and samples."""

    name: str
    file: ModelFile
    prepared: PreparedModel
    weights: tuple[Weight, ...]
    delta: Direction
    eta: Direction
    input: str
    x: np.ndarray
    y: np.ndarray

    @property
    def loss(self) -> str:
        """Name of the output with the loss of each sample."""
        return self.prepared.head.results[0].tensor

    @property
    def hit(self) -> str:
        """Name of the output that is 1 for each sample classified correctly."""
        return self.prepared.head.results[1].tensor

    def reference(self) -> dict[tuple[float, float], np.ndarray]:
        """Return the losses of the first `CHECKED` samples at `POINTS`, from the CPU."""
        session = open_session(self.prepared.with_overridable_weights(), CPU, threads=0)
        feeds = {self.input: self.x[:CHECKED], LABELS: self.y[:CHECKED]}
        return {
            point: session.run(
                [self.loss], feeds | {w.tensor: w.at(*point) for w in self.weights}
            )[0].ravel()
            for point in POINTS
        }


def make_case(setting: Setting, name: str, samples: int) -> Case:
    """Return a model with directions, and as many samples as wanted by repeating them."""
    path = setting.model(name)
    data = (np.zeros((1, 1)), np.zeros(1))  # not looked at
    request = EvalRequest(model=path, data=data, grid=Grid.parse("3x3"))
    file = read_model(path)
    parameters, _ = analyse(file)
    delta, eta = make_directions(parameters, request, QuietObserver())
    assert delta is not None
    assert eta is not None
    moved = delta.tensors.keys() | eta.tensors.keys()
    loss = Loss(
        name="cross-entropy",
        output=file.outputs[0].name,
        shape=(10,),
        class_axis=1,
        metrics=("accuracy",),
    )
    prepared = prepare(file, parameters, moved=moved, loss=loss)
    weights = tuple(
        Weight(
            slot.tensor,
            *(
                np.ascontiguousarray(slot.transfer(values), dtype=np.float32)
                for values in (
                    slot.parameter.values,
                    delta.tensors[slot.parameter.name],
                    eta.tensors[slot.parameter.name],
                )
            ),
        )
        for slot in prepared.slots
    )
    x, y = digits() if name.startswith("digits") else cifar(setting)
    order = np.arange(samples) % len(x)
    labels = y[order].astype(np.int64)
    return Case(
        name, file, prepared, weights, delta, eta, file.inputs[0].name, x[order], labels
    )


def cifar(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Return CIFAR-10 training images as the networks take them, and labels."""
    if setting.images is None:
        from onnxscape.data import load_dataset

        dataset = load_dataset("cifar10", split="train")
        x, y = next(iter(dataset.fields.values())), dataset.labels
    else:
        with np.load(setting.images) as arrays:
            x, y = arrays["x"], arrays["y"]
    x = x[:4000]
    x = ((x.astype(np.float32) - MEAN) / STD).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x), np.asarray(y[:4000])


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits as the small CNN takes them."""
    import onnxscape

    with np.load(Path(onnxscape.__file__).parent / "data" / "digits.npz") as arrays:
        return arrays["x"].astype(np.float32).reshape(-1, 1, 8, 8) / 16, arrays["y"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where sessions run and buffers lie."""

    kind: str

    def buffer(self, array: np.ndarray) -> ort.OrtValue:
        """Return a copy of an array there."""
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.kind, 0)

    def empty(self, shape: Sequence[int], dtype: type) -> ort.OrtValue:
        """Return room there; on the CPU it is filled: nothing unwritten looks right."""
        if self.kind == "cpu":
            filler = 1 if dtype is np.bool_ else -1
            return self.buffer(np.full(shape, filler, dtype=dtype))
        return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self.kind, 0)


CPU = Place("cpu")

PRECISE = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""CUDA options that everything starts from: the product's."""


def open_session(
    model: bytes,
    place: Place,
    options: Mapping[str, str] | None = None,
    *,
    threads: int = 1,
    disabled: Sequence[str] = (),
    session_options: ort.SessionOptions | None = None,
    only: bool = False,
) -> ort.InferenceSession:
    """Open a session at a place.

    Args:
        model: Bytes of the model.
        place: Where it runs.
        options: CUDA options besides `PRECISE`.
        threads: Threads of the CPU; 0 for all.
        disabled: Optimizers to leave out.
        session_options: Options to start from.
        only: Whether nothing may run on the CPU instead.

    Returns:
        The session.

    Raises:
        RuntimeError: If it does not run there.
    """
    settings = session_options or ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = threads
    providers: list[Any] = ["CPUExecutionProvider"]
    if place.kind == "cuda":
        chosen = {"device_id": "0"} | PRECISE | dict(options or {})
        providers = [("CUDAExecutionProvider", chosen), "CPUExecutionProvider"]
        if only:
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = providers[:1]
    session = ort.InferenceSession(
        model,
        settings,
        providers=providers,
        disabled_optimizers=list(disabled) or None,
        enable_fallback=0,
    )
    if place.kind == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise RuntimeError("the session does not run on CUDA")
    return session


def seconds(run: Callable[[], object], *, repeats: int = 5) -> float:
    """Return the median time of a call that returns when the device is done."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def deviation(ours: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative where values are above 1."""
    scale = np.maximum(1.0, np.abs(expected))
    return float(np.max(np.abs(ours - expected) / scale))
