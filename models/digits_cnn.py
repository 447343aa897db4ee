"""Train the bundled digits network with torch and export it to ONNX, BatchNormalization kept.

Needs torch (2.13 made the bundled file), onnx and scikit-learn:

    python models/digits_cnn.py --out models/digits_cnn.onnx

Everything random comes from one seed, and torch runs on one thread with deterministic
algorithms: the same torch on the same type of CPU writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
EPOCHS = 60
BATCH = 32
PEAK_LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 2e-3
LARGEST_SHIFT = 1  # pixels; digits of 8x8 pixels nearly fill their frame
OPSET = 17


class Split(NamedTuple):
    """Images and labels of one half of the data.

    Attributes:
        images: float32 [samples, 1, 8, 8], 0 to 1.
        labels: int64 [samples].
    """

    images: Tensor
    labels: Tensor


class DigitsCNN(nn.Module):
    """Three blocks of convolution, BatchNorm and ReLU (the second one residual), then a mean.

    The convolutions have no bias: BatchNorm's shift makes it redundant.
    """

    def __init__(self, narrow: int = 32, wide: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, narrow, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.fc = nn.Linear(wide, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            images: float32 [batch, 1, 8, 8], 0 to 1.

        Returns:
            float32 [batch, 10].
        """
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.relu(x + self.bn2(self.conv2(x)))
        x = functional.relu(self.bn3(self.conv3(x)))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(start_dim=1))


def load_splits() -> tuple[Split, Split]:
    """Load the 1797 digits, every fifth of them held out.

    Returns:
        The train split (1438 samples) and the test split (359: index % 5 == 4).
    """
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    held_out = torch.arange(len(labels)) % 5 == 4
    return (
        Split(images[~held_out], labels[~held_out]),
        Split(images[held_out], labels[held_out]),
    )


def shift(images: Tensor) -> Tensor:
    """Move every image by its own random offset; what comes in at the border is 0.

    Args:
        images: float32 [batch, 1, 8, 8].

    Returns:
        The moved images, same shape.
    """
    size, reach = images.shape[-1], LARGEST_SHIFT
    padded = functional.pad(images, (reach, reach, reach, reach))
    offsets = torch.randint(0, 2 * reach + 1, (2, len(images), 1))
    pixels = torch.arange(size)
    rows, columns = offsets + pixels  # each [batch, size]
    sample = torch.arange(len(images))[:, None, None]
    return padded[sample, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def train(split: Split) -> DigitsCNN:
    """Train a network with SGD on a one-cycle learning rate that ends near 0.

    Args:
        split: The samples to learn from.

    Returns:
        The network, in evaluation mode.
    """
    model = DigitsCNN()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=PEAK_LEARNING_RATE,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=WEIGHT_DECAY,
    )
    steps = -(-len(split.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=PEAK_LEARNING_RATE,
        total_steps=EPOCHS * steps,
        cycle_momentum=False,
    )
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(split.labels)).split(BATCH):
            optimizer.zero_grad()
            logits = model(shift(split.images[batch]))
            loss = functional.cross_entropy(logits, split.labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        if (epoch + 1) % 10 == 0:
            mean = total / len(split.labels)
            print(f"epoch {epoch + 1:3d}/{EPOCHS}  loss on shifted images {mean:.5f}")
    return model.eval()


@torch.no_grad()
def measure(model: DigitsCNN, split: Split) -> tuple[float, float]:
    """Compute loss and accuracy on whole, unshifted data.

    Args:
        model: A network in evaluation mode.
        split: The samples to measure on.

    Returns:
        Mean cross-entropy (nats) and accuracy (fraction).
    """
    logits = model(split.images).double()
    loss = functional.cross_entropy(logits, split.labels).item()
    return loss, (logits.argmax(dim=1) == split.labels).double().mean().item()


def export(model: DigitsCNN, path: Path) -> None:
    """Write the network as ONNX with its BatchNormalization nodes.

    Args:
        model: A network in evaluation mode.
        path: Where to write.

    Raises:
        RuntimeError: If the exporter folded BatchNormalization after all.
    """
    # TrainingMode.EVAL would fold BatchNorm into the convolutions; PRESERVE takes the model as
    # it is, in evaluation mode, and leaves the nodes alone.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # dynamo=False is meant
        torch.onnx.export(
            model,
            (torch.zeros(2, 1, 8, 8),),
            path,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        )
    exported = onnx.load(path)
    onnx.checker.check_model(exported, full_check=True)
    kept = sum(node.op_type == "BatchNormalization" for node in exported.graph.node)
    wanted = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    if kept != wanted:
        raise RuntimeError(
            f"{path} has {kept} BatchNormalization nodes, expected {wanted}: this torch folds"
            " them on export"
        )


def main() -> None:
    """Train, export and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).with_name("digits_cnn.onnx"),
        metavar="FILE",
        help="where to write the network (default: digits_cnn.onnx beside this script)",
    )
    out: Path = parser.parse_args().out

    # One thread: the order of floating-point sums depends on the number of threads.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(SEED)

    train_split, test_split = load_splits()
    model = train(train_split)
    export(model, out)

    print(f"parameters {sum(weight.numel() for weight in model.parameters())}")
    for name, split in (("train", train_split), ("test", test_split)):
        loss, accuracy = measure(model, split)
        print(
            f"{name:5s} {len(split.labels)} samples  loss {loss:.8f}  accuracy {accuracy:.6f}"
        )
    content = out.read_bytes()
    print(f"{out}  {len(content)} bytes  sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
