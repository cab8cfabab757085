"""Events by what only their data tell: the people, the workload, the state that they name.

Data are kept packed, so no index knows what is in them. Events are looked through from the newest,
a bounded number for one page; the cursor goes on where the looking ended, so that a filter finds
what is far back, and no question holds the recorder up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, LargeBinary, select, type_coerce

from gleaner.bus.messages import EventKind, GpuCondition, HistoryAnswer, HistoryQuery, RunState
from services.recorder.history import (
    BadQuestion,
    answer_of,
    conditions,
    cursor_of,
    people,
    rows_of,
)
from services.recorder.names import Names
from services.recorder.packing import unpack
from services.recorder.questions import Read
from services.recorder.tables import event, from_microseconds

LOOKED_THROUGH = 10_000
"""Events of one page: a seventh of a second or so."""
AT_ONCE = 1500
"""Between two readings others get their turn."""

_MICROSECONDS = type_coerce(event.c.at, BigInteger)
_KINDS_WITH_ENTRY = frozenset({EventKind.GPU, EventKind.RUN, EventKind.SHORT_PROCESS})
_KINDS_WITH_USER = _KINDS_WITH_ENTRY | {EventKind.PEOPLE}
_STATES: Mapping[EventKind, Sequence[str]] = {
    EventKind.GPU: tuple(GpuCondition),
    EventKind.RUN: tuple(RunState),
}


def is_search(query: HistoryQuery) -> bool:
    """Tell whether events have to be looked through for what a query asks."""
    return query.what == "events" and any((query.user, query.entry, query.state))


async def answer(
    read: Read, query: HistoryQuery, names: Names, aliases: Mapping[str, str]
) -> HistoryAnswer:
    """Return one page of the events that fit, or raise BadQuestion."""
    kinds, fits = kinds_of(query), filter_of(query, aliases)
    own = event.c
    # As they lie there: to convert each value takes longer than to look into it.
    columns = select(own.id, own.kind, type_coerce(own.data, LargeBinary), _MICROSECONDS)
    if len(kinds) == 1:
        # Several have no common order in the index of kinds.
        columns = columns.where(own.kind == next(iter(kinds)))
    found, looked = list[int](), 0
    place, reached, is_over = query, None, not kinds
    while not is_over and looked < LOOKED_THROUGH and len(found) <= query.limit:
        some = await read(
            columns.where(*conditions(place, names))
            .order_by(own.at.desc(), own.id.desc())
            .limit(AT_ONCE)
        )
        found += [one for one, kind, data, _ in some if kind in kinds and fits(unpack(data))]
        looked += len(some)
        is_over = len(some) < AT_ONCE
        if some:
            number, _, _, microseconds = some[-1]
            reached = from_microseconds(microseconds)
            place = query.model_copy(update={"cursor": cursor_of(reached, number)})
    rows = await read(rows_of(query).where(own.id.in_(found[: query.limit + 1])))
    page = answer_of(query, rows)
    if page.cursor is None and not is_over:
        return page.model_copy(update={"cursor": place.cursor, "looked_back_to": reached})
    return page


def kinds_of(query: HistoryQuery) -> frozenset[str]:
    """Return the kinds of events that can fit; raise BadQuestion for a state that nothing has."""
    kinds = {query.kind} if query.kind else set(map(str, EventKind))
    if query.user:
        kinds &= _KINDS_WITH_USER
    if query.entry:
        kinds &= _KINDS_WITH_ENTRY
    if query.state:
        of_state = {kind for kind, states in _STATES.items() if query.state in states}
        if not of_state:
            known = dict.fromkeys(state for states in _STATES.values() for state in states)
            told = ", ".join(known)
            raise BadQuestion(f"nothing is ever {query.state!r}; state is one of {told}")
        kinds &= of_state
    return frozenset(kinds)


def filter_of(query: HistoryQuery, aliases: Mapping[str, str]) -> Callable[[str], bool]:
    """Return what tells by its data whether an event fits."""
    users = people(query.user, aliases) if query.user else []
    # To look into the text first is ten times as fast as to understand it.
    texts = [[json.dumps(user)[1:-1] for user in users]]
    texts += [[json.dumps(one)] for one in (query.entry, query.state) if one]

    def fits(data: str) -> bool:
        if not all(any(text in data for text in some) for some in texts if some):
            return False
        told = json.loads(data)
        return (
            (not users or _names_user(told, users))
            and (not query.entry or query.entry in _values(told, "entry"))
            and (not query.state or query.state == told.get("state"))
        )

    return fits


def _names_user(data: Mapping[str, Any], users: Iterable[str]) -> bool:
    named = {*_values(data, "user")}
    reason = str(data.get("reason") or "") if "active" in data else ""
    # Who is at a terminal is told in words only.
    return any(
        user in named
        or reason.startswith(f"{user} is active")
        or f"whether {user} is active" in reason
        for user in users
    )


def _values(data: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield what an event and those who hold its GPU have under a name."""
    holders = data.get("holders")
    for one in (data, *(holders if isinstance(holders, list) else ())):
        if isinstance(one, Mapping) and isinstance(one.get(name), str):
            yield one[name]
