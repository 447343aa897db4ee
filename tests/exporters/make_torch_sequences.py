"""Train the recurrent networks, the attention and the GPTs, and export them with torch.

    python tests/exporters/make_torch_sequences.py

Recurrent weights have no name in the exports; `_named` is the folded export with names.
"""

from __future__ import annotations

import logging

import torch
from fixture_files import make_text, save, training_digits
from fixture_tasks import text, tokens
from torch.nn import functional
from torch_exports import ROADS, digits, image, legacy, trained
from torch_sequences import (
    Bag,
    Einsum,
    Gpt,
    Gptmask,
    Gptuntied,
    Gru,
    LoopedRnn,
    Lstm,
    Rnn,
)

IDS = ("input_ids",), ("logits",)


def named(model):
    """Name the weights of the recurrent operators."""
    for node in model.graph.node:
        if node.op_type in {"LSTM", "GRU", "RNN"}:
            new = {node.input[1]: "recurrent.W", node.input[2]: "recurrent.R"}
            for tensor in model.graph.initializer:
                tensor.name = new.get(tensor.name, tensor.name)
            node.input[1], node.input[2] = new.values()
    return model


def make_recurrent():
    """The recurrent networks."""
    for kind in (Lstm, Gru, Rnn):
        network = trained(kind, digits(8, 8))
        name = kind.__name__.lower()
        for road in ROADS:
            save(ROADS[road](network, image(8, 8)), f"{name}_torch_{road}")
        save(named(legacy(network, image(8, 8))), f"{name}_torch_legacy_named")
    looped = torch.jit.script(LoopedRnn(trained(Rnn, None)))
    save(legacy(looped, image(8, 8)), "rnn_torch_legacy_looped")


def make_attention():
    """The mean of embeddings, and the attention written with einsum."""
    x, y = training_digits()
    bag = trained(Bag, ((torch.from_numpy(tokens(x)),), torch.from_numpy(y)))
    example = torch.zeros(3, 64, dtype=torch.int64)
    einsum = trained(Einsum, digits(8, 8))
    for road in list(ROADS)[1:]:
        model = ROADS[road](bag, example, names=(("input_ids",), ("out",)))
        save(model, f"bag_torch_{road}")
        save(ROADS[road](einsum, image(8, 8)), f"einsum_torch_{road}")


def make_text_models():
    """The language models."""
    ids, mask = (torch.from_numpy(array) for array in text(2000, seed=1))

    def loss(out, ids):
        return functional.cross_entropy(out[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    def masked(out, ids_and_mask):
        ids, mask = ids_and_mask.unbind(1)
        wanted = torch.where(mask == 1, ids, -100)
        return loss(out, wanted)

    example = torch.ones(3, 7, dtype=torch.int64)
    axes = {1: "tokens"}
    for kind in (Gpt, Gptuntied):
        network = trained(kind, ((ids,), ids), loss=loss)
        for road in list(ROADS)[1:]:
            model = ROADS[road](network, example, axes=axes, names=IDS)
            save(model, f"{kind.__name__.lower()}_torch_{road}")
    network = trained(Gptmask, ((ids, mask), torch.stack([ids, mask], 1)), loss=masked)
    names = ("input_ids", "attention_mask"), ("logits",)
    for road in list(ROADS)[1:3]:
        # Not the same tensor twice: torch.export would take it for one input.
        model = ROADS[road](network, example, example.clone(), axes=axes, names=names)
        save(model, f"gptmask_torch_{road}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    make_text()
    make_recurrent()
    make_attention()
    make_text_models()
