"""What docs/devices.md says is what the program does and what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from onnxscape.core.execution import PRECISIONS
from onnxscape.errors import DeviceError
from onnxscape.runtime.devices import _PRECISIONS, Device, _in_precision
from onnxscape.runtime.self_test import NARROW, TOLERANCE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "devices.md").read_text()
KINDS = {
    "--device cpu": "cpu",
    "--device cuda": "cuda",
    "--device openvino": "openvino",
    "--provider NAME": "provider",
}
CORNERS = ["the center", "(1, 1)", "(1, -1)", "(-1, 1)", "(-1, -1)"]


def rows(head):
    """Return the cells of the table that starts with a line."""
    lines = PAGE[PAGE.index(head) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_places_is_what_is_refused_and_what_is_not():
    (_, *precisions), _, *places = rows("| | fp32 | tf32")
    assert tuple(precisions) == PRECISIONS == tuple(_PRECISIONS)
    kinds = {re.match(r"`([^`]+)`", place)[1]: cells for place, *cells in places}
    assert kinds.keys() == KINDS.keys()
    for text, cells in kinds.items():
        for precision, cell in zip(precisions, cells, strict=True):
            device = Device(KINDS[text], 0, "")
            if cell == "yes":
                assert _in_precision(device, precision).precision == precision
            else:
                with pytest.raises(DeviceError, match=f"--precision {precision}"):
                    _in_precision(device, precision)


@pytest.mark.parametrize("depth", [20, 56])
def test_losses_by_precision_are_those_that_were_measured(depth):
    text = (ROOT / "benchmarks" / "results" / "cuda_h200.jsonl").read_text()
    results = {r["name"]: r for r in map(json.loads, text.splitlines())}
    (_, *precisions), _, *lines, center, worst, seconds = rows(f"| ResNet-{depth}: loss at")
    assert [line[0] for line in lines] == CORNERS
    exact = results[f"resnet{depth}_cifar10 50000: fp32, resident"]["losses"]
    for at, precision in enumerate(precisions, start=1):
        measured = results[f"resnet{depth}_cifar10 50000: {precision}, resident"]
        losses = measured["losses"]
        assert [line[at] for line in lines] == [f"{loss:#.6g}" for loss in losses]
        assert seconds[at] == f"{measured['s_per_point']:.3f}"
        errors = [abs(a / b - 1) for a, b in zip(losses, exact, strict=True)]
        for cells, error in ((center, errors[0]), (worst, max(errors))):
            assert cells[at] == (f"{error:.1e}" if error else "")


def test_tolerances_are_those_of_the_self_test():
    said = re.search(
        r"(\d+) % .* in tf32, (\d+) % in fp16 and (\d+) % in bf16, and by (\S+) %", PAGE
    )
    numbers = [float(number) / 100 for number in said.groups()]
    assert numbers == pytest.approx(
        [NARROW["tf32"], NARROW["fp16"], NARROW["bf16"], TOLERANCE]
    )
