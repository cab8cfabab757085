"""People's use of some GPUs by the hour, from their sessions; pure.

Hours are kept for all GPUs together only: of each GPU they would be most of the database. A session
says exactly from when to when somebody was there; what was used in it is spread evenly over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, select, type_coerce

from services.recorder.schema import tables
from services.recorder.values import use
from services.recorder.values.columns import from_microseconds
from services.recorder.values.rollup import FIVE_MINUTES
from services.recorder.values.spans import Part

Totals = dict[str, Any]
Row = Mapping[str, Any]
_HOUR = timedelta(hours=1)
_EPOCH = from_microseconds(0)
_NAMES = ("device", "user", "entry", "begin", "end", *use.SUMS, *use.LIMITS)


def sessions_of(part: Part, devices: Iterable[int] | None, users: Iterable[int] | None) -> Any:
    """Return the SELECT of the sessions within a part, as they are stored; None: of all."""
    own = tables.session.c
    wanted: list[ColumnElement[bool]] = [own.end > part.begin, own.begin < part.end]
    if devices is not None:
        wanted.append(own.device.in_(list(devices)))
    if users is not None:
        wanted.append(own.user.in_(list(users)))
    columns = (type_coerce(own[name], BigInteger).label(name) for name in _NAMES)
    return select(*columns).where(*wanted)


def spread(sessions: Iterable[Row], part: Part, keys: Iterable[str]) -> Iterator[Totals]:
    """Yield what of each session lies within a part, with some of its columns."""
    names = tuple(keys)
    for one in sessions:
        begin, end = from_microseconds(one["begin"]), from_microseconds(one["end"])
        yield {name: one[name] for name in names} | _piece(
            one, begin, end, max(begin, part.begin), min(end, part.end)
        )


def spread_by_hour(
    sessions: Iterable[Row],
    part: Part,
    hour_of: Callable[[datetime], datetime],
    key_of: Callable[[int], Totals],
) -> Iterator[Totals]:
    """Yield what of each session lies within each hour of a part, with the key of that hour."""
    for one in sessions:
        begin, end = from_microseconds(one["begin"]), from_microseconds(one["end"])
        at, last = max(begin, part.begin), min(end, part.end)
        while at < last:
            hour = hour_of(at)
            later = min(last, hour + _HOUR)
            yield key_of((hour - _EPOCH) // FIVE_MINUTES.width) | _piece(one, begin, end, at, later)
            at = later


def _piece(one: Row, begin: datetime, end: datetime, since: datetime, until: datetime) -> Totals:
    share = (until - since) / (end - begin)
    return {name: round(one[name] * share) for name in use.SUMS} | {
        name: one[name] for name in use.LIMITS
    }
