"""Makes the tables of `benchmarks/README.md` from the results beside it.

    python benchmarks/tables.py           # writes them
    python benchmarks/tables.py --check   # only says whether they are those of the results

A table stands between two lines, `<!-- table: NAME -->` and `<!-- end of table -->`. It shows
the last result of its kind in `results/NAME.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

Record = dict[str, Any]


def rendered(text: str, results: Path) -> str:
    """Return a page with its tables made from results.

    Args:
        text: The page.
        results: Folder with one file of JSON lines per table.

    Returns:
        The page; what stands outside of tables is unchanged.

    Raises:
        ValueError: If the page has no table, or one that is not known.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match[2]
        if name not in TABLES:
            raise ValueError(f"expected a table {', '.join(TABLES)}; got {name!r}")
        make, keys = TABLES[name]
        return f"{match[1]}\n{make(_latest(results / f'{name}.jsonl', keys))}\n{match[3]}"

    new, count = _TABLE.subn(replaced, text)
    if not count:
        raise ValueError("expected lines <!-- table: NAME --> and <!-- end of table -->")
    return new


def _latest(path: Path, keys: Sequence[str]) -> list[Record]:
    """Return the last record of each combination of some fields, in order of appearance."""
    found: dict[tuple[Any, ...], Record] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        found[tuple(record[key] for key in keys)] = record
    return list(found.values())


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def _where(record: Record) -> str:
    """Return machine, versions and date as a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    day, device, load = record["when"][:10], record["device"], record["load_before"][0]
    return f"{device}, {record['threads']} threads, {day}, load before {load:g}; {versions}."


def _number(value: float) -> str:
    """Return a number with three or four digits."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _peers(records: Sequence[Record]) -> str:
    return "\n".join(_contest(record) for record in records)


def _contest(record: Record) -> str:
    rows = []
    for row in record["rows"]:
        name = f"{row['name']} ({row['note']})" if row["note"] else row["name"]
        if row.get("error", "").startswith("ModuleNotFoundError"):
            continue  # not installed there
        if "error" in row:
            rows.append([name, row["batch"], "failed", row["error"], ""])
            continue
        low, _, high = row["over_bare_blocks"]
        spread = f"{row['over_bare']:.2f} ({low:.2f} to {high:.2f})"
        deviation = row.get("deviation")
        shown = "" if deviation is None else f"{deviation:.0e}"
        rows.append([name, row["batch"], _number(row["ms_per_point"]), spread, shown])
    head = ["contestant", "batch", "ms per point", "ratio (half of the blocks)", "deviation"]
    title = (
        f"**{record['model']}**, {record['kind'].upper()}, {record['samples']} samples, "
        f"{record['points']} points, in blocks of {record['block']}:\n"
    )
    parts = [title, _table(head, rows)]
    setup = record["setup_seconds"]
    if setup:
        taken = ", ".join(
            f"{name} {seconds if isinstance(seconds, str) else f'{seconds:.2g} s'}"
            for name, seconds in setup.items()
        )
        parts.append(f"Before their first point, and in no ratio: {taken}.\n")
    process = record.get("process")
    if process:
        parts.append(
            f"The whole of `onnxscape eval` for {process['points']} points, "
            f"{process['pictures']} pictures included: {_number(process['seconds'])} s, "
            f"{process['over_bare']:.2f} times the bare passes, "
            f"{_number(process['beyond_bare_seconds'])} s more than they.\n"
        )
    parts.append(_where(record) + "\n")
    return "\n".join(parts)


def _scaling(records: Sequence[Record]) -> str:
    return "\n".join(_curve(record) for record in records)


def _curve(record: Record) -> str:
    whole = record["curve"] == "points"
    head = [record["curve"], "bare, ms per point", "loop, ms per point", "ratio", "start, s"]
    rows = []
    for line in record["lines"]:
        row = [line["name"], _number(line["bare_ms"]), _number(line["loop_ms"])]
        row += [f"{line['over_bare']:.2f}", _number(line["start_seconds"])]
        rows.append([*row, _number(line["whole_seconds"])] if whole else row)
    table = _table([*head, "whole run, s"] if whole else head, rows)
    samples = sorted({line["samples"] for line in record["lines"]})
    told = "" if record["curve"] == "samples" else f"{', '.join(map(str, samples))} samples. "
    return f"{table}\n{told}{_where(record)}\n"


def _memory(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        for name, label in (
            ("resident", "held by the process"),
            ("traced", "Python's own"),
            ("bare", "held by one that only makes the sessions"),
        ):
            mib, growth = record[f"{name}_mib"], record[f"{name}_growth_mib"]
            each = growth * 2**20 / (record["every"] * (len(mib) - 1))
            rows.append(
                [
                    record["model"],
                    record["points"],
                    label,
                    f"{mib[0]:.2f}",
                    f"{mib[-1]:.2f}",
                    f"{growth:+.2f} ({each:.0f} bytes per point)",
                ]
            )
    head = ["model", "points", "memory", f"MiB after {records[0]['every']} points"]
    table = _table([*head, "after the last", "growth"], rows)
    return f"{table}\n{_where(records[-1])}\n"


TABLES: dict[str, tuple[Callable[[Sequence[Record]], str], tuple[str, ...]]] = {
    "peers": (_peers, ("model", "kind")),
    "scaling": (_scaling, ("curve", "kind")),
    "memory": (_memory, ("model", "kind")),
}
"""Table to what makes it, and the fields of which each combination is shown once."""


def main() -> int:
    """Write the tables, or check them.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--page", type=Path, default=HERE / "README.md")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    old = options.page.read_text()
    new = rendered(old, options.results)
    if new == old:
        print(f"{options.page.name}: the tables are those of the results")
    elif options.check:
        print(f"{options.page}: run python {Path(__file__).name}", file=sys.stderr)
        return 1
    else:
        options.page.write_text(new)
        print(f"{options.page.name}: tables written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
