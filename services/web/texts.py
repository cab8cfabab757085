"""How numbers and ages are written; the page's script writes them the same (src/texts.ts)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

TENTH_OF_AN_HOUR = 360
SMALLEST = 0.01
"""Of hours and what is like them; what is less must not look like nothing."""


def age(since: datetime | None, now: datetime) -> str:
    """Return how long ago something was; `–` if it never was."""
    return "–" if since is None else duration((now - since).total_seconds())


def duration(length: float) -> str:
    """Return how long something lasts: `42 s`, `12 min`, `2 h 14 min`, `3 d 4 h`."""
    seconds = max(0, int(length))
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


def memory(number: int | None) -> str:
    """Return bytes as `31.2 GiB`; `–` for no answer."""
    return "–" if number is None else f"{gibibytes(number)} GiB"


def rate(bytes_per_second: float | None) -> str:
    """Return what goes over a network: `8.0 MB/s`; `–` for no answer."""
    return "–" if bytes_per_second is None else f"{bytes_per_second / 1e6:.1f} MB/s"


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


def amount(number: int | None) -> str:
    """Return an amount of memory: `900 MiB`, and from 1024 on `1.37 GiB`."""
    if number is None:
        return "–"
    mebibytes = number / 2**20
    return f"{_half_up(mebibytes)} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.2f} GiB"


def hours(since: datetime | None, now: datetime) -> str:
    """Return how many hours ago something was: `5.2`; what would be 0.0 as `1 min`."""
    if since is None:
        return "–"
    length = (now - since).total_seconds()
    return f"{length / 3600:.1f}" if length >= TENTH_OF_AN_HOUR else duration(length)


def ratio(part: float | None, total: float | None) -> int | None:
    """Return a share in whole percent that may be more than 100, or None."""
    return None if part is None or not total else _half_up(100 * part / total)


def level(percent: float | None, low: float, high: float) -> str:
    """Return `low` up to the first threshold, `mid` up to the second, `high` above; `none`."""
    if percent is None:
        return "none"
    return "low" if percent <= low else "mid" if percent <= high else "high"


def spark(minutes: Sequence[int | None]) -> str:
    """Return the path of a line through a row of percents, in a box of 59 × 100; gaps stay open."""
    steps, is_drawing = [], False
    for x, value in enumerate(minutes):
        if value is None:
            is_drawing = False
            continue
        # A minute alone between two gaps is a dot: a line of no length with round ends.
        steps.append(f"{'L' if is_drawing else f'M{x} {100 - value}L'}{x} {100 - value}")
        is_drawing = True
    return "".join(steps)


def spark_text(minutes: Sequence[int | None]) -> str:
    """Say in words what the line shows."""
    known = [value for value in minutes if value is not None]
    mean = _half_up(sum(known) / len(known)) if known else 0
    return f"utilization in the last hour: {mean} % in the mean, at most {max(known, default=0)} %"


def _half_up(number: float) -> int:
    """Round as JavaScript does; Python's round() goes to the even neighbour."""
    return int(number + 0.5) if number >= 0 else -int(-number + 0.5)


def quantity(number: float | None, unit: str = "h") -> str:
    """Return hours and what is like them: `0.25 h`, `12.5 h`, `1,204 h`; `–` for no answer."""
    if number is None:
        return "–"
    if 0 < number < SMALLEST / 2:
        return f"< {SMALLEST} {unit}".rstrip()
    digits = 2 if 0 < number < 1 else 1 if number < 100 else 0
    return f"{number:,.{digits}f} {unit}".rstrip()
