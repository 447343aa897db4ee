"""The audit for people: 80 columns, whatever the file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import onnxscape as ox
from onnxscape.graph.audit.text import shortened

ROOT = Path(__file__).parents[4]


def longest(text):
    return max(map(len, text.splitlines()))


@pytest.fixture(scope="module")
def stack(make_model):
    """Returns a stack of dense layers with given names."""

    def build(names, size=2):
        nodes = []
        tensors = {}
        value = "x"
        for i, name in enumerate(names):
            tensors[f"{name}.w"] = np.float32(
                np.random.default_rng(i).normal(size=(size, size))
            )
            tensors[f"{name}.c"] = np.float32(i)
            nodes.append(helper.make_node("MatMul", [value, f"{name}.w"], [f"m{i}"]))
            nodes.append(helper.make_node("Mul", [f"m{i}", f"{name}.c"], [f"h{i}"]))
            value = f"h{i}"
        return make_model(nodes, {"x": ["n", size]}, {value: ["n", size]}, tensors)

    return build


def test_no_line_of_any_export_is_longer_than_80_characters(audits):
    assert len(audits) > 90
    for audit in audits.values():
        assert longest(audit.text(everything=True)) <= 80, audit
        assert longest(audit.text()) <= 80, audit


def test_names_of_any_length_are_shortened_in_the_middle(stack):
    text = ox.inspect(stack(["a" * 200 + str(i) for i in range(9)])).text(everything=True)
    assert longest(text) <= 80
    assert "a" * 20 in text
    assert "…" in text
    assert text.count("aaa8.w") == 1  # the end that tells them apart is kept


def test_what_would_steer_a_terminal_is_taken_out(stack):
    text = ox.inspect(stack(["evil\x1b[2J\r\nname", "tab\t"])).text(everything=True)
    assert all(c.isprintable() for line in text.splitlines() for c in line)
    assert "evil" in text


def test_counts_are_aligned_at_the_right(stack):
    text = ox.inspect(stack(["a", "b"], size=40)).text()
    rows = [
        line for line in text.splitlines() if line.startswith(("  a.w", "  b.w", "  name"))
    ]
    assert len({len(row) for row in rows[:3]}) == 1
    assert rows[1].endswith("1,600")


def test_constants_are_summed_up_where_there_are_many_and_weights_never(stack):
    audit = ox.inspect(stack([f"layer{i:02}" for i in range(40)]))
    short, long = audit.text(), audit.text(everything=True)
    assert "STAYS  constant: 40 tensors, 40 values" in short
    assert "--all lists them" in short
    assert "layer07.c" not in short
    assert "layer07.c" in long
    assert all(f"layer{i:02}.w" in short for i in range(40))


def test_the_line_of_totals_counts_what_moves():
    audit = ox.inspect(ROOT / "models" / "digits_cnn.onnx")
    (line,) = [line for line in audit.text().splitlines() if "trainable values" in line]
    assert line == (
        "28,576 of 28,842 trainable values move (99.1 %), in 4 tensors and 138 filters"
    )


def test_every_parameter_is_listed_under_its_fate():
    audit = ox.inspect(ROOT / "models" / "digits_cnn.onnx")
    blocks = audit.text().split("\n\n")
    for p in audit.parameters:
        (block,) = [block for block in blocks if f"  {p.name} " in block]
        assert block.startswith("MOVES" if p.perturbed else "STAYS")
        assert str(p.role) in block.splitlines()[0]


def test_warnings_come_last_each_with_its_kind(dense_model):
    audit = ox.inspect(dense_model(np.eye(3, 2), np.zeros(2), softmax=True))
    last = str(audit).split("\n\n")[-1]
    assert last.startswith(f"warning  {audit.warnings[-1].kind}: ")


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc…fg"), ("abcdefg", 5, "ab…fg")],
)
def test_a_text_loses_its_middle(text, width, expected):
    assert shortened(text, width) == expected
