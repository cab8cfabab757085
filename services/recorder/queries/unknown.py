"""A name in a question that was never recorded: that it is unknown, and which ones come close."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal

from sqlalchemy import exists, or_, select

from gleaner.bus.messages import HistoryQuery
from services.recorder.index.mentions import Sort, about, is_of, name_of
from services.recorder.queries.history import BadQuestion, people
from services.recorder.queries.questions import Known
from services.recorder.schema import tables
from services.recorder.schema.distinct import values_of
from services.recorder.schema.reading import Read

SUGGESTED = 3
ALIKE = 0.7
"""Of the letters of two names that come close."""
BEGINNING = 6
"""Letters of a GPU's id that say something: before come `GPU-` or `MIG-`."""
_USED = (tables.use_1d.c.user, tables.session.c.user)
"""By whom GPUs were used; each has an index of its own."""

What = Literal["node", "gpu", "user", "entry"]


class Unrecorded(BadQuestion):
    """A question names what was never recorded; the text says so, and what comes close."""

    def __init__(self, what: What, told: str, alike: Iterable[str]) -> None:
        suggested = " or ".join(map(repr, alike))
        meant = f"; did you mean {suggested}?" if suggested else ""
        super().__init__(f"no {told} was ever recorded{meant}")
        self.what = what


async def check_names(read: Read, query: HistoryQuery, known: Known) -> None:
    """Raise Unrecorded for a node, GPU, user or workload of which nothing was ever recorded."""
    names = known.names
    if query.node is not None and query.node not in names.nodes:
        alike = await _alike(query.node, names.nodes)
        raise Unrecorded("node", f"node named {query.node!r}", alike)
    if query.gpu is not None and not names.devices_of(query.node, query.gpu):
        of_node = f" of node {query.node!r}" if query.node is not None else ""
        raise Unrecorded("gpu", f"GPU {query.gpu!r}{of_node}", await _gpus_like(query, known))
    if query.user is not None and not await _is_user(read, query.user, known):
        alike = await _alike(query.user, await _users(read, known))
        raise Unrecorded("user", f"user named {query.user!r}", alike)
    if query.entry is not None and not await _is_mentioned(read, Sort.ENTRY, [query.entry], known):
        alike = await _alike(query.entry, await _mentioned(read, Sort.ENTRY, known))
        raise Unrecorded("entry", f"workload named {query.entry!r}", alike)


async def _is_user(read: Read, user: str, known: Known) -> bool:
    who = people(user, known.aliases)
    if any(one in known.quotas for one in who):
        return True
    numbers = [known.names.number[one] for one in who if one in known.names.number]
    used = (exists().where(column.in_(numbers)) for column in _USED)
    return await _is_mentioned(read, Sort.USER, who, known, *used)


async def _is_mentioned(
    read: Read, sort: Sort, texts: Iterable[str], known: Known, *or_else: Any
) -> bool:
    number = known.names.number
    lists = [about(sort, number[text]) for text in texts if text in number]
    there = exists().where(tables.mention.c.about.in_(lists))
    # While older events are taken into the index nobody knows.
    is_incomplete = exists().where(tables.mentioned.c.since.is_not(None))
    return bool((await read(select(or_(there, is_incomplete, *or_else))))[0][0])


async def _users(read: Read, known: Known) -> set[str]:
    """Return everybody who was ever recorded, by all names."""
    users = {known.names.text[user] for one in _USED for (user,) in await read(values_of(one))}
    users |= await _mentioned(read, Sort.USER, known)
    return users | {known.shown(user) for user in users} | (known.quotas.keys() - {"*"})


async def _mentioned(read: Read, sort: Sort, known: Known) -> set[str]:
    lists = await read(values_of(tables.mention.c.about))
    return {known.names.text[name_of(one)] for (one,) in lists if is_of(sort, one)}


async def _gpus_like(query: HistoryQuery, known: Known) -> list[str]:
    gpus = {gpu for node, gpu in known.names.devices if query.node in (None, node)}
    if query.node is not None:
        return await _alike(str(query.gpu), gpus)
    # Of thousands of random letters only the beginning tells anything.
    begun = str(query.gpu).casefold()
    alike = sorted(gpu for gpu in gpus if gpu.casefold().startswith(begun))
    return alike[:SUGGESTED] if len(begun) >= BEGINNING else []


async def _alike(name: str, known: Iterable[str]) -> list[str]:
    """Return the names that come close, the closest first."""
    by_letters = {one.casefold(): one for one in sorted(known) if one}
    found = await asyncio.to_thread(
        get_close_matches, name.casefold(), list(by_letters), SUGGESTED, ALIKE
    )
    return [by_letters[one] for one in found]
