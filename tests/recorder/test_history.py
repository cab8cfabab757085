"""Pages of history: each row that was there at the first page comes exactly once."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gleaner.bus.messages import Event
from services.recorder.queries import answers
from services.recorder.queries.history import BadQuestion, statement_of
from services.recorder.queries.questions import Known
from services.recorder.store import Store
from tests.builders import NOW
from tests.recorder.builders import KEEP, a_query, a_run, an_event, numbers, url


async def page(store: Store, **wanted: Any) -> tuple[list[dict[str, Any]], str | None]:
    known = Known(names=store.names, local=store.local, retention=KEEP)
    answer = await answers.answer(store.read, a_query(**wanted), known, NOW)
    return list(answer.rows), answer.cursor


def sample_event(number: int, second: int, gpu: str) -> Event:
    at = NOW + timedelta(seconds=second)
    sample: Any = {"gpu": gpu, "index": 0, "state": "idle", "seconds": 1, "at": at.isoformat()}
    return an_event(number, kind="samples", data={"samples": [sample]}, at=at)


def event_of(what: str, number: int, second: int) -> Event:
    if what == "samples":
        return sample_event(number, second, f"GPU-{number}")
    if what == "runs":
        return a_run(number, "running", second, run=f"r{number}")
    return an_event(number, at=NOW + timedelta(seconds=second))


def name_of(what: str, row: dict[str, Any]) -> int:
    if what == "samples":
        return int(row["gpu"].removeprefix("GPU-"))
    return int(row["run"].removeprefix("r")) if what == "runs" else row["sequence"]


@pytest.mark.parametrize("what", ["events", "runs", "samples"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=st.lists(st.integers(0, 5), max_size=25),
    between=st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=10),
    limit=st.integers(1, 6),
)
async def test_no_row_comes_twice_or_is_missing_while_new_rows_arrive(
    tmp_path_factory: pytest.TempPathFactory,
    what: str,
    before: list[int],
    between: list[list[int]],
    limit: int,
) -> None:
    arriving = iter(between)
    async with Store(url(tmp_path_factory.mktemp("history"))) as store:
        last = 0

        async def add(seconds: list[int]) -> None:
            nonlocal last
            events = [event_of(what, last + 1 + i, second) for i, second in enumerate(seconds)]
            last += len(events)
            await store.write(numbers(*events), now=NOW)

        await add(before)
        seen: list[int] = []
        cursor: str | None = None
        while True:
            rows, cursor = await page(store, what=what, limit=limit, cursor=cursor)
            seen += [name_of(what, row) for row in rows]
            if cursor is None:
                break
            await add(next(arriving, []))

    assert len(seen) == len(set(seen))
    assert set(range(1, len(before) + 1)) <= set(seen)


async def test_events_are_found_by_node_kind_gpu_and_time(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(
            numbers(
                an_event(1, kind="gpu", data={"gpu": "GPU-1"}, at=NOW),
                an_event(2, kind="gpu", data={"gpu": "GPU-2"}, at=NOW + timedelta(hours=1)),
                an_event(3, kind="people", at=NOW + timedelta(hours=2)),
                an_event(1, node="n2", at=NOW + timedelta(hours=3)),
                sample_event(4, 0, "GPU-1"),
            ),
            now=NOW,
        )

        async def found(**wanted: Any) -> list[tuple[str, int]]:
            return [(row["node"], row["sequence"]) for row in (await page(store, **wanted))[0]]

        assert await found() == [("n2", 1), ("n1", 3), ("n1", 2), ("n1", 1)]
        assert await found(node="n2") == [("n2", 1)]
        assert await found(kind="gpu") == [("n1", 2), ("n1", 1)]
        assert await found(gpu="GPU-1") == [("n1", 1)]
        assert await found(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=2)) == [
            ("n1", 2)
        ]


async def test_a_row_says_everything_in_the_words_of_the_bus(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1, data={"active": True}, at=NOW)), now=NOW)
        await store.write(numbers(a_run(2, "running")), now=NOW)

        (row,), _ = await page(store, kind="people")
        assert row == {
            "node": "n1",
            "stream": "s1",
            "sequence": 1,
            "kind": "people",
            "gpu": None,
            "at": "2026-11-21T12:00:00Z",
            "boot_id": "boot",
            "received_at": "2026-11-21T12:00:00Z",
            "data": {"active": True},
        }
        (run,), _ = await page(store, what="runs", gpu="GPU-1")
        assert (run["run"], run["gpus"], run["is_final"]) == ("r1", ["GPU-1"], False)
        for what in ("runs", "events"):
            with pytest.raises(BadQuestion, match="no GPU 'GPU' was ever recorded"):
                await page(store, what=what, gpu="GPU")


@pytest.mark.sqlite
async def test_no_question_reads_the_whole_table(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        (_,), cursor = await page_of_two(store)
        for wanted in ({}, {"cursor": cursor}, {"what": "runs"}, {"what": "sessions"}):
            statement = statement_of(a_query(**wanted), store.names)
            assert "TEMP B-TREE" not in await plan_of(store, statement), wanted


@pytest.mark.sqlite
async def test_no_search_goes_through_more_than_the_lists_that_are_asked_for(
    tmp_path: Path,
) -> None:
    plans = list[str]()
    async with Store(url(tmp_path)) as store:
        event = an_event(1, kind="gpu", data={"gpu": "G", "state": "busy", "user": "alice"})
        await store.write(numbers(event), now=NOW)

        async def read(statement: Any) -> Any:
            plans.append(await plan_of(store, statement))
            return await store.read(statement)

        known = Known(names=store.names, local=store.local, retention=KEEP)
        for wanted in ({"node": "n1"}, {"kind": "gpu"}, {"user": "alice", "gpu": "G"}):
            query = a_query(**wanted, state="busy", since=NOW - timedelta(days=1))
            assert (await answers.answer(read, query, known, NOW)).rows
    for plan in plans:
        assert not re.search("SCAN (mention|event)( |$)", plan.replace("SCAN mentioned", "")), plan


async def page_of_two(store: Store) -> tuple[list[dict[str, Any]], str | None]:
    await store.write(numbers(an_event(1), an_event(2)), now=NOW)
    return await page(store, limit=1)


async def plan_of(store: Store, statement: Any) -> str:
    async with store._database.reading() as connection:
        compiled = statement.compile(connection.sync_engine, compile_kwargs={"literal_binds": True})
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
        return "\n".join(str(row) for row in plan)
