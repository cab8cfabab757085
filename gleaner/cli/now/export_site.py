"""`gleaner export site`: write the static page and its table, once or again and again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from gleaner.cli.comma import comma_separated
from gleaner.cli.now.site import COLUMNS, cards, rows
from gleaner.cli.now.site_page import render
from gleaner.cli.now.status import heard
from gleaner.cli.now.users import NOTHING_ELSE
from gleaner.cli.now.watch import Line, listening
from gleaner.cli.settings import Settings
from gleaner.fleet import FleetView
from gleaner.names import Called
from gleaner.runtime import write_atomically

LOST = "The broker cannot be reached: nothing here is current."
PUBLIC = 0o644
"""Another program's web server has to read it."""


def write(
    directory: Path,
    view: FleetView,
    called: Called = NOTHING_ELSE,
    *,
    problem: str = "",
    every_seconds: float | None = None,
) -> None:
    """Write `index.html` and `load_data.csv`; a reader sees each old or new, never half."""
    directory.mkdir(parents=True, exist_ok=True)
    page = render(
        cards(view, called),
        written_at=view.at,
        zone=None,
        problem=problem,
        every_seconds=every_seconds,
    )
    write_atomically(directory / "load_data.csv", comma_separated(COLUMNS, rows(view)), PUBLIC)
    write_atomically(directory / "index.html", page, PUBLIC)


async def export(
    settings: Settings, directory: Path, every_seconds: float | None, say: Callable[[str], None]
) -> None:
    """Write how the fleet is now, and with an interval go on until cancelled."""
    async with listening(settings) as line:
        if every_seconds is not None:
            say(f"{directory}: written each {every_seconds:g} s until Ctrl-C.")
        called = Called(nodes=settings.web.display_names, models=settings.web.model_names)
        await export_from(line, directory, every_seconds, say, called)


async def export_from(
    line: Line,
    directory: Path,
    every_seconds: float | None,
    say: Callable[[str], None],
    called: Called = NOTHING_ELSE,
) -> None:
    """Write what is heard; with an interval at each multiple of it since the start.

    Once, an OSError is the caller's. Again and again, a full disk or a lost broker is said and
    waited out, and so is its end.
    """
    await heard(line.fleet)
    if every_seconds is None:
        write(directory, line.now(), called)
        return
    clock = asyncio.get_running_loop().time
    began, said = clock(), ""
    while True:
        problem = "" if line.lost_at is None else LOST
        try:
            write(directory, line.now(), called, problem=problem, every_seconds=every_seconds)
        except OSError as error:
            problem = describe(error, directory)
        if problem != said:
            say(problem or f"{directory}: current again.")
        said = problem
        passed = clock() - began
        await asyncio.sleep(every_seconds - passed % every_seconds)


def describe(error: OSError, directory: Path) -> str:
    """Say in one line which file could not be written, and why."""
    if isinstance(error, FileExistsError):
        return f"{directory}: it is there and is no folder"
    return f"{error.filename or directory}: {error.strerror}"


def to_standard_error(text: str) -> None:
    """Say something to whoever reads the log."""
    print(text, file=sys.stderr, flush=True)
