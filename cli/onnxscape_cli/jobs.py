"""`onnxscape jobs`: landscapes ordered from a server."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxscape.errors import JobFailedError
from onnxscape.jobs.states import JobState
from onnxscape_cli.evaluation_options import (
    evaluation_options,
    make_request,
    warn_of_ignored_options,
)
from onnxscape_cli.exit_status import DONE
from onnxscape_cli.job_texts import job_text, job_values, server_text, server_values, table
from onnxscape_cli.sections import SectionedCommand, section
from onnxscape_cli.server_options import need_server, server_options
from onnxscape_cli.terminal import Terminal

if TYPE_CHECKING:
    from onnxscape.service.client.client import RemoteJob

_order = section("Order")
_output = section("Output")
_json = _output("--json", "as_json", is_flag=True, help="JSON on stdout.")
_id = click.argument("job_id", metavar="JOB")
_ids = click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)


@click.group("jobs")
def command() -> None:
    """Order landscapes from a server, watch and fetch them.

    Every command needs --server HOST:PORT, or ONNXSCAPE_SERVER.
    """


@command.command("submit", cls=SectionedCommand)
@evaluation_options
@_order("--name", "display_name", metavar="TEXT", help="For people.  [default: MODEL on DATA]")
@_order(
    "--priority",
    metavar="0..100",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Among your own jobs; more comes first.",
)
@_order("--estimate", is_flag=True, help="Only check, and say what it would take.")
@server_options
@_json
def submit_command(
    model: Path,
    *,
    display_name: str | None,
    priority: int,
    estimate: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Order the landscape of MODEL, and print the job's ID.

    An equal order is the same job. `jobs fetch` gets the surface; `eval --server` does all in
    one.
    """
    server = need_server(options)
    request = make_request(model, **options)
    terminal = Terminal(quiet=False, to_stderr=True)
    warn_of_ignored_options(terminal)
    try:
        with (
            server.client(terminal.note) as client,
            tempfile.TemporaryDirectory(prefix="onnxscape-") as folder,
        ):
            parcel = client.pack(request, Path(folder), terminal)
            if estimate:
                info = client.validate(parcel, uploaded=terminal.bytes_sent)
            else:
                info = client.deliver(
                    parcel,
                    display_name=display_name,
                    priority=priority,
                    uploaded=terminal.bytes_sent,
                ).info
    finally:
        terminal.close()
    for text in info.notes:
        terminal.note(text)
    for text in info.warnings:
        terminal.warning(text)
    if info.shared:
        terminal.note("an equal order was made before: this is its job")
    if as_json:
        click.echo(json.dumps(job_values(info), allow_nan=False))
    else:
        click.echo(job_text(info) if estimate else info.id)
    return DONE


@command.command("list", cls=SectionedCommand)
@_order(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in JobState]),
    help="Only these; may be repeated.",
)
@_order("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most.")
@server_options
@_json
def list_command(*, states: tuple[str, ...], limit: int, as_json: bool, **options: Any) -> int:
    """List your jobs, the newest first."""
    found = []
    with need_server(options).client() as client:
        for job in client.jobs(states):
            found.append(job.info)
            if len(found) == limit:
                break
    if as_json:
        click.echo(json.dumps([job_values(info) for info in found], allow_nan=False))
    elif found:
        click.echo(table(found))
    else:
        click.echo("no jobs", err=True)
    return DONE


@command.command("show", cls=SectionedCommand)
@_id
@server_options
@_json
def show_command(job_id: str, *, as_json: bool, **options: Any) -> int:
    """Show all that is known of a job."""
    with need_server(options).client() as client:
        info = client.job(job_id).info
    if as_json:
        click.echo(json.dumps(job_values(info), allow_nan=False))
    else:
        click.echo(job_text(info))
    return DONE


@command.command("watch", cls=SectionedCommand)
@_id
@server_options
@_output("--quiet", is_flag=True, help="Only warnings and errors.")
def watch_command(job_id: str, *, quiet: bool, **options: Any) -> int:
    """Watch a job until it is finished; an interrupt leaves it alone.

    The exit status is 5 if it failed or was cancelled.
    """
    from onnxscape.service.client.following import Following  # noqa: PLC0415 - loads gRPC
    from onnxscape.service.client.remote_jobs import refuse_failure  # noqa: PLC0415

    terminal = Terminal(quiet=quiet, to_stderr=False)
    following = Following(terminal)
    try:
        with need_server(options).client(terminal.note) as client:
            job = client.job(job_id)
            following.changed(job.info)
            for event in job.watch():
                following.take(event)
            following.finish()
            info = job.refresh()
    finally:
        terminal.close()
    refuse_failure(info)
    terminal.note(job_text(info))
    return DONE


@command.command("cancel", cls=SectionedCommand)
@_ids
@server_options
def cancel_command(job_ids: tuple[str, ...], **options: Any) -> int:
    """Ask jobs to stop; their points are kept."""
    with need_server(options).client() as client:
        for job_id in job_ids:
            info = client.job(job_id).cancel()
            click.echo(f"{info.id}  {info.state}, {info.done} of {info.total} points")
    return DONE


@command.command("delete", cls=SectionedCommand)
@_ids
@server_options
def delete_command(job_ids: tuple[str, ...], **options: Any) -> int:
    """Delete finished jobs with their points and surfaces."""
    with need_server(options).client() as client:
        for job_id in job_ids:
            job = client.job(job_id)
            job.delete()
            click.echo(f"{job.id}  deleted")
    return DONE


@command.command("fetch", cls=SectionedCommand)
@_id
@server_options
@_output("--out", type=click.Path(path_type=Path), help="Surface file.  [default: JOB.h5]")
@_output("--restart", is_flag=True, help="Replace another landscape in --out.")
@_output("--no-plot", is_flag=True, help="Draw no pictures.")
@_output("--quiet", is_flag=True, help="Only warnings and errors.")
@_json
def fetch_command(
    job_id: str,
    *,
    out: Path | None,
    restart: bool,
    no_plot: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Write the surface of a job, as far as it is evaluated, and its pictures."""
    # Imported here, not above: they load ONNX Runtime, which the other commands do not need.
    from onnxscape.evaluation.report import Report, evaluated_points  # noqa: PLC0415
    from onnxscape.storage import save_without_loss  # noqa: PLC0415
    from onnxscape_cli.summary import draw, print_json, summarize  # noqa: PLC0415

    server = need_server(options)
    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    with server.client(terminal.note) as client:
        job = client.job(job_id)
        landscape = job.landscape(partial=True)
        where = str(client.address)
    count = evaluated_points(landscape)
    if not count:
        raise JobFailedError(f"nothing to write: {_unfinished(job)}")
    path = out or Path(f"{job.id}.h5")
    save_without_loss(landscape, path, overwrite=restart)
    if not landscape.complete:
        terminal.warning(_unfinished(job))
    pictures = [] if no_plot else draw(landscape, path, terminal)
    report = Report(landscape=landscape, computed=count, reused=0, seconds={})
    summarize(path, report, pictures, terminal, wrote=True)
    if as_json:
        print_json(path, report, pictures, terminal.warnings, job=job.id, server=where)
    return DONE


def _unfinished(job: RemoteJob) -> str:
    """Return what to know of a surface with gaps."""
    info = job.info
    if info.finished:
        return f"job {info.id} {info.state}: {info.done} of {info.total} points are there"
    return (
        f"job {info.id} is {info.state}: {info.done} of {info.total} points are there; fetch "
        "it again later"
    )


@command.command("server", cls=SectionedCommand)
@server_options
@_json
def server_command(*, as_json: bool, **options: Any) -> int:
    """Show what the server is, and what you may ask of it."""
    with need_server(options).client() as client:
        info = client.server_info()
        offered = client.offered()
    if as_json:
        click.echo(json.dumps(server_values(info, offered), allow_nan=False))
    else:
        click.echo(server_text(info, offered))
    return DONE
