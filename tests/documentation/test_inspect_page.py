"""What docs/inspect.md says is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import onnxscape as ox
from onnxscape.core.parameter import Role
from onnxscape.graph.audit import Kind

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "inspect.md").read_text()


def rows(heading):
    """The first cells of the table behind a heading."""
    table = PAGE.split(f"| {heading} |")[1].split("\n\n")[0]
    return re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)


def test_every_kind_of_warning_is_explained_and_no_other():
    assert rows("warning") == [str(kind) for kind in Kind]


def test_every_role_is_explained():
    assert rows("role") == [str(role) for role in Role]


def test_every_column_is_explained():
    text = ox.inspect(ROOT / "models" / "digits_cnn.onnx").text()
    heads = {tuple(line.split()) for line in text.splitlines() if line.startswith("  name ")}
    assert rows("column") == list(max(heads, key=len))


def test_the_output_shown_is_the_real_one():
    shown = re.search(
        r"<!-- output of: onnxscape inspect (\S+) -->\n```text\n(.*?)\n```", PAGE, re.DOTALL
    )
    assert shown[2] == ox.inspect(ROOT / shown[1]).text()


def test_the_keys_of_the_json_are_named():
    audit = ox.inspect(ROOT / "models" / "digits_cnn.onnx").to_dict()
    assert rows("key") == [f"`{key}`" for key in audit]
    for part in (audit["model"], audit["parameters"][0], audit["totals"]):
        for key in part:
            assert f"`{key}`" in PAGE, key


def test_the_python_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = re.search(r"<!-- example -->\n```python\n(.*?)```", PAGE, re.DOTALL)[1]
    exec(compile(code, "inspect.md", "exec"), {})  # noqa: S102 - our own text
    out = capsys.readouterr().out
    assert out.endswith("['conv1.weight', 'conv2.weight', 'conv3.weight', 'fc.weight']\n[]\n")
