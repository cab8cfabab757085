"""Which buckets a span is made of: as few as can be, months before days before hours; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.recorder.values.local_time import LocalTime, next_of, not_before
from services.recorder.values.rollup import DAY, HOUR, MONTH, Tier


@dataclass(frozen=True, kw_only=True)
class Part:
    """The buckets of one tier that begin within a span."""

    tier: Tier
    begin: datetime
    end: datetime


def parts(
    since: datetime, until: datetime, local: LocalTime, tiers: tuple[Tier, ...]
) -> list[Part]:
    """Return the buckets of a span, which grows to whole ones of the finest tier."""
    finest, *coarser = tiers
    begins = _begins(finest, local)
    found = [Part(tier=finest, begin=begins(since), end=not_before(begins, until))]
    for tier in coarser:
        found = [piece for part in found for piece in _with_whole(part, tier, local)]
    return found


def _with_whole(part: Part, tier: Tier, local: LocalTime) -> list[Part]:
    begins = _begins(tier, local)
    first, last = not_before(begins, part.begin), begins(part.end)
    if first >= last:
        return [part]
    pieces = (
        Part(tier=part.tier, begin=part.begin, end=first),
        Part(tier=tier, begin=first, end=last),
        Part(tier=part.tier, begin=last, end=part.end),
    )
    return [piece for piece in pieces if piece.begin < piece.end]


def of_one_offset(part: Part, local: LocalTime) -> list[tuple[Part, timedelta]]:
    """Return a part in pieces within which local time and UTC are equally far apart."""
    pieces: list[tuple[Part, timedelta]] = []
    begin, at = part.begin, part.begin
    offset = _offset(local, begin)
    while at < part.end:
        later = min(at + timedelta(days=1), part.end)
        if _offset(local, later) != offset:
            while _offset(local, at) == offset:
                at += timedelta(minutes=5)
            pieces.append((Part(tier=part.tier, begin=begin, end=min(at, part.end)), offset))
            begin, offset = at, _offset(local, at)
        else:
            at = later
    if begin < part.end:
        pieces.append((Part(tier=part.tier, begin=begin, end=part.end), offset))
    return pieces


def _offset(local: LocalTime, at: datetime) -> timedelta:
    return local.at(at).utcoffset() or timedelta()


def months(since: datetime, until: datetime, local: LocalTime) -> list[datetime]:
    """Return when the months of a span begin."""
    found = [local.month_of(since)]
    while (later := next_of(local.month_of, found[-1])) < until:
        found.append(later)
    return found


def _begins(tier: Tier, local: LocalTime) -> Callable[[datetime], datetime]:
    return {HOUR.name: local.hour_of, DAY.name: local.day_of, MONTH.name: local.month_of}[tier.name]
