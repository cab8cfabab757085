"""What all commands share: options, how settings are read, how a failure is told."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from gleaner.cli.settings import Settings

EXIT_FAILED, EXIT_USAGE = 1, 2
PIPE_COLUMNS = 1000
START, LOOK, DEPLOY = "Start", "Look", "Deploy (on the server, beside its containers)"
CHANGE = "Change (for who may read the operator's password)"

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The configuration file; else $GLEANER_CONFIG, ./gleaner.toml, the user's, "
        "/etc/gleaner/gleaner.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Csv = Annotated[bool, typer.Option("--csv", help="As CSV, for spreadsheets.")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", help="From when: 12h or 30d (ago), 2026-11-01, 2026-11-01T08:00 (UTC)."
    ),
]
Until = Annotated[
    str | None, typer.Option("--until", help="Until when, written as `--since`; else until now.")
]


class Failed(Exception):
    """What was asked for cannot be done; one line for each reason."""

    def __init__(self, *lines: str, code: int = EXIT_FAILED) -> None:
        super().__init__("\n".join(lines))
        self.code = code


def group(text: str | None = None) -> typer.Typer:
    """Return a group of commands; with a text, one that is a command of its own."""
    return typer.Typer(help=text, no_args_is_help=text is not None, rich_markup_mode="markdown")


def screen(*, highlight: bool = True) -> Console:
    """Return where tables go: no wider than the terminal; in a pipe a line stays one line."""
    from rich.console import Console

    is_free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPE_COLUMNS if is_free else None, highlight=highlight)


def load(config: Path | None) -> Settings:
    """Read the whole file; a mistake in it is a mistake of usage."""
    from gleaner.cli.settings import Settings
    from gleaner.settings import SettingsError
    from gleaner.settings import load as read

    try:
        return read(Settings, config)
    except SettingsError as error:
        raise Failed(*error.mistakes, code=EXIT_USAGE) from error


def wait_for(doing: Coroutine[Any, Any, Any]) -> Any:
    """Do it; what the bus or the scheduler refuses is a failure."""
    from gleaner.client import RequestFailed
    from gleaner.runtime import Fatal, Misconfigured

    logging.basicConfig(level=logging.WARNING, format="gleaner: %(message)s", stream=sys.stderr)
    try:
        return asyncio.run(doing)
    except RequestFailed as error:
        # A refusal is mostly for want of an account.
        hint = (
            "; ask as who runs `gleaner up`, or with [bus] user and password_file"
            if "Not authorized" in str(error)
            else ""
        )
        raise Failed(f"{error}{hint}") from error
    except Misconfigured as error:
        raise Failed(str(error), code=EXIT_USAGE) from error
    except Fatal as error:
        raise Failed(str(error)) from error


_LONGEST_SECONDS = 100 * 365 * 86400


def seconds_of(option: str, text: str) -> float:
    """Return the duration that an option names."""
    from gleaner.cli.words import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise Failed(f"{option}: {error}", code=EXIT_USAGE) from error
    if seconds > _LONGEST_SECONDS:
        raise Failed(f"{option}: {text} is more than a hundred years", code=EXIT_USAGE)
    return seconds


def span_of(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the instants that `--since` and `--until` name, if they make sense."""
    from gleaner.cli.words import parse_instant

    now = datetime.now(UTC)
    found: list[datetime | None] = []
    for option, text in (("--since", since), ("--until", until)):
        try:
            found.append(None if text is None else parse_instant(text, now))
        except ValueError as error:
            raise Failed(f"{option}: {error}", code=EXIT_USAGE) from error
    begin, end = found
    if begin is not None and begin >= now:
        raise Failed(f"--since: {since} is not past; nothing is recorded yet", code=EXIT_USAGE)
    if begin is not None and end is not None and begin >= end:
        raise Failed(f"--since: {since} is not before --until {until}", code=EXIT_USAGE)
    return begin, end


def refuse_both(*, as_json: bool, as_csv: bool) -> None:
    """Refuse two formats at once."""
    if as_json and as_csv:
        raise Failed("--json or --csv, not both", code=EXIT_USAGE)
