"""Keeps the contract on the wire, and all that is made from it, in step.

    python proto/contract.py check   # as CI does: says what is wrong, changes nothing
    python proto/contract.py write   # makes stubs, reference page and `landed.binpb` anew

`check` wants four things: `buf lint` finds nothing; nothing breaks clients of what has landed
(`proto/landed.binpb`, and the one of the main branch where git knows it); the stubs in
`onnxscape/v1` and the page `docs/server/protocol.md` are those of the .proto files; and
`landed.binpb` holds all that the files hold, so that what lands is protected from then on.

`write` refuses a change that breaks clients. Such a change belongs into another package
(`onnxscape.v2`); `--breaking` lets it through while nothing has been released.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_page

PROTO = Path(__file__).resolve().parent
ROOT = PROTO.parent
LANDED = PROTO / "landed.binpb"
PAGE = ROOT / "docs" / "server" / "protocol.md"

TOOLS = "1.76.0"
"""Version of grpcio-tools: stubs of later ones refuse protobuf 6."""


class ContractError(Exception):
    """Something about the contract is not as it must be."""


def sources() -> list[str]:
    """Return the .proto files, as paths below `proto`."""
    return sorted(path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto"))


def make(folder: Path) -> None:
    """Make all that is made from the .proto files.

    Args:
        folder: Where: stubs below their package's path, `landed.binpb`, and `commented.binpb`
            with the comments.

    Raises:
        ContractError: If grpcio-tools is another version, or refuses the files.
    """
    found = importlib.metadata.version("grpcio-tools")
    if found != TOOLS:
        raise ContractError(
            f"expected grpcio-tools {TOOLS}, found {found}: pip install -e '.[dev]'"
        )
    stubs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    _protoc(*stubs)
    _protoc("--include_imports", f"--descriptor_set_out={folder / 'landed.binpb'}")
    _protoc("--include_source_info", f"--descriptor_set_out={folder / 'commented.binpb'}")


def _protoc(*options: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO), *options]
    done = subprocess.run(
        [*command, *sources()], cwd=PROTO, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ContractError(f"protoc refused the files:\n{done.stderr}")


def lint() -> list[str]:
    """Return what `buf lint` finds."""
    return _buf("lint", str(PROTO))


def breaking() -> list[str]:
    """Return what breaks clients of what has landed."""
    problems = []
    if not LANDED.exists():
        return [f"{LANDED} is missing: get it back from git"]
    with tempfile.TemporaryDirectory() as name:
        images = [LANDED]
        main = _of_main_branch()
        if main is not None:
            images.append(Path(name) / "main.binpb")
            images[-1].write_bytes(main)
        for image in images:
            problems += _buf("breaking", str(PROTO), "--against", str(image))
    return list(dict.fromkeys(problems))


def _of_main_branch() -> bytes | None:
    """Return `landed.binpb` as the main branch had it where this one left, if git knows."""
    if shutil.which("git") is None:
        return None
    for branch in ("origin/main", "main"):
        fork, here = _git("merge-base", "HEAD", branch), _git("rev-parse", "HEAD")
        if fork is not None:
            # On the branch itself: as it was before its last commit, or merge.
            base = "HEAD^" if fork == here else fork.decode().strip()
            return _git("show", f"{base}:proto/landed.binpb")
    return None


def _git(*arguments: str) -> bytes | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _buf(*arguments: str) -> list[str]:
    if shutil.which("buf") is None:
        raise ContractError("buf is not installed: pip install -e '.[dev]'")
    done = subprocess.run(
        ["buf", *arguments], cwd=PROTO, capture_output=True, text=True, check=False
    )
    problems = [f"buf {arguments[0]}: {line}" for line in done.stdout.splitlines()]
    if done.returncode and not problems:
        raise ContractError(f"buf {arguments[0]} failed:\n{done.stderr}")
    return problems


def stale(fresh: Path) -> list[str]:
    """Return what is not made from the .proto files as they are now.

    Args:
        fresh: Folder that `make` has filled.

    Returns:
        One line for each file.
    """
    made = {path.relative_to(fresh) for path in fresh.rglob("*_pb2*")}
    kept = {path.relative_to(ROOT) for path in (ROOT / "onnxscape" / "v1").glob("*_pb2*")}
    problems = [f"{path} is made from no .proto file" for path in sorted(kept - made)]
    problems += [
        f"{path} is not made from the .proto files as they are now"
        for path in sorted(made)
        if path not in kept or not filecmp.cmp(fresh / path, ROOT / path, shallow=False)
    ]
    if LANDED.read_bytes() != (fresh / "landed.binpb").read_bytes():
        problems.append("proto/landed.binpb does not hold what the .proto files hold")
    page = PAGE.read_text()
    if reference_page.rendered(page, (fresh / "commented.binpb").read_bytes()) != page:
        problems.append(
            f"{PAGE.relative_to(ROOT)} is not made from the .proto files and job states"
        )
    return problems


def check() -> list[str]:
    """Return all that is wrong, one line each."""
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        return [*lint(), *breaking(), *stale(Path(name))]


def write(*, even_if_breaking: bool = False) -> None:
    """Make stubs, image and page anew.

    Args:
        even_if_breaking: Whether clients of what has landed may break.

    Raises:
        ContractError: If they would.
    """
    problems = lint() + ([] if even_if_breaking else breaking())
    if problems:
        raise ContractError("\n".join(problems))
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        make(fresh)
        package = ROOT / "onnxscape" / "v1"
        for path in package.glob("*_pb2*"):
            path.unlink()
        for path in (fresh / "onnxscape" / "v1").glob("*_pb2*"):
            shutil.copy(path, package)
        shutil.copy(fresh / "landed.binpb", LANDED)
        comments = (fresh / "commented.binpb").read_bytes()
        PAGE.write_text(reference_page.rendered(PAGE.read_text(), comments))


def main() -> int:
    """Run the command line.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say what is wrong")
    writing = commands.add_parser("write", help="make anew what is made from the files")
    writing.add_argument("--breaking", action="store_true", help="even if clients break")
    chosen = parser.parse_args()
    try:
        if chosen.command == "write":
            write(even_if_breaking=chosen.breaking)
            return 0
        problems = check()
    except ContractError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and chosen.command == "check":
        print("if the change is meant: python proto/contract.py write", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
