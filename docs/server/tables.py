"""Makes the tables of `administration.md` from the code: settings, and metrics.

    python docs/server/tables.py           # writes them
    python docs/server/tables.py --check   # only says whether they are those of the code

A table stands between two lines, `<!-- made: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxscape.service.monitoring.metrics import Reading, ServerMetrics
from onnxscape.service.settings.config import ServerConfig
from onnxscape.service.settings.loading import SETTINGS
from onnxscape.service.settings.values import size

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).resolve().parent / "administration.md"

_PART = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str) -> str:
    """Return a page with its tables made from the code.

    Args:
        page: The page.

    Returns:
        The page; what stands outside of tables is unchanged.

    Raises:
        ValueError: If the page does not have each table once.
    """
    parts = {"settings": settings, "metrics": metrics}
    found = [match[2] for match in _PART.finditer(page)]
    if sorted(found) != sorted(parts):
        raise ValueError(
            f"expected '<!-- made: NAME -->' once for {', '.join(parts)}; got {found}"
        )
    return _PART.sub(lambda match: f"{match[1]}\n{parts[match[2]]()}\n{match[3]}", page)


def settings() -> str:
    """Return the tables of all settings, by section."""
    defaults = dataclasses.asdict(ServerConfig())
    sections: dict[str, list[tuple[str, str, str]]] = {}
    for name, setting in SETTINGS.items():
        default = _shown(defaults[name], is_size=setting.read is size)
        row = (f"`{name}`", f"`{default}`" if default else "", setting.meaning)
        sections.setdefault(setting.section, []).append(row)
    blocks = [
        f"**{section}**\n\n{_table(('setting', 'default', ''), rows)}"
        for section, rows in sections.items()
    ]
    return "\n\n".join(blocks) + "\n"


def _shown(value: Any, *, is_size: bool) -> str:
    """Return a value as one would write it; empty for none."""
    if value is None or value in ({}, ()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if is_size:
        power = max(p for p in (0, 10, 20, 30) if value % (1 << p) == 0)
        return f"{value >> power}{('', 'KiB', 'MiB', 'GiB')[power // 10]}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def metrics() -> str:
    """Return the table of all metrics of ours."""
    example = Reading(leases_lost={"time": 0}, workers_lost={"time": 0})
    collected = ServerMetrics(lambda: example)
    collected.call_begins("/method")
    collected.call_ends("/method", "OK", 0.0)
    rows = []
    for family in collected.registry.collect():
        if not family.name.startswith("onnxscape_"):
            continue
        labels = sorted({key for sample in family.samples for key in sample.labels} - {"le"})
        name = family.name + ("_total" if family.type == "counter" else "")
        shown = f"`{name}{{{', '.join(labels)}}}`" if labels else f"`{name}`"
        rows.append((shown, family.type, family.documentation))
    rows.append(
        ("`process_...`", "", "Of the server's process: memory, CPU time, open files.")
    )
    return _table(("metric", "type", ""), rows) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line).rstrip() + " |" for line in lines)


def main() -> int:
    """Run the command line.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    before = chosen.page.read_text()
    after = rendered(before)
    if not chosen.check:
        chosen.page.write_text(after)
    elif before != after:
        print(f"{chosen.page} is out of date: python docs/server/tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
