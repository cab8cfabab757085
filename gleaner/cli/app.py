"""The command `gleaner`: its groups of commands, and how it ends."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from gleaner.cli.commands import (
    change,
    database,
    deploy,
    export,
    history,
    look,
    machine,
    service,
    start,
)
from gleaner.cli.commands.common import EXIT_FAILED, Failed
from gleaner.cli.commands.machine import say_version

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

app = typer.Typer(
    name="gleaner",
    help="Shows who uses every GPU, and puts the idle ones to work.",
    epilog="Start with `gleaner up`, then look: `gleaner status`, `gleaner why gpu1:0`, "
    "`gleaner events --follow`. To stop everything for now: `gleaner pause --for 2h`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (start, service, look, history, machine, export, database, change, deploy):
    app.add_typer(part.commands)


@app.callback()
def gleaner(
    wanted: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=say_version, help="Say the version."),
    ] = False,
) -> None:
    """Show who uses every GPU, and put the idle ones to work."""


def run() -> None:
    """Run a command; end with 0, 1 (failed) or 2 (usage or configuration)."""
    if sys.stdout is None:
        # `gleaner … >&-`; else the first file or socket that is opened would take its place.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the end
    try:
        try:
            app()
        finally:
            # Here it can still be said that the disk is full.
            sys.stdout.flush()
    except Failed as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `gleaner events | head`: nobody reads any more.
        _forget_output()
        sys.exit(EXIT_FAILED)
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        print(f"standard output: {error.strerror}", file=sys.stderr)
        _forget_output()
        sys.exit(EXIT_FAILED)


def _forget_output() -> None:
    """Keep the interpreter from writing once more, at its end, what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
