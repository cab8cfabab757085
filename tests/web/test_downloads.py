"""Downloads: a whole file, or one that everybody can see is not."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBus
from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from gleaner.export import paging
from services.web.data import downloads
from tests.web.conftest import Web
from tests.web.site import Site

PAGES = 3


def page(query: HistoryQuery) -> HistoryAnswer:
    """Answer with two rows a page, three pages in all."""
    number = int(query.cursor or 0)
    rows = tuple({"node": "n1", "sequence": number * 2 + place} for place in (1, 2))
    cursor = str(number + 1) if number + 1 < PAGES else None
    return HistoryAnswer(client=query.client, id=query.id, rows=rows, cursor=cursor)


@pytest.fixture
def asked(web: Web) -> list[HistoryQuery]:
    """What a recorder was asked that answers everything."""
    questions: list[HistoryQuery] = []

    def answer(delivery: Delivery) -> None:
        assert isinstance(delivery.message, HistoryQuery)
        questions.append(delivery.message)
        web.others.publish(page(delivery.message))

    web.others.subscribe(HistoryQuery, answer)
    return questions


async def test_all_pages_are_one_file(web: Web, asked: list[HistoryQuery]) -> None:
    found = await web.client.get("/api/export/events?node=n1&since=2026-11-01T00:00:00Z")

    assert found.status_code == 200
    assert found.headers["content-type"] == "text/csv; charset=utf-8"
    disposition = found.headers["content-disposition"]
    assert disposition == 'attachment; filename="gleaner-events.csv"'
    heading, *rows = found.text.splitlines()
    assert heading.startswith("node,stream,sequence,kind")
    assert [row.split(",")[2] for row in rows] == list("123456")
    assert {(one.what, one.node, one.limit) for one in asked} == {("events", "n1", 1000)}


async def test_json_is_one_array(web: Web, asked: list[HistoryQuery]) -> None:
    found = await web.client.get("/api/export/sessions?format=json&user=alice")

    assert len(json.loads(found.text)) == 6
    assert {one.user for one in asked} == {"alice"}


async def test_parquet_says_what_is_missing_or_comes(
    web: Web, asked: list[HistoryQuery], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await web.client.get("/api/export/runs?format=parquet")
    assert found.content[:4] == found.content[-4:] == b"PAR1"

    # As where the extra is not installed.
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "gleaner.export.parquet")
    refused = await web.client.get("/api/export/runs?format=parquet")
    assert refused.status_code == 501
    assert "pip install 'gleaner[parquet]'" in refused.json()["detail"]


async def test_who_does_not_answer_at_all_is_named(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PATIENCE_SECONDS", 0.05)

    found = await web.client.get("/api/export/runs")

    assert found.status_code == 503
    detail = "the recorder did not answer within 0.3 s (waited 0.05 s)"
    assert found.json()["detail"] == detail


async def test_a_recorder_that_restarts_before_the_first_page_is_waited_for(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAUSE_SECONDS", 0.01)
    gone = MemoryBus(web.broker, "recorder", "main")
    gone.connect()
    await web.say([])
    gone.disconnect(will=True)
    await web.say([])
    download = asyncio.create_task(web.client.get("/api/export/events"))
    await asyncio.sleep(0)
    back = MemoryBus(web.broker, "recorder", "main")

    def tell(delivery: Delivery) -> None:
        assert isinstance(delivery.message, HistoryQuery)
        back.publish(page(delivery.message))

    back.subscribe(HistoryQuery, tell)
    async with back:
        found = await download

    assert (found.status_code, len(found.text.splitlines())) == (200, 7)


async def test_what_the_recorder_refuses_is_told(web: Web) -> None:
    web.answer_queries(HistoryAnswer(client="web", id="", error="user goes with sessions"))

    found = await web.client.get("/api/export/runs?user=alice")

    assert (found.status_code, found.json()["detail"]) == (422, "user goes with sessions")


@pytest.mark.parametrize(
    "path", ["export/runs", "history/runs", "history/runs?format=csv", "events"]
)
async def test_what_the_recorder_cannot_read_is_no_fault_of_who_asks(web: Web, path: str) -> None:
    why = "history cannot be read: file is not a database"
    web.answer_queries(HistoryAnswer(client="web", id="", error=why, is_fault=True))

    found = await web.client.get(f"/api/{path}")

    assert (found.status_code, found.json()["detail"]) == (503, why)


@pytest.mark.parametrize("query", ["format=xml", "node=..", "since=soon", "since=2026-01-01"])
async def test_what_makes_no_sense_is_refused(web: Web, query: str) -> None:
    assert (await web.client.get(f"/api/export/runs?{query}")).status_code == 422


async def test_there_are_not_too_many_at_once(
    web: Web, asked: list[HistoryQuery], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(downloads.AT_ONCE + 2):
        # Each gives its place back.
        assert (await web.client.get("/api/export/events")).status_code == 200


@asynccontextmanager
async def leaving(bus: MemoryBus) -> AsyncIterator[None]:
    """Be a recorder that answers the first page and is gone then."""

    def tell(delivery: Delivery) -> None:
        query: Any = delivery.message
        if query.cursor is None:
            bus.publish(page(query))

    bus.subscribe(HistoryQuery, tell)
    yield


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(paging, "PATIENCE_SECONDS", 0.05)
    with Site(recorder=leaving) as site:
        yield site


async def test_a_file_that_is_not_whole_ends_as_an_error(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    came = bytearray()

    async def download() -> None:
        nonlocal came
        async with (
            httpx2.AsyncClient() as browser,
            browser.stream("GET", f"{site.url}api/export/events") as found,
        ):
            assert found.status_code == 200
            async for part in found.aiter_bytes():
                came += part

    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
        await download()

    assert came.count(b"\n") == 3
    assert "a download was cut off after 2 rows: the recorder did not answer" in caplog.text
    assert "Traceback" not in caplog.text
