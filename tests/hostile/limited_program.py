"""The command line with little memory and time: arguments on stdin, outcomes on stdout."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys

from onnxscape_cli.main import main

MEMORY = 4 << 30
"""Address space; an ordinary model takes half of that, most of it reserved only."""
SECONDS = 600
"""Processor time for all models together."""


def run(arguments):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main(arguments)
        except SystemExit as end:
            return {"status": end.code, "stderr": said.getvalue()}


if __name__ == "__main__":
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    output, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=output, flush=True)
