"""Events by what their data name: found however far back they are, and told once."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.messages import Event, HistoryAnswer
from services.recorder import answers, search
from services.recorder.history import BadQuestion
from services.recorder.questions import Known
from services.recorder.store import Store
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
        assert await found(store, user="aro") == []
        assert await found(store, entry="fold") == [7, 6, 5]
        assert await found(store, state="busy") == [1, 1]
        assert await found(store, state="busy", node="n1") == [1]
        assert await found(store, state="evicted") == [7]
        assert await found(store, user="nobody", kind="run") == [7, 5]
        assert await found(store, user="alice", gpu="GPU-1", until=at(2)) == [1]
        assert await found(store, user="alice", kind="problem") == []
        assert await found(store, {"aliases": {"alice": "al", "bob": "al"}}, user="al") == [4, 2, 1]


async def test_a_state_that_nothing_has_is_refused(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        with pytest.raises(BadQuestion, match="nothing is ever 'tired'; state is one of idle, "):
            await ask(store, state="tired")
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


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_what_is_far_back_is_found_page_by_page_and_once(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOOKED_THROUGH", 8)
    monkeypatch.setattr(search, "AT_ONCE", 4)
    async with Store(url(tmp_path)) as store:
        wanted = {2, 3, 30}
        holder = {True: {"user": "alice"}, False: {"user": "bob"}}
        await store.write(
            numbers(*(gpu(one, "busy", holder[one in wanted]) for one in range(1, 41))), now=NOW
        )

        first = await ask(store, user="alice", limit=limit)
        assert (first.rows, first.looked_back_to) == ((), at(33))
        assert await found(store, user="alice", limit=limit) == [30, 3, 2]
        assert await found(store, user="alice", limit=limit, since=at(3)) == [30, 3]


async def test_a_full_page_says_nothing_of_how_far_it_looked(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(
            numbers(*(gpu(one, "busy", {"user": "alice"}) for one in range(1, 4))), now=NOW
        )

        page = await ask(store, user="alice", limit=2)
        assert [row["sequence"] for row in page.rows] == [3, 2]
        assert page.cursor
        assert page.looked_back_to is None
