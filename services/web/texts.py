"""How numbers and ages are written; the page's script writes them the same (src/texts.ts)."""

from __future__ import annotations

from datetime import datetime


def age(since: datetime | None, now: datetime) -> str:
    """Return how long ago something was: `42 s`, `12 min`, `2 h 14 min`, `3 d 4 h`."""
    if since is None:
        return "–"
    seconds = max(0, int((now - since).total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def gibibytes(number: int | None) -> str:
    """Return bytes in GiB: `31.2`, `140`; `–` for no answer."""
    if number is None:
        return "–"
    amount = number / 2**30
    return f"{amount:.1f}" if amount < 100 else f"{amount:.0f}"


def whole(number: float | None, unit: str) -> str:
    """Return a number without decimals and its unit: `87 %`; `–` for no answer."""
    return "–" if number is None else f"{_half_up(number)} {unit}"


def share(part: float | None, total: float | None) -> int | None:
    """Return a share in whole percent from 0 to 100, or None."""
    if part is None or not total:
        return None
    return max(0, min(100, _half_up(100 * part / total)))


def milliseconds(seconds: float | None) -> str:
    """Return a duration as `3.2 ms` or `5.01 s`; `–` if it did not happen."""
    if seconds is None:
        return "–"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{_half_up(seconds * 1000)} ms"
    return f"{seconds:.2f} s"


def _half_up(number: float) -> int:
    """Round as JavaScript does; Python's round() goes to the even neighbour."""
    return int(number + 0.5) if number >= 0 else -int(-number + 0.5)


def quantity(number: float | None, unit: str = "h") -> str:
    """Return hours and what is like them: `0.25 h`, `12.5 h`, `1,204 h`; `–` for no answer."""
    if number is None:
        return "–"
    digits = 2 if 0 < number < 1 else 1 if number < 100 else 0
    return f"{number:,.{digits}f} {unit}".rstrip()
