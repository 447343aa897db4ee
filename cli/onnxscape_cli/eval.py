"""`onnxscape eval`: from a model file to a surface and its pictures, here or by a server."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxscape.errors import UsageError
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.evaluation.request import OutputOptions
from onnxscape.evaluation.run import run_to_file
from onnxscape_cli.evaluation_options import (
    evaluation_options,
    given,
    make_request,
    warn_of_ignored_options,
)
from onnxscape_cli.exit_status import DONE, INTERRUPTED
from onnxscape_cli.sections import SectionedCommand, section
from onnxscape_cli.server_options import ServerChoice, server_options, take_server
from onnxscape_cli.summary import draw, print_json, summarize
from onnxscape_cli.terminal import Terminal

if TYPE_CHECKING:
    from onnxscape.evaluation.report import Report
    from onnxscape.evaluation.request import EvalRequest

_direction = section("Directions")
_run = section("Running")
_output = section("Output")

_HERE_ONLY = ("provider", "threads", "workers", "store", "save_directions")


@click.command("eval", cls=SectionedCommand)
@evaluation_options
@_direction("--save-directions", type=click.Path(path_type=Path), help="Write them here.")
@_run(
    "--provider",
    metavar="NAME",
    help="Any other execution provider of ONNX Runtime, instead of --device.",
)
@_run(
    "--threads", type=click.IntRange(1), metavar="N", help="On the CPU.  [default: all cores]"
)
@_run(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Points at a time, which share the threads.  [default: the fastest]",
)
@_run("--explain", is_flag=True, help="Say why it is run the way it is.")
@server_options
@_output("--out", type=click.Path(path_type=Path), help="Surface file.  [default: MODEL.h5]")
@_output("--restart", is_flag=True, help="Throw away what --out holds.")
@_output("--store", type=click.Path(path_type=Path), help="Folder for finished points.")
@_output("--no-plot", is_flag=True, help="Draw no pictures.")
@_output("--quiet", is_flag=True, help="Only warnings and errors.")
@_output("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    model: Path,
    *,
    save_directions: Path | None,
    out: Path | None,
    restart: bool,
    store: Path | None,
    no_plot: bool,
    quiet: bool,
    explain: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Evaluate the loss of MODEL around its weights.

    Steps alpha and beta along two random, filter-normalized directions are added to the
    weights, and the loss over the samples is computed at each point of the grid. Finished
    points are kept at once: after an interrupt the same command continues.

    With --server the points are computed there, and the same files are written here. An
    interrupt leaves the job to the server: the same command attaches to it again.
    """
    server = take_server(options)
    request = make_request(model, **options)
    path = out or Path(f"{model.stem}.h5")
    output = OutputOptions(
        path=path, restart=restart, store=store, save_directions=save_directions
    )
    terminal = Terminal(quiet=quiet, to_stderr=as_json, explain=explain)
    warn_of_ignored_options(terminal)
    more: dict[str, Any] = {}
    try:
        if server is None:
            report, wrote = _run_here(request, output, terminal)
        else:
            report, wrote, more = _run_there(request, output, terminal, server)
    except EvaluationInterrupted as interrupt:
        terminal.close()
        _tell_of_interrupt(path, interrupt.report, restart=restart)
        if as_json:
            print_json(path, interrupt.report, [], terminal.warnings)
        return INTERRUPTED
    except _Detached as detached:
        terminal.close()
        click.echo(f"onnxscape: {detached}", err=True)
        if as_json:
            values = detached.values | {"out": str(path), "warnings": terminal.warnings}
            click.echo(json.dumps(values))
        return INTERRUPTED
    finally:
        terminal.close()
    started = time.perf_counter()
    pictures = [] if no_plot else draw(report.landscape, path, terminal)
    seconds = dict(report.seconds) | {"pictures": time.perf_counter() - started}
    report = replace(report, seconds=seconds)
    summarize(path, report, pictures, terminal, wrote=wrote)
    if as_json:
        print_json(path, report, pictures, terminal.warnings, **more)
    return DONE


def _run_here(
    request: EvalRequest, output: OutputOptions, terminal: Terminal
) -> tuple[Report, bool]:
    """Return the report, and whether the surface was written."""
    report = run_to_file(request, output, terminal)
    return report, report.computed > 0


class _Detached(Exception):  # noqa: N818 - no error
    """The user left a job to its server."""

    def __init__(self, text: str, values: dict[str, Any]) -> None:
        super().__init__(text)
        self.values = values


def _run_there(
    request: EvalRequest, output: OutputOptions, terminal: Terminal, server: ServerChoice
) -> tuple[Report, bool, dict[str, Any]]:
    """Return the report, whether the surface was written, and what else JSON tells."""
    _refuse_here_only()
    from onnxscape.service.client.remote_run import (  # noqa: PLC0415 - loads gRPC
        EvaluationDetached,
        run_remotely,
    )

    with server.client(terminal.note) as client:
        where = str(client.address)
        try:
            remote = run_remotely(
                request, output, terminal, client, uploaded=terminal.bytes_sent
            )
        except EvaluationDetached as detached:
            job = detached.job
            text = (
                f"detached: job {job.id} goes on at {where} ({detached.done} of {job.total} "
                "points); the same command attaches to it again, and `onnxscape jobs cancel "
                f"{job.id} --server {where}` stops it"
            )
            values = {
                "complete": False,
                "points": detached.done,
                "job": job.id,
                "server": where,
            }
            raise _Detached(text, values) from None
    job_id = None if remote.job is None else remote.job.id
    more = {"job": job_id, "server": where}
    return remote.report, remote.job is not None, more


def _refuse_here_only() -> None:
    """Refuse options of a run on this machine."""
    names = given(*_HERE_ONLY)
    if not names:
        return
    context = click.get_current_context()
    explicit = click.core.ParameterSource.COMMANDLINE
    how = "leave them out" if len(names) > 1 else "leave it out"
    if context.get_parameter_source("server") is not explicit:
        how += ", or say --server '' to run it here although ONNXSCAPE_SERVER is set"
    else:
        how += " with --server"
    raise UsageError(
        f"{' and '.join(names)} {'says' if len(names) == 1 else 'say'} how to run it on this "
        f"machine; {how}"
    )


def _tell_of_interrupt(path: Path, report: Report, *, restart: bool) -> None:
    """Say what is kept, and how to go on."""
    finished = report.computed + report.reused
    how = "without --restart continues" if restart else "continues"
    kept = f"{finished} points are kept in {path}" if finished else "before the first point"
    click.echo(f"onnxscape: interrupted: {kept}; the same command {how}", err=True)
