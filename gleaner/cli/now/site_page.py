"""The static page as HTML; every text is escaped, and nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gleaner.cli.now.site import Card, Verdict, counts
from gleaner.cli.words import duration, percent

RELOAD_SECONDS = 60
"""Of a page that is written again and again."""
OLD_SECONDS = 600
"""After so long nobody may take a page that was written once for how it is."""
LATE_SECONDS = 90
"""Beyond two intervals: the page may be as old as a reload, and clocks differ."""
SYMBOLS = {
    Verdict.FREE: "✓",
    Verdict.ON_DEMAND: "↻",
    Verdict.OCCUPIED: "✕",
    Verdict.LOST: "!",
    Verdict.UNKNOWN: "?",
}

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["percent"] = percent


def render(
    cards: Sequence[Card],
    *,
    written_at: datetime,
    zone: tzinfo | None,
    problem: str = "",
    every_seconds: float | None = None,
) -> str:
    """Return the page; instants are in this zone (None: that of this machine), and say so.

    `every_seconds`: so often it is written; None: once, and it does not reload itself.
    """

    def instant(at: datetime | None) -> str:
        return "never" if at is None else at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")

    return _environment.get_template("site.html").render(
        cards=cards,
        counts=counts(cards),
        instant=instant,
        problem=problem,
        every=None if every_seconds is None else duration(every_seconds),
        old_seconds=OLD_SECONDS if every_seconds is None else 2 * every_seconds + LATE_SECONDS,
        reload_seconds=RELOAD_SECONDS,
        symbols=SYMBOLS,
        written_at=written_at,
    )
