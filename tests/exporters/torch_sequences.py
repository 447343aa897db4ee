"""The networks of the fixtures that read tokens or steps, as torch has them."""

from __future__ import annotations

import torch
from fixture_tasks import CONTEXT, LEVELS, VOCABULARY
from torch import nn
from torch.nn import functional


class Lstm(nn.Module):
    """An LSTM that reads a digit's rows from both ends."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 7, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(14, 10)

    def forward(self, x):
        return self.fc(self.lstm(x)[0].mean(dim=1))


class Gru(nn.Module):
    """A GRU that reads a digit's rows."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 10, batch_first=True)
        self.fc = nn.Linear(10, 10)

    def forward(self, x):
        return self.fc(self.gru(x)[0].mean(dim=1))


class Rnn(nn.Module):
    """A plain recurrent layer that reads a digit's rows."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(8, 12, batch_first=True)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, -1])


class LoopedRnn(nn.Module):
    """The same function, its steps written as a loop: scripted, it becomes a Loop."""

    def __init__(self, rnn):
        super().__init__()
        self.step = nn.Linear(8, 12)
        self.back = nn.Linear(12, 12)
        self.step.weight, self.step.bias = rnn.rnn.weight_ih_l0, rnn.rnn.bias_ih_l0
        self.back.weight, self.back.bias = rnn.rnn.weight_hh_l0, rnn.rnn.bias_hh_l0
        self.fc = rnn.fc

    def forward(self, x):
        state = torch.zeros(x.size(0), 12)
        for place in range(x.size(1)):
            state = torch.tanh(self.step(x[:, place]) + self.back(state))
        return self.fc(state)


class Bag(nn.Module):
    """The mean of the embeddings of a digit's pixels, and a dense layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(64 * LEVELS, 6)
        self.fc = nn.Linear(6, 10)

    def forward(self, input_ids):
        return self.fc(self.embed(input_ids).mean(dim=1))


class Einsum(nn.Module):
    """Attention of two heads over a digit's rows, all of it with einsum."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(8, 2, 5) / 3)
        self.key = nn.Parameter(torch.randn(8, 2, 5) / 3)
        self.value = nn.Parameter(torch.randn(8, 2, 5) / 3)
        self.join = nn.Parameter(torch.randn(2, 5, 12) / 3)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        q = torch.einsum("bti,ihd->bhtd", x, self.query)
        k = torch.einsum("bti,ihd->bhtd", x, self.key)
        v = torch.einsum("bti,ihd->bhtd", x, self.value)
        scores = torch.einsum("bhtd,bhsd->bhts", q, k) / 5**0.5
        attended = torch.einsum("bhts,bhsd->bhtd", torch.softmax(scores, dim=-1), v)
        joined = torch.einsum("bhtd,hdo->bto", attended, self.join)
        return self.fc(torch.tanh(joined).mean(dim=1))


class Gpt(nn.Module):
    """A block of a GPT; the output layer is the embedding."""

    tied = True

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, 16)
        self.wpe = nn.Embedding(CONTEXT, 16)
        self.norm1 = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.project = nn.Linear(16, 16)
        self.norm2 = nn.LayerNorm(16)
        self.expand = nn.Linear(16, 32)
        self.contract = nn.Linear(32, 16)
        self.norm = nn.LayerNorm(16)
        if not self.tied:
            self.head = nn.Linear(16, VOCABULARY, bias=False)
        nn.init.normal_(self.wte.weight, std=0.3)
        nn.init.normal_(self.wpe.weight, std=0.1)

    def forward(self, input_ids, attention_mask=None):
        count = input_ids.shape[1]
        x = self.wte(input_ids) + self.wpe(torch.arange(count))
        seen = torch.ones(count, count, dtype=torch.bool).tril()
        if attention_mask is not None:
            seen = seen & attention_mask[:, None, None, :].bool()
        x = x + self.project(self._attended(self.norm1(x), seen))
        x = x + self.contract(functional.gelu(self.expand(self.norm2(x))))
        weight = self.wte.weight if self.tied else self.head.weight
        return functional.linear(self.norm(x), weight)

    def _attended(self, x, seen):
        parts = self.qkv(x).reshape(x.shape[0], -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
        q, k, v = parts[0], parts[1], parts[2]
        scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~seen, -1e9)
        attended = torch.softmax(scores, dim=-1) @ v
        return attended.transpose(1, 2).reshape(x.shape[0], -1, 16)


class Gptuntied(Gpt):
    """The same with an output layer of its own."""

    tied = False


class Gptmask(Gptuntied):
    """The same for sentences that are filled up: which tokens are there is an input."""

    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask)
