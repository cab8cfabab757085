"""Whether history is kept, in words: the same on the page and in a terminal; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from gleaner.bus.messages import Availability, RecorderState


def problem_of(state: RecorderState | None, recorders: Iterable[Availability]) -> str | None:
    """Say what an administrator should know; None: all is well, or there never was a recorder."""
    known = list(recorders)
    if known and all(one.state == "offline" for one in known):
        return "The recorder is not running: what happens waits at the nodes until it is back."
    if state is None:
        return None
    if state.problem:
        return f"Nothing is recorded, what happens waits at the nodes: {state.problem}."
    if state.behind_since is not None:
        return (
            f"The recorder is behind: since {state.behind_since:%Y-%m-%d %H:%M} UTC samples wait "
            "to be summed up. Nothing is lost."
        )
    if state.kept_aside:
        name, at = max(state.kept_aside.items(), key=lambda one: one[1])
        if name.endswith("-wal"):
            return (
                f"The database's log was damaged: what was recorded last before "
                f"{at:%Y-%m-%d %H:%M} UTC is missing. The log is kept beside it as {name}, until "
                "you move it."
            )
        return (
            f"The database was damaged: history begins at {at:%Y-%m-%d %H:%M} UTC. What was there "
            f"before is kept beside it as {name}, until you move it."
        )
    return None


def zone_of(state: RecorderState | None) -> str:
    """Return where days and hours of the day are counted, behind "in"."""
    return (state.time_zone if state else None) or "the recorder's time zone"


def facts_of(state: RecorderState | None) -> list[str]:
    """Return how large history is, how far it goes back, and what is missing in it."""
    if state is None:
        return []
    facts = []
    if state.used_bytes is not None:
        most = "" if state.max_bytes is None else f" of at most {_size(state.max_bytes)}"
        facts.append(f"{_size(state.used_bytes)}{most}")
    facts += [
        f"{_NAMES.get(name, name)} since {_local_day(at) if name == 'days' else at:%Y-%m-%d}"
        for name, at in state.oldest.items()
    ]
    facts += [
        f"for want of room no {_NAMES.get(name, name)} before {at:%Y-%m-%d %H:%M}"
        for name, at in state.shortened.items()
    ]
    if state.lost_events:
        facts.append(f"{state.lost_events} events are missing")
    if state.unreadable_messages:
        facts.append(f"{state.unreadable_messages} messages were unreadable")
    facts += [f"kept aside: {name}" for name in state.kept_aside]
    return facts


def has_sums(state: RecorderState | None) -> bool:
    """Whether anything was ever summed up."""
    return state is not None and not _SUMS.isdisjoint(state.oldest)


def nothing_of(
    state: RecorderState | None, at: datetime, until: datetime, *, is_fine: bool = False
) -> str:
    """Say why nothing is there of a time up to `until`, and when something will be.

    `is_fine`: what is asked for is made of single samples, not of sums.
    """
    oldest = {} if state is None else state.oldest
    if not has_sums(state):
        began = oldest.get("samples")
        if is_fine:
            return "Nothing is recorded yet: what happens now appears here within two minutes."
        if began is None or at > began + SOON:
            return (
                "Nothing is recorded yet: what happens now is summed up for each five minutes, "
                "and appears here within ten."
            )
        return (
            f"Recording has begun. The first five minutes, from {began:%H:%M} UTC on, appear here "
            f"at about {began + FIRST:%H:%M} UTC."
        )
    if until <= (begin := min(oldest[name] for name in _SUMS & oldest.keys())):
        return f"Nothing was recorded in this time: history begins on {_local_day(begin)}."
    return "Nothing was recorded in this time."


FIRST = timedelta(minutes=7)
"""Sums of five minutes are made when they are over and the last samples of them have come."""
SOON = timedelta(minutes=10)
_SUMS = frozenset(("five_minutes", "hours", "days"))
_NAMES = {
    "samples": "single samples",
    "five_minutes": "sums of five minutes",
    "hours": "hours",
    "days": "days",
}


def _local_day(at: datetime) -> date:
    """Return the date of a day that begins at some midnight: that nearest to it in UTC.

    Right from ten hours behind UTC to thirteen ahead of it, also where no names of zones are
    installed.
    """
    return (at + timedelta(hours=13)).date()


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
