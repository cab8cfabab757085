"""Which time a page of the past is about: a preset or two dates in the address; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A span that a page offers."""

    name: str
    text: str
    length: timedelta
    points: int
    """Of a chart: buckets that hold at least one sample, so that a gap means a gap."""


CHART_PRESETS = (
    Preset(name="hour", text="Hour", length=HOUR, points=120),
    Preset(name="day", text="Day", length=DAY, points=288),
    Preset(name="week", text="Week", length=7 * DAY, points=336),
    Preset(name="month", text="Month", length=30 * DAY, points=360),
    Preset(name="year", text="Year", length=365 * DAY, points=365),
)
USAGE_PRESETS = (
    Preset(name="day", text="24 hours", length=DAY, points=24),
    Preset(name="week", text="7 days", length=7 * DAY, points=7),
    Preset(name="month", text="30 days", length=30 * DAY, points=30),
    Preset(name="quarter", text="90 days", length=90 * DAY, points=90),
    Preset(name="year", text="Year", length=365 * DAY, points=365),
)
CUSTOM_POINTS = 360
NO_DATE = "What stands in the address is no date; dates are written like 2026-11-21."
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, kw_only=True)
class Span:
    """From when to when; `until` is not part of it."""

    since: datetime
    until: datetime
    preset: Preset | None
    """None: two dates."""
    problem: str | None = None
    """Why it is not the one that the address asks for."""
    is_over: bool = False
    """Whether it ended before now, so that nothing new belongs to it."""

    @property
    def points(self) -> int:
        """How many buckets a chart of it has at most."""
        return self.preset.points if self.preset else CUSTOM_POINTS

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.until - self.since


def span_of(
    asked: Mapping[str, str], presets: tuple[Preset, ...], default: str, now: datetime
) -> Span:
    """Return the span that an address asks for; the default, and why, where it makes no sense."""
    by_name = {preset.name: preset for preset in presets}
    if asked.get("since") or asked.get("until"):
        try:
            since = instant_of(asked["since"]) if asked.get("since") else None
            until = instant_of(asked["until"], is_end=True) if asked.get("until") else now
            since = since or until - by_name[default].length
        except (ValueError, OverflowError):
            return _preset(by_name[default], now, NO_DATE)
        if since >= until:
            why = "lies in the future" if since >= now else "is not before the last"
            return _preset(by_name[default], now, f"The first day {why}.")
        return Span(since=since, until=until, preset=None, is_over=until < now)
    name = asked.get("range") or default
    if name not in by_name:
        known = ", ".join(by_name)
        return _preset(by_name[default], now, f"There is no range {name!r}; there are {known}.")
    return _preset(by_name[name], now)


def instant_of(text: str, *, is_end: bool = False) -> datetime:
    """Return an instant written in an address, in UTC; of a bare date its begin or its end."""
    found = datetime.fromisoformat(text)
    at = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    if at.year < 1971 or at.year > 9000:
        raise ValueError("not a year that anything was recorded in")
    return at + DAY if is_end and _DATE.fullmatch(text) else at


def date_of(at: datetime, *, is_end: bool = False) -> str:
    """Return the date to write into a field; of an end the last day that belongs to it."""
    last = at - timedelta(microseconds=1) if is_end else at
    return f"{last:%Y-%m-%d}"


def _preset(preset: Preset, now: datetime, problem: str | None = None) -> Span:
    if problem is not None:
        problem += f" What is shown here is the range {preset.name!r}."
    return Span(since=now - preset.length, until=now, preset=preset, problem=problem)
