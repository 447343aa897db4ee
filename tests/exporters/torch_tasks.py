"""The networks of the fixtures that do not classify, as torch has them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Segment(nn.Module):
    """A class for every pixel: [n, 3, 8, 8]."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.join = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        inner = functional.relu(self.bn(self.down(x)))
        inner = functional.relu(self.up(inner))
        return self.join(torch.cat([inner, x], dim=1))


class Detect(nn.Module):
    """What a digit is, and where: two outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.fc = nn.Linear(96, 16)
        self.scores = nn.Linear(16, 10)
        self.boxes = nn.Linear(16, 4)

    def forward(self, x):
        x = functional.relu(self.conv(x)).flatten(1)
        x = functional.relu(self.fc(x))
        return self.scores(x), self.boxes(x)


class Regress(nn.Module):
    """The center of mass of a digit: [n, 2]."""

    outputs = 2

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 12)
        self.fc2 = nn.Linear(12, self.outputs)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


class Across(Regress):
    """Its place from left to right alone: [n, 1]."""

    outputs = 1


class Multilabel(nn.Module):
    """Four properties of a digit, each with its probability: [n, 4]."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 16)
        self.fc2 = nn.Linear(16, 4)
        self.probabilities = True

    def forward(self, x):
        x = self.fc2(torch.tanh(self.fc1(x)))
        return torch.sigmoid(x) if self.probabilities else x
