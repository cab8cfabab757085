"""Whom and what an event names, and how the index of that is written; pure.

Data are kept packed, so no index of the database knows what is in them. What can be asked for has
lists of its own in `mention`: each says by its number what it is about, and of each event in it
when it was, its kind and state, and, in those of nodes, its GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from gleaner.bus.messages import EventKind, GpuCondition, RunState

MOST = 100
"""Names of one sort in one event; how many there are is a node's choice."""
NAME_CHARACTERS = 200

STATES: Mapping[str, Sequence[str]] = {
    EventKind.GPU: tuple(GpuCondition),
    EventKind.RUN: tuple(RunState),
}
_ACTIVE = re.compile(r"(?:nobody can tell whether )?(.+?) is active at ")


class Sort(IntEnum):
    """What a list is about."""

    WHAT = 0
    """A kind and a state, as `what_of` writes them."""
    NODE = 1
    USER = 2
    ENTRY = 3


@dataclass(frozen=True, kw_only=True)
class Mentions:
    """What one event names beside its node."""

    what: str
    users: frozenset[str] = frozenset()
    entries: frozenset[str] = frozenset()

    @property
    def texts(self) -> frozenset[str]:
        """All that needs a number."""
        return self.users | self.entries | {self.what}

    def lists(self, node: int, numbers: Mapping[str, int]) -> Iterator[int]:
        """Yield the lists that the event is in."""
        yield about(Sort.WHAT, numbers[self.what])
        yield about(Sort.NODE, node)
        for user in self.users:
            yield about(Sort.USER, numbers[user])
        for entry in self.entries:
            yield about(Sort.ENTRY, numbers[entry])


def about(sort: Sort, number: int) -> int:
    """Return the number of a list: that of a name, and what the name is."""
    return number << 2 | sort


def is_of(sort: Sort, number: int) -> bool:
    """Tell what a list is about."""
    return number & 3 == sort


def name_of(number: int) -> int:
    """Return the number of the name that a list is about."""
    return number >> 2


def what_of(kind: str, state: object = None) -> str:
    """Return a kind and a state as one text; a state that its kind does not know is none."""
    known = STATES.get(kind, ())
    return f"{kind} {state if isinstance(state, str) and state in known else ''}"


def clean(text: str) -> str:
    """Return a text without NUL, which PostgreSQL does not keep."""
    return text.replace("\0", "�")


def is_fit(name: str) -> bool:
    """Tell whether a name is short enough and has nothing in it that no database takes."""
    if not 0 < len(name) <= NAME_CHARACTERS or "\0" in name:
        return False
    return name.isascii() or not any("\ud800" <= one <= "\udfff" for one in name)


def mentions_of(kind: str, data: Mapping[str, Any]) -> Mentions:
    """Return what an event names."""
    users = {*_values(data, "user")}
    if kind == EventKind.PEOPLE and isinstance(data.get("reason"), str):
        # Who is at a terminal is told in words only.
        found = _ACTIVE.match(data["reason"])
        users |= {_fit(found[1])} if found else set()
    return Mentions(
        what=what_of(kind, data.get("state")),
        users=_some(users),
        entries=_some({*_values(data, "entry")}),
    )


def _values(data: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield what an event and those who hold its GPU have under a name."""
    holders = data.get("holders")
    for one in (data, *(holders if isinstance(holders, list) else ())):
        if isinstance(one, Mapping) and isinstance(one.get(name), str):
            yield _fit(one[name])


def _fit(name: str) -> str:
    return clean(name)[:NAME_CHARACTERS]


def _some(names: set[str]) -> frozenset[str]:
    return frozenset(sorted(names - {""})[:MOST])
