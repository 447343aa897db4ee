"""An audit for people: a header, tables by fate, one line of totals, warnings; 80 columns."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from onnxscape.core.parameter import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from onnxscape.graph.audit.result import Audit, AuditedParameter, ModelFacts

WIDTH = 80
"""No line is longer."""

MANY = 12
"""So many constants or statistics of one kind are still listed one by one."""

_NAME = 20
"""A name keeps at least so many characters."""


def as_text(audit: Audit, *, everything: bool) -> str:
    """Write an audit for people.

    Args:
        audit: The audit.
        everything: Whether to list constants and statistics one by one where there are many.

    Returns:
        Lines of at most `WIDTH` characters, without a newline at the end.
    """
    lines = [*_header(audit.model), "", *_tables(audit.parameters, everything=everything)]
    lines += _wrapped(_totals(audit), "", "")
    for concern in audit.warnings:
        lines += ["", *_wrapped(f"{concern.kind}: {concern.text}", "warning  ", " " * 9)]
    return "\n".join(lines)


def printable(text: str) -> str:
    """Replace what would steer a terminal: names in a file may hold anything.

    Args:
        text: One line.

    Returns:
        The line, of printable characters only.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shortened(text: str, width: int) -> str:
    """Cut the middle out of a text that is too long.

    Args:
        text: The text.
        width: Characters it may have.

    Returns:
        The text, or its two ends around an ellipsis.
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_on_hyphens=False,
    )


# --- the header ------------------------------------------------------------------------------


def _header(model: ModelFacts) -> Iterator[str]:
    for label, text in _rows(model):
        yield from _wrapped(text, f"{label:<10}  ", " " * 12)


def _rows(model: ModelFacts) -> Iterator[tuple[str, str]]:
    external = " and external data" if model.external_data else ""
    yield "model", f"{model.name}, {model.bytes:,} bytes{external}"
    yield "sha256", model.digest
    opsets = ", ".join(f"{domain} {version}" for domain, version in model.opsets.items())
    producer = f"{model.producer}; " if model.producer else ""
    yield "written by", f"{producer}IR version {model.ir_version}, operator set {opsets}"
    for label, values in (("input", model.inputs), ("output", model.outputs)):
        for value in values:
            yield label, str(value)
    if model.loss is not None:
        yield "loss", f"{model.loss} fits this output"
    counts = ", ".join(f"{count} {op}" for op, count in model.operators.items())
    yield "nodes", f"{sum(model.operators.values())}: {counts}"
    yield "weights", ", ".join(model.weight_types) or "none"
    if model.batch is not None:
        lifted = ", made dynamic" if model.batch_made_dynamic else ""
        yield "batch", f"{model.batch}{lifted}"
    if model.folded_batch_norms:
        text = (
            f"{model.folded_batch_norms} of {model.batch_norms} BatchNormalization, when "
            "evaluated; the surface stays the same"
        )
        yield "folding", text


# --- the tables ------------------------------------------------------------------------------


def _tables(parameters: Iterable[AuditedParameter], *, everything: bool) -> Iterator[str]:
    """Yield a table for each fate: what moves first, then by role and reason."""
    roles = list(Role)

    def fate(p: AuditedParameter) -> tuple[bool, int, str]:
        return not p.perturbed, roles.index(p.role), _why(p)

    for _, members in groupby(sorted(parameters, key=fate), key=fate):
        rows = list(members)
        yield from _wrapped(_heading(rows), "", "  ")
        few = rows[0].role not in {Role.CONSTANT, Role.STATISTIC} or len(rows) <= MANY
        yield from _table(rows) if few or everything else ("  (--all lists them)",)
        yield ""


def _heading(rows: Sequence[AuditedParameter]) -> str:
    fate = "MOVES" if rows[0].perturbed else "STAYS"
    values = sum(p.values for p in rows)
    counts = [_counted(len(rows), "tensor"), _counted(values, "value")]
    if rows[0].filters is not None:
        counts.append(_counted(sum(p.filters or 0 for p in rows), "filter"))
    role, why = rows[0].role, _why(rows[0])
    return f"{fate}  {role}: {', '.join(counts)}{f'  ({why})' if why else ''}"


def _why(p: AuditedParameter) -> str:
    """Return the reason without what the table says anyway."""
    reason = p.reason.replace(f" of {p.op}", "")
    return "" if reason == p.role else reason.removeprefix(f"{p.role}: ")


_RIGHT = frozenset({"axis", "filters", "values"})


def _table(rows: Sequence[AuditedParameter]) -> Iterator[str]:
    """Yield one line per tensor, counts aligned at the right, long names shortened."""
    columns = {
        "name": [printable(p.name) for p in rows],
        "shape": [shortened("x".join(map(str, p.shape)) or "scalar", 18) for p in rows],
        "op": [shortened(printable(p.op), 18) for p in rows],
    }
    if any(p.filters is not None for p in rows):
        columns["axis"] = ["-" if p.filter_axis is None else str(p.filter_axis) for p in rows]
        columns["filters"] = [f"{p.filters or 0:,}" for p in rows]
    columns["values"] = [f"{p.values:,}" for p in rows]
    widths = {title: max(len(title), *map(len, cells)) for title, cells in columns.items()}
    others = sum(width + 2 for title, width in widths.items() if title != "name")
    widths["name"] = min(widths["name"], max(_NAME, WIDTH - 2 - others))
    cells = [list(columns), *zip(*columns.values(), strict=True)]
    for line in cells:
        yield "  " + "  ".join(
            f"{shortened(cell, width):{'>' if title in _RIGHT else '<'}{width}}"
            for cell, (title, width) in zip(line, widths.items(), strict=True)
        )


# --- the totals ------------------------------------------------------------------------------


def _totals(audit: Audit) -> str:
    totals = audit.totals
    share = "" if totals.share is None else f" ({totals.share:.1%})".replace("%", " %")
    verb = "moves" if totals.perturbed_values == 1 else "move"
    return (
        f"{totals.perturbed_values:,} of {totals.trainable_values:,} {totals.noun} {verb}"
        f"{share}, in {_counted(totals.perturbed_tensors, 'tensor')} and "
        f"{_counted(totals.filters, 'filter')}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
