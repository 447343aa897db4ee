"""What the documentation shows must run as it stands."""

import doctest
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

import onnxscape
from onnxscape import errors
from onnxscape_cli.exit_status import EXIT_STATUS, INTERRUPTED

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def project_folder(tmp_path, monkeypatch):
    """A folder with the project's models in it, where examples may write."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_example_of_the_readme_runs(project_folder):
    (code,) = blocks("python")
    names = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own text
    assert (project_folder / "digits_contour.png").stat().st_size > 10_000
    assert names["landscape"].loss.shape == (9, 9)
    assert (names["same"].loss == names["line"].loss).all()


@pytest.mark.parametrize(
    "module", ["onnxscape", "onnxscape.evaluation.api", "onnxscape.graph.audit.inspection"]
)
def test_the_examples_in_docstrings_give_what_they_show(module, project_folder):
    outcome = doctest.testmod(importlib.import_module(module))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def commands() -> list[list[str]]:
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    found = re.findall(r"^(?:.*&& )?(onnxscape .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_in_the_readme_is_one_the_program_understands(words):
    command = importlib.import_module(f"onnxscape_cli.{words[1]}").command
    with click.Context(command, info_name=words[1]) as context:
        command.parse_args(context, words[2:])


def test_the_readme_lists_every_exit_status():
    section = README.split("### Exit statuses")[1].split("##")[0]
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    assert listed == {0, INTERRUPTED, *EXIT_STATUS.values()}


def test_every_picture_of_the_readme_is_there():
    pictures = re.findall(r"!\[[^\]]*\]\((docs/[^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_page_leads_to_one_with_that_heading(page):
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
            assert anchor in [heading.replace(" ", "-") for heading in plain], anchor


def test_the_error_tree_in_the_docstring_is_the_real_one():
    tree = {}
    for line in errors.__doc__.splitlines():
        match = re.match(r" {4}([│├└─ ]*)(\w+) \(?", line)
        if match and match[2].endswith("Error"):
            tree[match[2]] = len(match[1]) // 4
    classes = {name: getattr(errors, name) for name in errors.__all__}
    assert set(tree) == set(classes)
    for name, cls in classes.items():
        depth = sum(issubclass(c, errors.OnnxscapeError) for c in cls.__mro__) - 1
        assert tree[name] == depth, name


def test_all_public_names_are_there_and_the_version_is_kept_once():
    for name in onnxscape.__all__:
        assert hasattr(onnxscape, name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", onnxscape.__version__)
