"""The CIFAR-10 ResNets of Li et al. 2018 in PyTorch, with the weights of an ONNX file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE = 1e-4
"""How far the outputs of the twin may be from ONNX Runtime's."""

_CHECKED = 32


class _Block(nn.Module):
    """Two convolutions, and past them the input (option B: a 1x1 convolution to fit)."""

    def __init__(self, before: int, width: int, stride: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module | None = nn.Sequential() if shortcut else None
        if shortcut and (stride != 1 or before != width):
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activations of the block."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return functional.relu(out)


class ResNet(nn.Module):
    """A ResNet for images of 32 x 32: three stages of 16, 32 and 64 channels.

    Args:
        blocks: Blocks per stage: 3 for ResNet-20, 9 for ResNet-56.
        shortcut: Whether there are shortcuts.
    """

    def __init__(self, blocks: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        before = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            layers = []
            for block in range(blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                layers.append(_Block(before, width, stride, shortcut=shortcut))
                before = width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [batch, 10]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = functional.avg_pool2d(x, 8).flatten(1)
        return self.linear(x)


def make_twin(content: bytes) -> ResNet:
    """Build the network whose weights an ONNX file holds.

    Args:
        content: The file: a ResNet exported from modules of the names used here.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: If the file holds another network.
    """
    tensors = _tensors(onnx.load_from_string(content))
    found = [re.fullmatch(r"layer3\.(\d+)\.conv1\.weight", name) for name in tensors]
    blocks = [int(match[1]) for match in found if match]
    if not blocks:
        raise ValueError(
            "expected a CIFAR-10 ResNet with tensors such as layer3.0.conv1.weight"
        )
    network = ResNet(max(blocks) + 1, shortcut="layer2.0.shortcut.0.weight" in tensors)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in tensors or tensors[name].shape != tuple(tensor.shape):
            raise ValueError(f"expected a tensor {name} {list(tensor.shape)} in the file")
        state[name] = torch.from_numpy(tensors[name].copy())
    network.load_state_dict(state)
    epsilons = _epsilons(content)
    if epsilons != {1e-5}:
        raise ValueError(f"expected BatchNormalization with epsilon 1e-5, got {epsilons}")
    return network.eval()


def deviation(network: nn.Module, content: bytes, x: np.ndarray) -> float:
    """Compare a network with ONNX Runtime on the CPU.

    Args:
        network: The twin, on the CPU.
        content: The file that it was made from.
        x: Images [n, 3, 32, 32]; the first few are used.

    Returns:
        The largest difference of a logit.

    Raises:
        ValueError: If it is above `TOLERANCE`.
    """
    x = x[:_CHECKED]
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: x})[0]
    with torch.no_grad():
        ours = network(torch.from_numpy(x)).numpy()
    worst = float(np.max(np.abs(ours - expected)))
    if not worst < TOLERANCE:
        raise ValueError(f"the twin's outputs differ from ONNX Runtime's by {worst}")
    return worst


def _tensors(model: onnx.ModelProto) -> Mapping[str, np.ndarray]:
    """Return the tensors by name; exporters keep equal ones once, behind Identity nodes."""
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors


def _epsilons(content: bytes) -> set[float]:
    return {
        round(onnx.helper.get_node_attr_value(node, "epsilon"), 9)
        for node in onnx.load_from_string(content).graph.node
        if node.op_type == "BatchNormalization"
    }
