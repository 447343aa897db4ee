"""What the page on fewer evaluations shows must be understood, and its numbers be measured."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from onnxscape.core import refinement
from onnxscape_cli.eval import command

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "fewer-evaluations.md").read_text(encoding="utf-8")
MEASURED = [
    json.loads(line)
    for line in (ROOT / "benchmarks" / "results" / "adaptive.jsonl").read_text().splitlines()
]
TWO_LEVELS = [
    json.loads(line)
    for line in (ROOT / "benchmarks" / "results" / "two_level.jsonl").read_text().splitlines()
]
COMMANDS = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)).splitlines()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_the_program_understands(line):
    words = shlex.split(line)
    assert words[:2] == ["onnxscape", "eval"]
    with click.Context(command, info_name="eval") as context:
        command.parse_args(context, words[2:])


def test_every_row_of_the_table_was_measured():
    cells = r"(\d+) % \| (\d+) \| (\d+) % \| (.*) % \| (.*) % \| (.*)"
    rows = re.findall(rf"^\|.*\| {cells} \|$", PAGE, re.MULTILINE)
    measured = [row for row in MEASURED if row["strategy"].startswith("adaptive")]
    assert len(rows) == len(measured) == 9
    for (tolerance, points, share, reported, largest, accuracy), row in zip(
        rows, measured, strict=True
    ):
        assert row["strategy"] == f"adaptive {int(tolerance) / 100:g}"
        assert row["points"] == int(points)
        assert round(100 * row["share"]) == int(share)
        # The file has two more digits, and not the last of them.
        assert 100 * row["verified"] == pytest.approx(float(reported), abs=0.0501)
        assert row["accuracy_largest"] == pytest.approx(float(accuracy), abs=0.00501)
        assert 100 * row["largest"] == pytest.approx(float(largest), abs=0.0501)


def test_every_row_of_the_table_of_two_levels_was_measured():
    number = r"([\d.]+) %"
    cells = r"(\d+) \| " + r" \| ".join([number] * 6)
    rows = re.findall(rf"^\|[^|]*\| {cells} \|$", PAGE, re.MULTILINE)
    assert len(rows) == len(TWO_LEVELS) == 4
    names = ("verified", "largest", "mean", "subset_largest", "subset_mean")
    for (few, share, *errors), row in zip(rows, TWO_LEVELS, strict=True):
        assert row["strategy"] == f"two-level {few}"
        assert round(100 * row["share"]) == int(share)
        for name, error in zip(names, errors, strict=True):
            assert 100 * row[name] == pytest.approx(float(error), abs=0.0501), name


def test_the_numbers_of_the_rule_are_those_of_the_program():
    assert refinement.SAFETY == 1.5
    assert refinement.FLOOR == 0.001
    assert refinement.FASTEST == 1 / 16
    assert refinement.SHARE_HELD_OUT == 0.02
    assert refinement.LEAST_HELD_OUT == 20
