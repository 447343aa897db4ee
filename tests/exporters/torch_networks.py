"""The networks of the fixtures, as torch has them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Cnn(nn.Module):
    """Convolutions (biased, depthwise, plain), each with BatchNorm; a mean; two dense layers.

    The mean over the pixels makes the network the same function for either image layout.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(12)
        self.fc1 = nn.Linear(12, 16)
        self.fc2 = nn.Linear(16, 10, bias=False)
        _turn_some_channels(self.bn1, self.bn2, self.bn3)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.depthwise(x)))
        x = functional.max_pool2d(x, 2)
        x = functional.relu(self.bn3(self.conv2(x)))
        x = functional.relu(self.fc1(x.mean(dim=(2, 3))))
        return self.fc2(x)


class Deconv(nn.Module):
    """A grouped ConvTranspose with BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.deconv = nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, groups=2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 10, 3)
        self.fc = nn.Linear(10, 10)
        _turn_some_channels(self.bn)

    def forward(self, x):
        x = functional.relu(self.conv(x))
        x = functional.relu(self.bn(self.deconv(x)))
        return self.fc(functional.relu(self.conv2(x)).mean(dim=(2, 3)))


class Mlp(nn.Module):
    """Two dense layers."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc2(functional.relu(self.fc1(x)))


class Residual(nn.Module):
    """Two branches that meet: which weight comes first is said by the order of evaluation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv = nn.Conv2d(12, 10, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(10)
        self.shortcut = nn.Conv2d(6, 10, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(10)
        self.fc = nn.Linear(10, 10)
        _turn_some_channels(self.bn1, self.bn2, self.bn3)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        inner = functional.relu(self.bn1(self.depthwise(x)))
        x = functional.relu(self.bn2(self.conv(inner)) + self.bn3(self.shortcut(x)))
        return self.fc(x.mean(dim=(2, 3)))


class Upsample(nn.Module):
    """A plain ConvTranspose with BatchNorm, as Keras has it too."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 8, 2, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 10, 3)
        self.fc = nn.Linear(10, 10)
        _turn_some_channels(self.bn)

    def forward(self, x):
        x = functional.relu(self.conv(x))
        x = functional.relu(self.bn(self.up(x)))
        return self.fc(functional.relu(self.conv2(x)).mean(dim=(2, 3)))


class Untrained(Cnn):
    """The small CNN before training: tensors of equal values, which exporters merge.

    One gamma of the last BatchNorm is 0, as some initializations have it.
    """

    def __init__(self):
        super().__init__()
        for norm in (self.bn1, self.bn2, self.bn3):
            nn.init.ones_(norm.weight)
        with torch.no_grad():
            self.bn3.weight[:2] = torch.tensor([0.0, -1.0])


class Convhead(nn.Module):
    """A convolution as classifier; its output keeps the pixel axes: [batch, 10, 1, 1]."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2)
        self.conv2 = nn.Conv2d(8, 10, 3)

    def forward(self, x):
        return self.conv2(functional.relu(self.conv1(x)))


class Encoder(nn.Module):
    """torch's own encoder layer over the rows of a digit, weights of attention packed."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.layer(x).mean(dim=1))


class Densebn(nn.Module):
    """A dense layer with BatchNorm, and one without."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 16)
        self.bn = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 10)
        _turn_some_channels(self.bn)

    def forward(self, x):
        return self.fc2(functional.relu(self.bn(self.fc1(x))))


class Sequence(nn.Module):
    """A 1-D convolution over the rows of a digit, and a dense layer on each of them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 12, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm1d(12)
        self.fc1 = nn.Linear(12, 14)
        self.fc2 = nn.Linear(14, 10)
        _turn_some_channels(self.bn)

    def forward(self, x):
        x = functional.relu(self.bn(self.conv(x.transpose(1, 2))))
        x = functional.relu(self.fc1(x.transpose(1, 2)))
        return self.fc2(x.mean(dim=1))


class Tied(nn.Module):
    """One dense layer used twice, between two others."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 20)
        self.shared = nn.Linear(20, 20)
        self.fc2 = nn.Linear(20, 10)

    def forward(self, x):
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.shared(x))
        x = functional.relu(self.shared(x))
        return self.fc2(x)


class Autoencoder(nn.Module):
    """A weight used as it is to encode, and transposed to decode."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(64, 12)
        self.shift = nn.Parameter(torch.zeros(64))

    def forward(self, x):
        hidden = torch.tanh(self.encode(x))
        return functional.linear(hidden, self.encode.weight.t(), self.shift)


class Block(nn.Module):
    """Eight tokens (the rows of a digit): positions, attention, LayerNorm, a dense block."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.position = nn.Parameter(0.1 * torch.randn(1, 8, 12))
        self.norm1 = nn.LayerNorm(12)
        self.qkv = nn.Linear(12, 36)
        self.project = nn.Linear(12, 12)
        self.norm2 = nn.LayerNorm(12)
        self.expand = nn.Linear(12, 24)
        self.contract = nn.Linear(24, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = self.embed(x) + self.position
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        attention = torch.softmax(q @ k.transpose(1, 2) / 12**0.5, dim=-1)
        x = x + self.project(attention @ v)
        x = x + self.contract(functional.gelu(self.expand(self.norm2(x))))
        return self.head(x.mean(dim=1))


class Cross(nn.Module):
    """Attention of one trained query: torch cuts its packed weight in the graph."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 1, batch_first=True)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        query = self.query.expand(x.shape[0], -1, -1)
        attended, _ = self.attention(query, x, x, need_weights=False)
        return self.fc(attended[:, 0])


class SeparateCross(nn.Module):
    """The same function with a weight for queries and one for keys and values.

    Into these two torch cuts the packed one.
    """

    def __init__(self, packed):
        super().__init__()
        self.query = packed.query
        self.q, self.kv = nn.Linear(8, 8), nn.Linear(8, 16)
        weights = packed.attention.in_proj_weight.detach().split((8, 16))
        biases = packed.attention.in_proj_bias.detach().split((8, 16))
        for layer, weight, bias in zip((self.q, self.kv), weights, biases, strict=True):
            layer.weight = nn.Parameter(weight.clone())
            layer.bias = nn.Parameter(bias.clone())
        self.project = packed.attention.out_proj
        self.fc = packed.fc

    def forward(self, x):
        query = self.query.expand(x.shape[0], -1, -1)
        keys, values = self.kv(x).chunk(2, dim=-1)
        scores = self.q(query) @ keys.transpose(1, 2) / 8**0.5
        attended = self.project(torch.softmax(scores, dim=-1) @ values)
        return self.fc(attended[:, 0])


def _turn_some_channels(*norms):
    for norm in norms:
        with torch.no_grad():
            norm.weight[1::3] = -1.0
