"""PyTorch on the same network, data and points: eager, in graphs, compiled, narrow."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import onnx
import torch
from engines import Bare, Resident
from measuring import CHECKED, Case, Place, Results, Setting, deviation, make_case
from onnx import numpy_helper
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


class Network(torch.nn.Module):
    """A convolutional network as torch runs it, with the weights of an ONNX file."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        super().__init__()
        self._nodes = [n for n in proto.graph.node if n.op_type in STEPS]
        self._input = proto.graph.input[0].name
        self._aliases = {
            n.output[0]: n.input[0] for n in proto.graph.node if n.op_type == "Identity"
        }
        used = {self._alias(name) for node in self._nodes for name in node.input}
        self._places = {}
        for i, tensor in enumerate(t for t in proto.graph.initializer if t.name in used):
            array = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if array.is_floating_point():
                self._places[tensor.name] = f"tensor_{i}"
                self.register_buffer(f"tensor_{i}", array)
        self._plan = [
            (
                STEPS[node.op_type],
                [self._alias(name) for name in node.input],
                node.output[0],
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in self._nodes
        ]

    def _alias(self, name: str) -> str:
        while name in self._aliases:
            name = self._aliases[name]
        return name

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor by its name in the file."""
        found: torch.Tensor = getattr(self, self._places[name])
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        values = {self._input: x}
        for step, names, output, attributes in self._plan:
            operands = [
                values[n] if n in values else self.tensor(n)
                for n in names
                if n in values or n in self._places
            ]
            values[output] = x = step(*operands, attributes)
        return x


def _convolution(*operands: Any) -> torch.Tensor:
    *tensors, attributes = operands
    return functional.conv2d(
        *tensors,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=tuple(attributes.get("pads", (0, 0))[:2]),
        groups=attributes.get("group", 1),
    )


STEPS: dict[str, Callable[..., torch.Tensor]] = {
    "Conv": _convolution,
    "BatchNormalization": lambda x, w, b, mean, var, a: functional.batch_norm(
        x, mean, var, w, b, training=False, eps=a.get("epsilon", 1e-5)
    ),
    "Relu": lambda x, _: functional.relu(x),
    "Add": lambda x, y, _: x + y,
    "AveragePool": lambda x, a: functional.avg_pool2d(x, tuple(a["kernel_shape"])),
    "GlobalAveragePool": lambda x, _: functional.adaptive_avg_pool2d(x, 1),
    "Reshape": lambda x, *_: x.flatten(1),
    "Flatten": lambda x, _: x.flatten(1),
    "Gemm": lambda x, w, b, _: functional.linear(x, w, b),
}
"""What the CIFAR-10 networks are made of; `Gemm` with transB."""


class Loop:
    """The reference implementation's loop, its data on the device already.

    Args:
        case: The model, its directions and samples.
        device: Where it runs.
        batch: Samples per forward pass; the reference's default is 128.
        item: Whether loss and hits come back with every batch, as in the reference, or are
            summed on the device.
        channels_last: The memory format.
        narrow: Type of autocast, if any.
        make: Wraps the network: compiles it, for example.
    """

    def __init__(
        self,
        case: Case,
        device: str,
        batch: int,
        *,
        item: bool,
        channels_last: bool = False,
        narrow: torch.dtype | None = None,
        make: Callable[[Network], Callable[[torch.Tensor], torch.Tensor]] | None = None,
        captured: bool = False,
    ) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = Network(onnx.load_from_string(case.file.content)).eval().to(device)
        self._call = self.network if make is None else make(self.network)
        self._item, self._narrow, self._device = item, narrow, device
        x = torch.from_numpy(case.x).to(device)
        y = torch.from_numpy(case.y).to(device)
        self._batches = [
            (part.contiguous(memory_format=layout), labels)
            for part, labels in zip(x.split(batch), y.split(batch), strict=True)
        ]
        tensors = {name: self.network.tensor(name) for name in case.delta.tensors}
        for name, tensor in tensors.items():
            if channels_last and tensor.ndim == 4:
                converted = tensor.contiguous(memory_format=layout)
                setattr(self.network, self.network._places[name], converted)  # noqa: SLF001
                tensors[name] = converted
        self._weights = [
            (
                tensor,
                tensor.clone(),
                torch.from_numpy(case.delta.tensors[name]).to(device),
                torch.from_numpy(case.eta.tensors[name]).to(device),
            )
            for name, tensor in tensors.items()
        ]
        self._graph: torch.cuda.CUDAGraph | None = None
        if captured:
            self._capture()

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(2):
                self._sums()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self._graph):
            self._captured = self._sums()

    def _sums(self) -> torch.Tensor:
        total = torch.zeros(2, device=self._device, dtype=torch.float64)
        for x, y in self._batches:
            out = self._logits(x)
            total[0] += functional.cross_entropy(out, y, reduction="sum")
            total[1] += out.argmax(1).eq(y).sum()
        return total

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        if self._narrow is None:
            return self._call(x)
        kind = "cuda" if self._device == "cuda" else "cpu"
        with torch.autocast(kind, dtype=self._narrow):
            return self._call(x).float()

    @torch.inference_mode()
    def point(self, alpha: float, beta: float) -> float:
        """Return the mean loss of a point."""
        for tensor, theta, delta, eta in self._weights:
            tensor.copy_(theta + alpha * delta + beta * eta)
        samples = sum(len(y) for _, y in self._batches)
        if self._graph is not None:
            self._graph.replay()
            return float(self._captured[0].item()) / samples
        if not self._item:
            return float(self._sums()[0].item()) / samples
        loss, hits = 0.0, 0
        for x, y in self._batches:
            out = self._logits(x)
            loss += functional.cross_entropy(out, y).item() * len(y)
            hits += int(out.max(1)[1].eq(y).sum().item())
        return loss / samples

    @torch.inference_mode()
    def first_losses(self) -> np.ndarray:
        """Return the losses of the first samples, at the weights as they are."""
        x, y = self._batches[0]
        losses = functional.cross_entropy(self._logits(x), y, reduction="none")
        return losses[:CHECKED].double().cpu().numpy()


def ceilings(setting: Setting, results: Results) -> None:
    """Measure what the device can do: matrix products and copies."""
    if setting.device != "cuda":
        results.add("ceilings", skipped="no GPU")
        return
    n = 8192
    for name, kind, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("float16", torch.float16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device="cuda", dtype=kind) for _ in range(2))
        time_ms = _events(lambda a=a, b=b: a @ b)
        results.add(f"matrix product {name}", tflops=2 * n**3 / time_ms / 1e9)
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    time_ms = _events(lambda: target.copy_(source))
    results.add("copy", tb_per_s=2 * source.numel() * 4 / time_ms / 1e9)


def _events(run: Callable[[], object]) -> float:
    for _ in range(3):
        run()
    times = []
    for _ in range(7):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def peers(setting: Setting, results: Results) -> None:
    """Time torch's loops beside ours, in turns."""
    ceilings(setting, results)
    torch.backends.cudnn.benchmark = True
    for name in ("resnet20_cifar10",) if setting.quick else ("resnet56_cifar10",):
        samples, batch = (64, 32) if setting.quick else (10240, 2048)
        case = make_case(setting, name, samples)
        for tf32 in (False, True):
            if setting.left() < 10:
                results.add(f"{name} tf32={tf32}", skipped="no time left")
                continue
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
            _race(setting, results, case, batch, tf32=tf32)


def _race(setting: Setting, results: Results, case: Case, batch: int, *, tf32: bool) -> None:
    device, place = setting.device, Place(setting.device)
    options = {"use_tf32": "1" if tf32 else "0"}
    makers: dict[str, Callable[[], Any]] = {
        "ours: bare": lambda: Bare(case, place, batch, options),
        "ours: resident": lambda: Resident(case, place, batch, options),
        "torch: reference's loop, 128": lambda: Loop(case, device, 128, item=True),
        "torch: reference's loop": lambda: Loop(case, device, batch, item=True),
        "torch: channels_last, sums": lambda: Loop(
            case, device, batch, item=False, channels_last=True
        ),
        "torch: sums": lambda: Loop(case, device, batch, item=False),
    }
    if device == "cuda":
        makers["torch: captured"] = lambda: Loop(
            case, device, batch, item=False, captured=True
        )
        if tf32:
            for layout in (False, True):
                makers[f"torch: float16, channels_last={layout}"] = lambda last=layout: Loop(
                    case, device, batch, item=False, channels_last=last, narrow=torch.float16
                )
    expected = case.reference()[0.0, 0.0]
    made: dict[str, Any] = {}
    for kind, make in makers.items():
        title = f"{case.name} {len(case.x)}/{batch} tf32={int(tf32)}: {kind}"
        with results.attempt(title):
            engine = make()
            engine.point(0.0, 0.0)
            if isinstance(engine, Loop):
                ours = engine.first_losses()
                worst = deviation(ours, expected[: len(ours)])
                results.add(title, deviation=worst, loss=engine.point(0.5, -0.25))
            made[title] = engine
    times: dict[str, list[float]] = {title: [] for title in made}
    for i in range(5):
        for title, engine in made.items():
            start = time.perf_counter()
            engine.point(0.1 * i, 0.05)
            if i:
                times[title].append(time.perf_counter() - start)
    ours = next((t for t in made if "resident" in t), None)
    for title, values in times.items():
        median = statistics.median(values)
        ratio = median / statistics.median(times[ours]) if ours else float("nan")
        results.add(title, ms=1e3 * median, over_resident=ratio)


def compiled(setting: Setting, results: Results) -> None:
    """Time torch.compile, which takes a while to start."""
    name = "resnet20_cifar10" if setting.quick else "resnet56_cifar10"
    samples, batch = (64, 32) if setting.quick else (10240, 2048)
    case = make_case(setting, name, samples)
    torch.backends.cudnn.benchmark = True
    for tf32, last in ((False, False), (True, True)):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        title = f"torch.compile tf32={int(tf32)} channels_last={last}"
        if setting.left() < 15:
            results.add(title, skipped="no time left")
            continue
        with results.attempt(title):
            start = time.perf_counter()
            loop = Loop(
                case,
                setting.device,
                batch,
                item=False,
                channels_last=last,
                make=lambda network: torch.compile(network, dynamic=False),
            )
            loop.point(0.0, 0.0)
            opening = time.perf_counter() - start
            times = []
            for i in range(5):
                start = time.perf_counter()
                loop.point(0.1 * i, 0.05)
                times.append(time.perf_counter() - start)
            results.add(title, opening_s=opening, ms=1e3 * statistics.median(times))
