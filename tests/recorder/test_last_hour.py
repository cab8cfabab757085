"""The last hour of all GPUs: what is summed up, and what is not yet."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.messages import Sample
from services.recorder.queries import answers, last_hour
from services.recorder.queries.history import BadQuestion
from services.recorder.queries.questions import Known
from services.recorder.store import Store
from tests.builders import NOW
from tests.recorder.builders import KEEP, a_query, an_event, numbers, url

MINUTE = timedelta(minutes=1)
FIRST = NOW - 59 * MINUTE


async def ask(store: Store, **wanted: Any) -> tuple[list[dict[str, Any]], str | None]:
    known = Known(names=store.names, local=store.local, retention=KEEP)
    query = a_query(**{"what": "last_hour"} | wanted)
    answer = await answers.answer(store.read, query, known, NOW + 30 * MINUTE / 60)
    return list(answer.rows), answer.cursor


async def heard(store: Store, node: str, *samples: tuple[datetime, float | None]) -> None:
    """Record what a node says of its GPU."""
    common: dict[str, Any] = {"gpu": f"GPU-{node}", "index": 0, "state": "busy", "seconds": 60}
    for number, (at, percent) in enumerate(samples, start=1):
        one = Sample(at=at, utilization_percent=percent, **common)
        data: Any = {"samples": [one.model_dump(mode="json")]}
        event = an_event(number, node=node, stream=node, kind="samples", data=data, at=at)
        await store.write(numbers(event), now=NOW)


async def test_minutes_are_means_of_five_where_they_are_summed_up(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        # The five minutes until 11:50 are counted, those since are not.
        summed = [(NOW - (14 - one) * MINUTE, 10.0 * one) for one in range(5)]
        single = [(NOW - 3 * MINUTE, 80.0), (NOW - 2 * MINUTE, None), (NOW - MINUTE, 40.4)]
        await heard(store, "n1", (NOW - timedelta(hours=3), 99), *summed)
        while await store.roll_up(NOW):
            pass
        await heard(store, "n2", *single)

        rows, cursor = await ask(store)

    assert cursor is None
    told = {row["node"]: row["gpus"][f"GPU-{row['node']}"] for row in rows}
    assert {row["start"] for row in rows} == {FIRST.isoformat()}
    assert told["n1"] == [None] * 44 + [20] * 5 + [None] * 11
    assert told["n2"] == [None] * 55 + [80, None, 40, None, None]


async def test_some_nodes_come_at_a_time_and_silent_ones_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_hour, "NODES", 2)
    async with Store(url(tmp_path)) as store:
        for node in ("n1", "n2", "n4"):
            await heard(store, node, (NOW - MINUTE, 50))
        await heard(store, "n3", (NOW - timedelta(days=1), 50))

        first, cursor = await ask(store)
        second, end = await ask(store, cursor=cursor)

    assert [row["node"] for row in first] == ["n1", "n2"]
    assert ([row["node"] for row in second], end) == (["n4"], None)


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        with pytest.raises(BadQuestion, match="user does not go with last_hour"):
            await ask(store, user="alice")
