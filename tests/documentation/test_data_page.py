"""What the page on data shows must run as it stands."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

import click
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()


def test_the_examples_run_and_print_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)
    assert len(found) == PAGE.count("```python")
    for code, shown in found:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "data.md", "exec"), names)  # noqa: S102 - our own text
        assert printed.getvalue() == shown


def commands() -> list[list[str]]:
    text = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
    return [shlex.split(line, comments=True) for line in text.splitlines() if line]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_one_the_program_understands(words):
    command = importlib.import_module(f"onnxscape_cli.{words[1]}").command
    with click.Context(command, info_name=words[1]) as context:
        command.parse_args(context, words[2:])
