"""Check the bundled networks against their known answers with ONNX Runtime and numpy alone.

    python models/known_answers.py                        # the digits network
    python models/known_answers.py --cifar10 cifar10.npz  # all networks

No code of onnxscape takes part, so the losses are evidence for what it computes at the center
of a landscape. A split whose data is absent is not checked, and the output says so. The exit
status is 1 if an answer is not met.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

MODELS = Path(__file__).parent
ANSWERS = MODELS / "known_answers.json"
DIGITS = MODELS.parent / "onnxscape" / "data" / "digits.npz"
TOLERANCE = 1e-4  # absolute, on losses and accuracies: room for another CPU's float32 sums
BATCH = 500
CIFAR10_MEAN = np.array([125.3, 123.0, 113.9], dtype=np.float32) / 255
CIFAR10_STD = np.array([63.0, 62.1, 66.7], dtype=np.float32) / 255


class Split(NamedTuple):
    """Inputs as a network wants them, and labels.

    Attributes:
        inputs: float32 [samples, channels, height, width].
        labels: int64 [samples].
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


# --- data -----------------------------------------------------------------------------------


def digits_splits() -> dict[str, Split]:
    """Load the digits: 1797 images of 8x8 pixels, every fifth one held out.

    Returns:
        `test` (index % 5 == 4, 359 samples) and `train` (1438); empty where neither the
        package's copy of the data nor scikit-learn's is at hand.
    """
    if DIGITS.exists():
        with np.load(DIGITS) as arrays:
            images, labels = arrays["x"], arrays["y"]
    else:
        try:
            from sklearn.datasets import load_digits  # noqa: PLC0415 - optional
        except ImportError:
            return {}
        digits = load_digits()
        images, labels = digits.images, digits.target
    inputs = (images / 16).astype(np.float32)[:, np.newaxis]
    labels = labels.astype(np.int64)
    held_out = np.arange(len(labels)) % 5 == 4
    return {
        "test": Split(inputs[held_out], labels[held_out]),
        "train": Split(inputs[~held_out], labels[~held_out]),
    }


def cifar10_splits(path: Path | None) -> dict[str, Split]:
    """Load CIFAR-10 and standardize it as the networks were trained on it.

    Args:
        path: An .npz with `x_test` uint8 [10000, 32, 32, 3] and `y_test` [10000]; `x_train`
            [50000, 32, 32, 3] and `y_train` are optional. None for no data.

    Returns:
        `test`, and `train` where the file holds it.
    """
    splits: dict[str, Split] = {}
    if path is None:
        return splits
    with np.load(path) as arrays:
        for name in ("test", "train"):
            if f"x_{name}" in arrays.files:
                images = arrays[f"x_{name}"].astype(np.float32) / 255
                images = (images - CIFAR10_MEAN) / CIFAR10_STD
                splits[name] = Split(
                    np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
                    arrays[f"y_{name}"].ravel().astype(np.int64),
                )
    return splits


# --- what is measured -----------------------------------------------------------------------


def fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Read one protocol buffer message, field by field.

    Args:
        message: The message's bytes.

    Yields:
        Field number and value: an int, or a memoryview of anything that is not one.
    """
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(message):
        number, wire_type = divmod(varint(), 8)
        if wire_type == 0:
            yield number, varint()
            continue
        size = varint() if wire_type == 2 else {1: 8, 5: 4}[wire_type]
        at += size
        yield number, message[at - size : at]


def count_parameters(content: bytes) -> int:
    """Count what training moved: all initializers but BatchNormalization's statistics.

    ONNX Runtime does not tell the sizes of a model's constants, so the file is read here.
    The field numbers are those of onnx.proto.

    Args:
        content: The bytes of an .onnx file.

    Returns:
        The number of trained scalars. Torch's exporter stores equal tensors once, behind
        Identity nodes: they count each time, as in the network that was trained.
    """
    (graph,) = (value for number, value in fields(memoryview(content)) if number == 7)
    nodes: list[tuple[bytes, list[bytes], list[bytes]]] = []
    sizes: dict[bytes, int] = {}
    for number, value in fields(graph):
        if number == 1:  # NodeProto: 1 input, 2 output, 4 op_type
            parts = [(n, bytes(v)) for n, v in fields(value) if n in {1, 2, 4}]
            inputs, outputs, types = ([v for n, v in parts if n == m] for m in (1, 2, 4))
            nodes.append((types[0], inputs, outputs))
        elif number == 5:  # TensorProto: 1 dims, 8 name
            tensor = list(fields(value))
            name = next(bytes(v) for n, v in tensor if n == 8)
            sizes[name] = math.prod(v for n, v in tensor if n == 1)
    for op_type, inputs, outputs in nodes:
        if op_type == b"Identity" and inputs[0] in sizes:
            sizes[outputs[0]] = sizes[inputs[0]]
    for op_type, inputs, _ in nodes:
        if op_type == b"BatchNormalization":
            for statistic in inputs[3:5]:
                sizes.pop(statistic, None)
    return sum(sizes.values())


def measure(content: bytes, split: Split) -> dict[str, int | float]:
    """Run a network over a whole split on the CPU.

    Args:
        content: The bytes of an .onnx file with the input `input` and the output `logits`.
        split: What to run it on.

    Returns:
        `samples`, `loss` (mean cross-entropy in nats, float64 from the logits on) and
        `accuracy` (fraction).
    """
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits = np.concatenate(
        [
            session.run(["logits"], {"input": split.inputs[start : start + BATCH]})[0]
            for start in range(0, len(split.labels), BATCH)
        ]
    ).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -np.take_along_axis(log_probabilities, split.labels[:, np.newaxis], axis=1)
    return {
        "samples": len(split.labels),
        "loss": float(losses.mean()),
        "accuracy": float((logits.argmax(axis=1) == split.labels).mean()),
    }


# --- comparison -----------------------------------------------------------------------------


def misses(expected: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    """Compare what was found with what is known.

    Args:
        expected: The known answers.
        found: Measured answers; each is compared with the expected one of the same name.

    Returns:
        One sentence per answer that is not met.
    """
    wrong = []
    for name, value in found.items():
        known = expected.get(name)
        if isinstance(value, float) and isinstance(known, float):
            met = abs(value - known) <= TOLERANCE
        else:
            met = value == known
        if not met:
            wrong.append(f"{name} is {value}, expected {known}")
    return wrong


def check(answer: Mapping[str, Any], splits: Mapping[str, Split]) -> bool:
    """Measure one network and print what came out.

    Args:
        answer: The network's entry in known_answers.json.
        splits: The data at hand, by the name of the split.

    Returns:
        Whether all answers that could be checked are met.
    """
    content = (MODELS / answer["file"]).read_bytes()
    facts = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": count_parameters(content),
    }
    print(f"{answer['file']}: {facts['parameters']} parameters, {facts['bytes']} bytes")
    wrong = misses(answer, facts)
    for name, known in answer["splits"].items():
        if name not in splits:
            print(f"  {name:5s}  not checked: no {answer['data']} {name} data")
            continue
        found = measure(content, splits[name])
        print(f"  {name:5s}  {found['samples']:5d} samples", end="")
        print(f"  loss {found['loss']!r}  accuracy {found['accuracy']!r}")
        wrong += [f"{name} {miss}" for miss in misses(known, found)]
    for miss in wrong:
        print(f"  WRONG  {miss}")
    return not wrong


def main() -> int:
    """Check every network that known_answers.json lists.

    Returns:
        The exit status: 0, or 1 if an answer is not met.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cifar10",
        type=Path,
        metavar="FILE",
        help="an .npz with x_test uint8 [10000,32,32,3] and y_test; x_train and y_train too"
        " to check the train split",
    )
    options = parser.parse_args()
    data = {"digits": digits_splits(), "cifar10": cifar10_splits(options.cifar10)}
    answers = json.loads(ANSWERS.read_text(encoding="utf-8"))
    # A list, not a generator: every network is measured, whatever came before.
    met = [check(answer, data[answer["data"]]) for answer in answers]
    print("all that was checked is met" if all(met) else "NOT MET", file=sys.stderr)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
