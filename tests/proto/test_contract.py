"""The check of the contract must find what breaks clients, and what is not made anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("grpc_tools", reason="grpcio-tools is installed for developers only")
if shutil.which("buf") is None:
    pytest.skip("buf is installed for developers only", allow_module_level=True)


class Copy:
    """A copy of the contract that may be damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("proto", "onnxscape/v1", "docs/server/protocol.md"):
            target = folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, target)
            else:
                shutil.copy(ROOT / part, target)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", str(self.folder / "proto/contract.py"), *arguments]
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{self.folder / 'proto'}",
        }
        environment["PATH"] = f"{Path(shutil.which('buf')).parent}:{environment['PATH']}"
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment
        )

    def change(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert text.count(old) == 1
        (self.folder / path).write_text(text.replace(old, new))


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def test_the_contract_is_in_order():
    command = [sys.executable, str(ROOT / "proto" / "contract.py"), "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("int64 size = 2;", "int64 size = 3;", "size"),
        ("int64 size = 2;", "int32 size = 2;", "changed type"),
        ("int64 size = 2;", "int64 length = 2;", "length"),
        ("rpc QueryWriteStatus(", "rpc AskWriteStatus(", "QueryWriteStatus"),
    ],
)
def test_what_breaks_clients_is_neither_passed_nor_written(copy, old, new, said):
    before = (copy.folder / "proto" / "landed.binpb").read_bytes()
    copy.change("proto/onnxscape/v1/blobs.proto", old, new)
    for command in ("check", "write"):
        done = copy.run(command)
        assert done.returncode == 1
        assert "buf breaking" in done.stderr
        assert said in done.stderr
    assert (copy.folder / "proto" / "landed.binpb").read_bytes() == before


def test_a_new_field_asks_for_stubs_and_is_protected_once_they_are_made(copy):
    new = "int64 size = 2;\n\n  // What it is.\n  string media_type = 3;"
    copy.change("proto/onnxscape/v1/blobs.proto", "int64 size = 2;", new)
    checked = copy.run("check")
    assert checked.returncode == 1
    for path in ("onnxscape/v1/blobs_pb2.py", "landed.binpb", "docs/server/protocol.md"):
        assert path in checked.stderr

    assert copy.run("write").returncode == 0
    assert (
        "| `media_type` | 3 | string | What it is. |"
        in (copy.folder / "docs/server/protocol.md").read_text()
    )
    assert copy.run("check").returncode == 0

    copy.change("proto/onnxscape/v1/blobs.proto", "string media_type = 3;", "")
    assert "media_type" in copy.run("check").stderr


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("proto/onnxscape/v1/blobs.proto", "string sha256 = 1;", "string Sha256 = 1;", "lint"),
        ("onnxscape/v1/server_pb2_grpc.py", "import warnings", "import warnings  #", "server"),
        ("docs/server/protocol.md", "What identifies a blob.", "Whatever.", "protocol.md"),
    ],
)
def test_what_is_not_as_it_is_made_is_found(copy, path, old, new, said):
    copy.change(path, old, new)
    done = copy.run("check")
    assert done.returncode == 1
    assert said in done.stderr


def test_a_stub_of_no_file_is_found(copy):
    (copy.folder / "onnxscape/v1/other_pb2.py").write_text("")
    assert "other_pb2.py is made from no .proto file" in copy.run("check").stderr
