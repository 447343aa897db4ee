"""`onnxscape inspect`: what of a model moves, what stays, why, and what to know of a plot."""

from __future__ import annotations

import json
from pathlib import Path

import click

from onnxscape.core.direction import Ignore
from onnxscape.errors import NoParametersError
from onnxscape.graph.audit import inspect, printable
from onnxscape_cli.exit_status import DONE


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--ignore",
    type=click.Choice([i.value for i in Ignore]),
    default="biasbn",
    show_default=True,
    help="What directions leave alone.",
)
@click.option("--all", "everything", is_flag=True, help="List every constant and statistic.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(model: Path, *, ignore: str, everything: bool, as_json: bool) -> int:
    """Tell what onnxscape understands of MODEL, without running it.

    Each tensor is listed with its operator, role, filters, and whether a random direction
    moves it; warnings tell what to know before trusting a plot. The options are those of
    `eval`, and mean the same.
    """
    audit = inspect(model, ignore=ignore)
    if as_json:
        for concern in audit.warnings:
            click.echo(f"onnxscape: warning: {printable(str(concern))}", err=True)
        click.echo(json.dumps(audit.to_dict(), allow_nan=False))
    else:
        click.echo(audit.text(everything=everything))
    if not audit.totals.perturbed_tensors:
        raise NoParametersError(
            f"nothing to move: no tensor of {model} can be perturbed; the audit says why"
        )
    return DONE
