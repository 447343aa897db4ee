"""Help texts in sections: options of one subject stand together under its name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


class _SectionOption(click.Option):
    """An option that knows the section of the help text it stands in."""

    def __init__(self, *arguments: Any, section: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists its options section by section, in the order declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options.

        Args:
            ctx: What click knows of the call.
            formatter: Where to write.
        """
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                title = getattr(parameter, "section", "Help")
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def section(title: str) -> Callable[..., Callable[[Any], Any]]:
    """Return `click.option` for the options of one section.

    Args:
        title: Heading of the section.

    Returns:
        A decorator like `click.option`.
    """
    return partial(click.option, cls=_SectionOption, section=title)
