"""The table of docs/operators.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from onnxscape.graph.operators import WEIGHTS

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def table():
    text = PAGE.read_text().split("## Weights")[1]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_has_every_operator_and_no_other():
    assert {(op, int(slot)) for op, slot, *_ in table()} == set(WEIGHTS)


@pytest.mark.parametrize("row", table(), ids=" ".join)
def test_the_axis_of_a_row_is_that_of_the_code(row):
    op, slot, where, shape, axis = row
    domain, _, kind = op.rpartition(".")
    attributes = {name: int(value) for name, value in (p.split("=") for p in where.split())}
    sizes = tuple(range(2, 2 + len(shape.split(","))))
    rule = WEIGHTS[op, int(slot)]
    node = ir.node(kind, [None] * 4, attributes, domain=domain)
    found = rule.axis(node, sizes)
    if axis == "by the equation":
        assert kind == "Einsum"
    else:
        assert found == int(axis) % len(sizes)
    if "M" not in shape and "out" not in shape:
        return
    # The filters lie where the shape says that they do.
    letters = [part.strip(" []") for part in shape.split(",")]
    assert any(letters[found].startswith(name) for name in ("M", "out"))
