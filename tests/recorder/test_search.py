"""Events by what their data name: found however far back they are, and told once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select

from gleaner.bus.messages import Event, HistoryAnswer
from services.recorder.index import mentioning
from services.recorder.queries import answers
from services.recorder.queries.history import BadQuestion
from services.recorder.queries.questions import Known
from services.recorder.schema import tables
from services.recorder.store import Store
from services.recorder.upkeep.searchable import make_searchable
from services.recorder.upkeep.tidy import Tidying
from tests.builders import NOW
from tests.recorder.builders import KEEP, a_query, a_run, an_event, numbers, url


async def ask(store: Store, more: dict[str, Any] | None = None, **wanted: Any) -> HistoryAnswer:
    known = Known(names=store.names, local=store.local, retention=KEEP, **more or {})
    return await answers.answer(store.read, a_query(**wanted), known, NOW)


async def found(store: Store, more: dict[str, Any] | None = None, **wanted: Any) -> list[int]:
    """Return the numbers of all events that fit, by as many pages as it takes."""
    told, cursor = list[int](), None
    while True:
        page = await ask(store, more, cursor=cursor, **wanted)
        told += [int(str(row["sequence"])) for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            return told


def gpu(number: int, state: str, *holders: dict[str, Any], gpu: str = "GPU-1") -> Event:
    data: dict[str, Any] = {"gpu": gpu, "state": state, "holders": list(holders), "reasons": []}
    return an_event(number, kind="gpu", data=data, at=at(number))


def at(number: int) -> datetime:
    return NOW + timedelta(seconds=number)


async def fill(store: Store) -> None:
    """Something of everything."""
    short = {"gpu": "GPU-2", "index": 1, "user": "bob", "pid": 7, "entry": None}
    people = {"active": True, "reason": "carol is active at pts/3"}
    await store.write(
        numbers(
            gpu(1, "busy", {"pid": 1, "user": "alice"}),
            gpu(2, "held", {"pid": 1, "user": "alice"}, {"pid": 2, "user": 'b"ob ü'}),
            an_event(3, kind="people", data=people, at=at(3)),
            an_event(4, kind="short_process", data=short, at=at(4)),
            a_run(5, "running", 5, user="nobody"),
            gpu(6, "ours", {"pid": 9, "user": "nobody", "run": "r1", "entry": "fold"}),
            a_run(7, "evicted", 7, user="nobody"),
            an_event(8, kind="problem", data={"what": "alice", "text": "busy"}, at=at(8)),
            an_event(1, node="n2", kind="gpu", data={"state": "busy"}, at=at(9)),
        ),
        now=NOW,
    )


async def test_events_are_found_by_whom_and_what_they_name(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await fill(store)

        assert await found(store, user="alice") == [2, 1]
        assert await found(store, user='b"ob ü') == [2]
        assert await found(store, user="bob") == [4]
        assert await found(store, user="carol") == [3]
        assert await found(store, user="carol", kind="gpu") == []
        assert await found(store, entry="fold") == [7, 6, 5]
        assert await found(store, state="busy") == [1, 1]
        assert await found(store, state="busy", node="n1") == [1]
        assert await found(store, state="evicted") == [7]
        assert await found(store, user="nobody", kind="run") == [7, 5]
        assert await found(store, user="alice", gpu="GPU-1", until=at(2)) == [1]
        assert await found(store, user="alice", kind="problem") == []
        assert await found(store, {"aliases": {"alice": "al", "bob": "al"}}, user="al") == [4, 2, 1]


async def test_a_state_or_kind_that_nothing_has_is_refused(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        with pytest.raises(BadQuestion, match="nothing is ever 'tired'; state is one of idle, "):
            await ask(store, state="tired")
        with pytest.raises(BadQuestion, match="no event is of the kind 'tired'; kind is one of no"):
            await ask(store, kind="tired")
        with pytest.raises(BadQuestion, match="no run is 'busy'; state is one of starting"):
            await ask(store, what="runs", state="busy")
        with pytest.raises(BadQuestion, match="entry goes with events and runs"):
            await ask(store, what="sessions", entry="fold")


async def test_runs_are_found_by_user_workload_and_state(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        for number, (state, entry) in enumerate(
            [("evicted", "fold"), ("failed", "fold"), ("failed", "fish")], start=1
        ):
            event = a_run(number, state, number, run=f"r{number}", entry=entry, user=f"u{number}")
            await store.write(numbers(event), now=NOW)

        async def runs(**wanted: Any) -> set[Any]:
            return {row["run"] for row in (await ask(store, what="runs", **wanted)).rows}

        assert await runs(state="failed") == {"r2", "r3"}
        assert await runs(entry="fold", state="failed") == {"r2"}
        assert await runs(user="u3") == {"r3"}


async def test_two_things_at_once_are_found_whatever_list_is_shorter(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        alice, bob = {"user": "alice"}, {"user": "bob", "entry": "fold"}
        await store.write(
            numbers(
                *(gpu(one, "busy", alice, gpu="GPU-2") for one in range(1, 30)),
                gpu(30, "lost", alice, bob),
                gpu(31, "lost", bob),
                *(gpu(one, "held", bob) for one in range(32, 40)),
                a_run(40, "lost", 40, entry="fold", user="bob"),
            ),
            now=NOW,
        )

        assert await found(store, user="alice", state="lost") == [30]
        assert await found(store, user="alice", entry="fold", limit=1) == [30]
        assert await found(store, user="bob", state="lost", limit=1) == [40, 31, 30]
        assert await found(store, user="bob", state="lost", kind="gpu") == [31, 30]
        assert await found(store, user="bob", gpu="GPU-1", state="busy") == []
        assert await found(store, gpu="GPU-1", state="lost", user="alice") == [30]
        assert await found(store, node="n1", entry="fold", kind="run") == [40]
        assert await found(store, kind="gpu", since=at(38), limit=1) == [39, 38]
        await store.write(numbers(an_event(41, kind="weather")), now=NOW)
        assert await found(store, kind="weather") == [41]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_what_is_far_back_is_found_page_by_page_and_once(tmp_path: Path, limit: int) -> None:
    async with Store(url(tmp_path)) as store:
        wanted = {2, 3, 30}
        holder = {True: {"user": "alice"}, False: {"user": "bob"}}
        events = [gpu(one, "busy", holder[one in wanted]) for one in range(1, 41)]
        # What comes late is where it belongs, and what comes twice is there once.
        await store.write(numbers(*events[20:]), now=NOW)
        await store.write(numbers(*events[:25]), now=NOW)

        assert await found(store, user="alice", limit=limit) == [30, 3, 2]
        assert await found(store, user="alice", limit=limit, since=at(3)) == [30, 3]
        assert await found(store, kind="gpu", limit=limit) == [*range(40, 0, -1)]


async def test_events_from_before_there_was_an_index_are_taken_in_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mentioning.mention_older, "__defaults__", (2,))
    monkeypatch.setattr(mentioning, "CHUNK", 4)
    async with Store(url(tmp_path)) as store:
        for one in range(1, 11):
            await store.write(numbers(gpu(one, "busy", {"user": "alice"}), now=at(one)), now=NOW)
        await forget_mentions(store)
        await store.write(numbers(gpu(11, "busy", {"user": "alice"})), now=NOW)

        first = await ask(store, user="alice")
        assert ([row["sequence"] for row in first.rows], first.cursor) == ([11], None)
        assert await store.mention_older() == 8
        assert (await ask(store, user="alice")).looked_back_to == NOW
        assert await store.mention_older() == 6
        page = await ask(store, user="alice")
        assert [row["sequence"] for row in page.rows] == [11, 10, 9, 8, 7]
        assert (page.looked_back_to, page.cursor) == (at(7), None)
        assert (await ask(store, user="alice", since=at(7))).looked_back_to is None
        assert (await ask(store, user="alice", limit=2)).looked_back_to is None

        await make_searchable(store)

        page = await ask(store, user="alice")
        assert ([row["sequence"] for row in page.rows], page.looked_back_to) == (
            [*range(11, 0, -1)],
            None,
        )


async def test_nothing_is_left_in_the_index_of_events_that_are_too_old(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await fill(store)
        keep = replace(KEEP, events=timedelta(days=1))

        await Tidying(store, keep).tidy(at(5) + keep.events)

        assert {row.event for row in await store.read(select(tables.mention))} == {
            row.id for row in await store.read(select(tables.event))
        }
        assert await found(store, user="nobody") == [7, 6, 5]


async def forget_mentions(store: Store) -> None:
    """Make it as it is after an update."""
    await store.change(delete(tables.mention))
    (last,) = await store.read(select(func.max(tables.event.c.id)))
    await store.change(insert(tables.mentioned).values(since=last[0] + 1, next=0))
