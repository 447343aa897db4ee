"""The `onnxscape` command: finds the sub-command and turns errors into one line."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

try:
    import click

    from onnxscape.errors import OnnxscapeError
    from onnxscape.version import __version__
    from onnxscape_cli.exit_status import DONE, INTERNAL, INTERRUPTED, exit_status
except KeyboardInterrupt:  # before `main` could catch it
    sys.stderr.write("onnxscape: interrupted\n")
    sys.exit(130)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_COMMANDS = {
    "eval": "Evaluate the loss landscape of a model.",
    "inspect": "Tell what moves in a model, what stays, and why.",
    "plot": "Draw surfaces that were evaluated before.",
    "data": "List and get data sets.",
    "jobs": "Order landscapes from a server, watch and fetch them.",
    "serve": "Run a server that computes landscapes for others.",
    "token": "Make, list and revoke the tokens of a server's users.",
}


class _LazyGroup(click.Group):
    """Imports a command's module when it is called: `--help` need not load ONNX Runtime."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        gc.disable()  # modules make many objects and no garbage: 0.2 s of looking for it
        try:
            module = importlib.import_module(f"onnxscape_cli.{cmd_name}")
        finally:
            gc.enable()
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onnxscape")
def cli() -> None:
    """Loss landscapes of any model that exports to ONNX."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: What stands behind the program's name; by default `sys.argv`'s.
    """
    _catch_signals()
    status = _run(arguments)
    gc.freeze()  # all is closed: to look through all modules once more takes half a second
    sys.exit(status)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        result: Any = cli.main(arguments, prog_name="onnxscape", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("onnxscape: interrupted", err=True)
        return INTERRUPTED
    except OnnxscapeError as error:
        click.echo(f"onnxscape: error: {error}", err=True)
        _trace_if_asked()
        return exit_status(error)
    except Exception as error:  # noqa: BLE001 - the last resort for the user
        click.echo(
            f"onnxscape: internal error: {type(error).__name__}: {error}; please report it "
            "with the traceback that ONNXSCAPE_TRACEBACK=1 shows",
            err=True,
        )
        _trace_if_asked()
        return INTERNAL
    return result if isinstance(result, int) else DONE


def _show(error: click.ClickException) -> None:
    """Say what is wrong with the command line, and where to look."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()  # the help itself
        return
    text = " ".join(error.format_message().split()).removesuffix(".")
    text = text[:1].lower() + text[1:]
    context = getattr(error, "ctx", None)
    where = "" if context is None else f" (see {context.command_path} --help)"
    click.echo(f"onnxscape: error: {text}{where}", err=True)


def _trace_if_asked() -> None:
    if os.environ.get("ONNXSCAPE_TRACEBACK"):
        traceback.print_exc()


def _catch_signals() -> None:
    """Let the first signal stop the work and the next ones wait until all is saved."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = [
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGHUP")
        if hasattr(signal, name)
    ]
    for number in numbers:
        # What the caller ignores (nohup) stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


if __name__ == "__main__":
    main()
