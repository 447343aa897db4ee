"""What the pages on the server show must be what the code does and understands."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from google.protobuf import descriptor_pool

from onnxscape.jobs.states import TRANSITIONS
from onnxscape.service.answers.status import CODES
from onnxscape.service.monitoring.metrics import CONTENT_TYPE, Reading, ServerMetrics
from onnxscape.service.settings.loading import SETTINGS, load_config
from onnxscape.v1 import blobs_pb2, catalog_pb2, jobs_pb2, server_pb2

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "server"
FILES = [file.DESCRIPTOR for file in (blobs_pb2, catalog_pb2, jobs_pb2, server_pb2)]


def load_tables():
    spec = importlib.util.spec_from_file_location("server_tables", PAGES / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_tables_of_settings_and_metrics_are_those_of_the_code():
    page = (PAGES / "administration.md").read_text()
    assert tables.rendered(page) == page
    for name in SETTINGS:
        assert f"| `{name}` |" in page


def test_a_table_that_is_out_of_date_is_made_anew():
    page = (PAGES / "administration.md").read_text()
    old = page.replace("| `port` | `50051` |", "| `port` | `1` |")
    assert old != page
    assert tables.rendered(old) == page


@pytest.mark.parametrize("text", ["none", "<!-- made: settings -->\n<!-- end -->"])
def test_a_page_without_a_table_is_refused(text):
    with pytest.raises(ValueError, match="expected '<!-- made: NAME -->' once for"):
        tables.rendered(text)


def test_metrics_that_the_page_tells_to_watch_are_there():
    metrics = ServerMetrics(lambda: Reading(workers_lost={"time": 1}))
    known = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    text = (PAGES / "administration.md").read_text().split("Worth an alarm")[1]
    named = re.findall(r"`(onnxscape_\w+)`", text.split("\n\n")[0])
    assert len(named) == 4
    for name in named:
        assert name in known | {"onnxscape_rpc_duration_seconds"}
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_the_protocol_page_has_every_method_field_and_value():
    page = (PAGES / "protocol.md").read_text()
    for file in FILES:
        for service in file.services_by_name.values():
            assert f"\n## {service.name}\n" in page
            for method in service.methods:
                section = page.split(f"\n### {method.name}\n")[1].split("\n### ")[0]
                assert f"[{method.input_type.name}](#" in section
        for message in file.message_types_by_name.values():
            section = page.split(f"\n#### {message.name}\n")[1].split("\n#")[0]
            for field in message.fields:
                assert f"| `{field.name}` | {field.number} |" in section
        for kind in file.enum_types_by_name.values():
            section = page.split(f"\n#### {kind.name}\n")[1].split("\n#")[0]
            for value in kind.values:
                assert f"| `{value.name}` | {value.number} |" in section
    assert descriptor_pool.Default().FindServiceByName("onnxscape.v1.JobService")


def test_the_protocol_page_says_every_code_that_our_errors_have():
    page = (PAGES / "protocol.md").read_text()
    told = set(re.findall(r"^\| `([A-Z_]+)` \| .* \| .* \|$", page, re.MULTILINE))
    assert {code.name for code in CODES.values()} <= told


def test_the_drawing_of_states_is_the_table():
    (drawing,) = blocks(PAGES / "protocol.md", "mermaid")
    arrows = re.findall(r"^ +(\w+) --> (\w+): (.*)$", drawing, re.MULTILINE)
    table = {(str(a), str(b), str(event)) for (a, event), b in TRANSITIONS.items()}
    assert set(arrows) == table


def test_the_settings_that_the_page_shows_are_understood(tmp_path):
    (shown,) = blocks(PAGES / "administration.md", "toml")
    (tmp_path / "server.toml").write_text(shown)
    config = load_config({}, environment={}, file=tmp_path / "server.toml")
    assert config.quota_of("alice").weight == tomllib.loads(shown)["users"]["alice"]["weight"]


def commands() -> list[list[str]]:
    """All `onnxscape` commands of the pages."""
    found = []
    for page in sorted(PAGES.glob("*.md")):
        for block in blocks(page, "bash"):
            lines = re.findall(r"^(onnxscape .*)$", block, re.MULTILINE)
            found += [shlex.split(line, comments=True) for line in lines]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_pages_is_one_the_program_understands(words):
    command = importlib.import_module(f"onnxscape_cli.{words[1]}").command
    rest = [word for word in words[2:] if word != "&"]
    with click.Context(command, info_name=words[1]) as context:
        while isinstance(command, click.Group):
            command, *rest = command.get_command(context, rest[0]), *rest[1:]
            assert command is not None
        command.parse_args(click.Context(command, parent=context), rest)
