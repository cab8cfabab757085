"""Short words for people: durations, amounts, shares."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_YEARS = range(1970, 9999)
"""Nothing is recorded before, and the bus takes no instant after."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Return the seconds of `90s`, `2h`, `2d 3h`; raise ValueError that says what is expected."""
    position, seconds = 0, 0.0
    while position < len(text.rstrip()):
        part = _PART.match(text, position)
        if part is None:
            raise ValueError(f"{text!r} is no duration; expected something like 30m, 2h or 1d 12h")
        seconds += float(part[1]) * _UNITS[part[2].lower()]
        position = part.end()
    if seconds <= 0:
        raise ValueError(f"{text!r} is no duration; expected something like 30m, 2h or 1d 12h")
    return seconds


def parse_instant(text: str, now: datetime) -> datetime:
    """Return the instant of `7d` (ago), `2026-11-01` or `2026-11-01T08:00`, in UTC by default."""
    expected = "expected something like 7d, 2026-11-01 or 2026-11-01T08:00"
    try:
        at = _instant(text, now)
    except OverflowError:
        at = None
    except ValueError:
        raise ValueError(f"{text!r} is no time; {expected}") from None
    if at is None or at.year not in _YEARS:
        years = f"{_YEARS[0]} to {_YEARS[-1]}"
        raise ValueError(f"{text!r} lies outside the years {years}; {expected}")
    return at


def _instant(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return now - timedelta(seconds=parse_duration(text))
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def duration(seconds: float | None) -> str:
    """Say how long: the two largest units at most."""
    if seconds is None:
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def percent(value: float | None) -> str:
    """Say a share; an unknown one is a dash."""
    return "–" if value is None else f"{value:.0f} %"


def gibibytes(used: int | None, total: int | None) -> str:
    """Say how much of how much memory."""
    if used is None:
        return "–"
    return f"{used / 2**30:.1f}" + (f"/{total / 2**30:.0f} GiB" if total else " GiB")
