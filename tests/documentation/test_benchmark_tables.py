"""The tables of the page on benchmarks must be those of the results that are kept."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load_tables():
    spec = importlib.util.spec_from_file_location("benchmark_tables", FOLDER / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()


def check(page: Path, results: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "tables.py"), *more]
    command += ["--page", str(page), "--results", str(results)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(FOLDER / "results", tmp_path / "results")
    shutil.copy(FOLDER / "README.md", tmp_path)
    return tmp_path / "README.md", tmp_path / "results"


def test_the_page_shows_what_is_kept():
    checked = check(FOLDER / "README.md", FOLDER / "results", "--check")
    assert checked.returncode == 0, checked.stderr


def test_every_kind_of_table_is_on_the_page_and_has_rows():
    page = (FOLDER / "README.md").read_text()
    found = re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end of table -->", page, re.DOTALL)
    assert {name for name, _ in found} == set(tables.TABLES)
    for name, table in found:
        assert table.count("\n| ") > 2, name


@pytest.mark.parametrize("name", sorted(tables.TABLES))
def test_a_table_of_other_results_is_found_out_and_written(copy, name):
    page, results = copy
    path = results / f"{name}.jsonl"
    *before, last = path.read_text().splitlines()
    record = json.loads(last) | {"device": "another machine"}
    path.write_text("\n".join([*before, json.dumps(record)]) + "\n")

    assert check(page, results, "--check").returncode == 1
    assert "another machine" not in page.read_text()
    assert check(page, results).returncode == 0
    assert "another machine" in page.read_text()
    assert check(page, results, "--check").returncode == 0


def test_a_table_shows_the_last_result_of_its_kind(tmp_path):
    row = {
        "when": "2026-01-01T00:00:00+00:00",
        "device": "one",
        "threads": 2,
        "load_before": [0.25, 0.5, 0.5],
        "versions": {"numpy": "2"},
        "model": "m.onnx",
        "kind": "cpu",
        "points": 20,
        "every": 10,
        "resident_mib": [100.0, 101.0],
        "resident_growth_mib": 1.0,
        "traced_mib": [1.0, 1.0],
        "bare_mib": [90.0, 90.0],
        "bare_growth_mib": 0.0,
        "traced_growth_mib": 0.0,
    }
    later = row | {"device": "two", "resident_mib": [50.0, 50.0], "resident_growth_mib": 0.0}
    lines = "\n".join(json.dumps(record) for record in (row, later))
    (tmp_path / "memory.jsonl").write_text(lines)
    page = "above\n<!-- table: memory -->\nold\n<!-- end of table -->\nbelow\n"
    assert tables.rendered(page, tmp_path) == (
        "above\n<!-- table: memory -->\n\n"
        "| model | points | memory | MiB after 10 points | after the last | growth |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| m.onnx | 20 | held by the process | 50.00 | 50.00 | +0.00 (0 bytes per point) |\n"
        "| m.onnx | 20 | Python's own | 1.00 | 1.00 | +0.00 (0 bytes per point) |\n"
        "| m.onnx | 20 | held by one that only makes the sessions | 90.00 | 90.00 | +0.00 "
        "(0 bytes per point) |\n\n"
        "two, 2 threads, 2026-01-01, load before 0.25; numpy 2.\n\n"
        "<!-- end of table -->\nbelow\n"
    )


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("no table", "expected lines"),
        ("<!-- table: unknown -->\n<!-- end of table -->", "got 'unknown'"),
    ],
)
def test_a_page_without_known_tables_is_refused(tmp_path, page, said):
    with pytest.raises(ValueError, match=said):
        tables.rendered(page, tmp_path)
