"""`onnxscape inspect`: what of a model moves, what stays, why, and what to know of a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from onnxscape.data.arrays import read_npz
from onnxscape.errors import NoParametersError
from onnxscape.graph.audit import inspect, printable
from onnxscape_cli.exit_status import DONE
from onnxscape_cli.model_options import model_options
from onnxscape_cli.sections import SectionedCommand, section

_output = section("Output")


@click.command("inspect", cls=SectionedCommand)
@click.argument("model", type=click.Path(path_type=Path))
@model_options
@_output("--all", "everything", is_flag=True, help="List every constant and statistic.")
@_output("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    model: Path, *, weights: Path | None, everything: bool, as_json: bool, **options: Any
) -> int:
    """Tell what onnxscape understands of MODEL, without running it.

    Each tensor is listed with its operator, role, filters, and whether a random direction
    moves it; warnings tell what to know before trusting a plot. Options that `eval`
    has as well mean the same there.
    """
    given = None if weights is None else read_npz(weights)
    audit = inspect(model, weights=given, **options)
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
