"""`gleaner database`: what a database holds for people to read, and the three things to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from gleaner.cli.settings import Settings
from gleaner.runtime import Misconfigured
from gleaner.settings import DatabaseSettings
from services.recorder.settings import RecorderSettings
from services.recorder.storage import examine as looking
from services.recorder.upkeep import moving

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def url_of(settings: Settings, given: str | None) -> str:
    """Return the database that was named, else the recorder's; raise Misconfigured for others."""
    if given is None:
        return RecorderSettings(node=settings.node, database=settings.database).database_url
    try:
        DatabaseSettings(url=given)
    except ValueError:
        raise Misconfigured(
            "a database is sqlite:///path (four slashes for an absolute one) or "
            "postgresql://user@host/name"
        ) from None
    return given


async def migrate(settings: Settings, given: str | None) -> str:
    """Bring a database up to date; say what was done."""
    done = await moving.bring_up_to_date(url_of(settings, given), _aside)
    layout = (
        f"has the newest layout, {done.after}"
        if done.before == done.after
        else f"layout {done.before or 'none'} -> {done.after}"
    )
    return f"{done.name}: {layout}" + ("; it can shrink now" if done.can_shrink_now else "")


async def copy(settings: Settings, source: str, target: str) -> str:
    """Copy a database into an empty one; say how much that was."""
    of, to = url_of(settings, source), url_of(settings, target)
    rows = await moving.copy(of, to, _aside)
    return f"{rows} rows were copied and counted; set database.url to use them"


def _aside(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


async def check(settings: Settings, given: str | None) -> looking.Examined:
    """Look at a database."""
    return await looking.examine(url_of(settings, given))


def as_json(found: looking.Examined) -> dict[str, Any]:
    """Return a database as it was found, for programs."""
    return {
        "name": found.name,
        "is_well": found.is_well,
        "used_bytes": found.used_bytes,
        "findings": [asdict(finding) for finding in found.findings],
        "tables": [
            asdict(one) | {"oldest": _instant(one.oldest), "newest": _instant(one.newest)}
            for one in found.tables
        ],
    }


def findings(found: looking.Examined) -> Table:
    """Return what was looked at, for people to read."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for one in found.findings:
        table.add_row(Text(one.verdict, style=_COLOURS[one.verdict]), Text(one.text))
    return table


def sizes(found: Sequence[looking.TableSize]) -> Table:
    """Return the tables, the largest first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("table", "rows", "MB", "oldest (UTC)", "newest (UTC)"):
        table.add_column(heading, justify="right" if heading in ("rows", "MB") else "left")
    for one in sorted(found, key=lambda one: (-(one.bytes or 0), one.name)):
        taken = "–" if one.bytes is None else f"{one.bytes / 1e6:.1f}"
        table.add_row(one.name, str(one.rows), taken, _shown(one.oldest), _shown(one.newest))
    return table


def _shown(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
