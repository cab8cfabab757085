"""Events by what they name, from the lists of `mention`: any page costs what is on it.

Each list lies in the order of time. One of those that are asked for is gone through, the one that
takes least; whether an event is in the others is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, select, union

from gleaner.bus.messages import EventKind, HistoryAnswer, HistoryQuery
from services.recorder.index.mentions import STATES, Sort, about, is_of, what_of
from services.recorder.queries.history import BadQuestion, answer_of, between, people, rows_of
from services.recorder.schema import tables
from services.recorder.schema.names import Names
from services.recorder.schema.reading import Read

COUNTED = 50_000
"""Events of a list; one that is longer is long."""
LOOK_UP = 6
"""To look an event up in another list takes so many times as long as to go on to the next."""


@dataclass(frozen=True, kw_only=True)
class Lists:
    """The lists about one thing under all its names; whoever fits is in one of them."""

    about: Sequence[int]
    devices: Sequence[int] | None = None
    """Of a node's events those of these GPUs only."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the events of an answer have in common."""

    named: Sequence[Lists] = ()
    whats: Sequence[int] | None = None
    """One of these kinds and states; None: whatever it is."""

    @property
    def is_nothing(self) -> bool:
        """Whether something is asked for that no event names."""
        return self.whats == () or not all(one.about for one in self.named)

    @property
    def ways(self) -> Sequence[tuple[Lists, Sequence[Lists]]]:
        """Which lists may be gone through, each with those that then are looked up."""
        ways: list[tuple[Lists, Sequence[Lists]]] = [
            (one, [other for other in self.named if other is not one]) for one in self.named
        ]
        if self.whats is not None:
            ways.append((Lists(about=[about(Sort.WHAT, what) for what in self.whats]), self.named))
        return ways


def is_search(query: HistoryQuery) -> bool:
    """Tell whether a query is for events that name something."""
    filters = (query.node, query.gpu, query.kind, query.user, query.entry, query.state)
    return query.what == "events" and any(one is not None for one in filters)


async def answer(
    read: Read, query: HistoryQuery, names: Names, aliases: Mapping[str, str], now: datetime
) -> HistoryAnswer:
    """Return one page of the events that fit, or raise BadQuestion."""
    wanted = wanted_of(query, names, aliases)
    # First, for meanwhile older ones are taken in.
    searched_back_to = await _searched_back_to(read, now)
    rows: Sequence[Any] = ()
    if not wanted.is_nothing:
        found = [one for (one,) in await read(await _statement(read, query, wanted))]
        rows = await read(rows_of(query).where(tables.event.c.id.in_(found))) if found else ()
    page = answer_of(query, rows)
    if page.cursor is not None or searched_back_to is None:
        return page
    is_within = query.since is not None and query.since >= searched_back_to
    return page.model_copy(update={"looked_back_to": None if is_within else searched_back_to})


def wanted_of(query: HistoryQuery, names: Names, aliases: Mapping[str, str]) -> Wanted:
    """Return the lists that a query is about, or raise BadQuestion."""

    def lists(sort: Sort, texts: Sequence[str]) -> Lists:
        return Lists(about=[about(sort, names.number[one]) for one in texts if one in names.number])

    named = list[Lists]()
    if query.gpu is not None:
        devices = names.devices_of(query.node, query.gpu)
        nodes = sorted({names.device[one].node for one in devices})
        of_nodes = lists(Sort.NODE, nodes)
        named.append(Lists(about=of_nodes.about, devices=devices))
    elif query.node is not None:
        named.append(lists(Sort.NODE, [query.node]))
    if query.user is not None:
        named.append(lists(Sort.USER, people(query.user, aliases)))
    if query.entry is not None:
        named.append(lists(Sort.ENTRY, [query.entry]))
    return Wanted(named=named, whats=_whats(query, names))


def _whats(query: HistoryQuery, names: Names) -> Sequence[int] | None:
    """Return the kinds and states that can fit; raise BadQuestion for what nothing is or has."""
    if query.kind is None and query.state is None:
        return None
    if query.kind not in (None, *EventKind) and what_of(str(query.kind)) not in names.number:
        kinds_told = ", ".join(EventKind)
        raise BadQuestion(f"no event is of the kind {query.kind!r}; kind is one of {kinds_told}")
    known = dict.fromkeys(state for states in STATES.values() for state in states)
    if query.state is not None and query.state not in known:
        told = ", ".join(known)
        raise BadQuestion(f"nothing is ever {query.state!r}; state is one of {told}")
    if query.state is None:
        kind = str(query.kind)
        texts = [what_of(kind), *(what_of(kind, state) for state in STATES.get(kind, ()))]
    else:
        kinds = [query.kind] if query.kind is not None else list(STATES)
        states = {kind: query.state for kind in kinds if query.state in STATES.get(kind, ())}
        texts = [what_of(kind, state) for kind, state in states.items()]
    return tuple(names.number[text] for text in texts if text in names.number)


async def _searched_back_to(read: Read, now: datetime) -> datetime | None:
    """Return since when all events can be found, while older ones are being taken in."""
    own, mark = tables.event.c, tables.mentioned.c
    oldest = select(own.received_at).where(own.id >= mark.since).order_by(own.id).limit(1)
    found = await read(select(mark.since, oldest.scalar_subquery()))
    return (found[0][1] or now) if found else None


async def _statement(read: Read, query: HistoryQuery, wanted: Wanted) -> Select[Any]:
    """Return the SELECT of the numbers of a page's events, and of one more."""
    ways = wanted.ways
    costs = [0] * len(ways)
    if len(ways) > 1:
        (lengths,) = await read(select(*(_length(query, way) for way, _ in ways)))
        costs = [
            length * (1 + LOOK_UP * len(others))
            for length, (_, others) in zip(lengths, ways, strict=True)
        ]
    way, others = ways[costs.index(min(costs))]
    pages = [_page(query, one, way, others, wanted.whats) for one in way.about]
    # Who is known under two names may be in both lists.
    every = union(*(select(page) for page in pages)).subquery() if len(pages) > 1 else pages[0]
    newest_first = (every.c.at.desc(), every.c.event.desc())
    return select(every.c.event).order_by(*newest_first).limit(query.limit + 1)


def _length(query: HistoryQuery, way: Lists) -> Any:
    own = tables.mention.c
    in_time = between(query, own.at, own.event)
    some = select(own.at).where(own.about.in_(way.about), *in_time).limit(COUNTED).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


def _page(
    query: HistoryQuery,
    number: int,
    way: Lists,
    others: Sequence[Lists],
    whats: Sequence[int] | None,
) -> Any:
    """Return the newest that fit of one list."""
    own = tables.mention.alias()
    wanted: list[ColumnElement[bool]] = [own.c.about == number]
    wanted += between(query, own.c.at, own.c.event)
    if whats is not None and not is_of(Sort.WHAT, number):
        wanted.append(own.c.what.in_(whats))
    if way.devices is not None:
        wanted.append(own.c.device.in_(way.devices))
    for other in others:
        there = tables.mention.alias()
        is_same = [
            there.c.about.in_(other.about),
            there.c.at == own.c.at,
            there.c.event == own.c.event,
        ]
        if other.devices is not None:
            is_same.append(there.c.device.in_(other.devices))
        wanted.append(exists().where(*is_same))
    newest_first = (own.c.at.desc(), own.c.event.desc())
    some = select(own.c.at, own.c.event).where(*wanted).order_by(*newest_first)
    return some.limit(query.limit + 1).subquery()
