"""The pages of a GPU and of a node, now and in the past."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from tests.builders import NOW
from tests.web.canned import a_run, bucket, gpu_event, tell
from tests.web.conftest import Web
from tests.web.example import gpu_id
from tests.web.test_pages_of_the_past import text


async def test_a_gpu_shows_now_and_the_past(busy: Web) -> None:
    at = datetime.now(UTC)
    begin = (at - timedelta(hours=2)).isoformat()
    tell(
        busy,
        {
            "series": [bucket(NOW - timedelta(hours=1), utilization_percent=42)],
            "events": [gpu_event(at, "alice")],
            "runs": [a_run(at)],
            "sessions": [
                {
                    "user": "alice",
                    "entry": None,
                    "container": "notebook",
                    "begin": begin,
                    "end": at.isoformat(),
                    "seconds": 7200,
                    "held_seconds": 1800,
                    "utilization_sum": 50 * 7200,
                    "utilization_seconds": 7200,
                    "memory_byte_seconds": 7200 * 3 * 2**30,
                    "memory_max_bytes": 3 * 2**30,
                }
            ],
        },
    )
    page = await text(busy, "/node/atlas/gpu/0?range=hour")

    for expected in (
        "GPU 0 of atlas busy",
        "Utilization 97 %",
        "Fan no answer",
        "alice computes (pid 4711, python)",
        "in container notebook",
        "alice notebook",
        "62.0 GiB 78 % 91 % ",
        "mean 42 %, from 42 to 42 %",
        "A point stands for 5 min",
        "GPU 0: idle → busy (alice computes)",
        "fold evicted in 598 ms: alice is active at pts/3",
        "2.0 0.50 50 % 6.0",
    ):
        assert expected in page


async def test_a_beat_while_the_recorder_is_asked_makes_nothing_stale(busy: Web) -> None:
    asked: list[HistoryQuery] = []

    def reply(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        if not asked:
            busy.later(0.5)
            for beat in busy.example().beats():
                busy.others.publish(beat)
        asked.append(query)
        busy.others.publish(HistoryAnswer(client=query.client, id=query.id))

    busy.others.subscribe(HistoryQuery, reply)

    page = await text(busy, "/node/atlas/gpu/0")

    assert asked
    assert "Utilization 97 %" in page
    assert "no current reading" not in page


async def test_a_node_shows_its_latest_events(busy: Web) -> None:
    asked = tell(busy, {"events": [gpu_event(NOW, "alice")]})

    page = await text(busy, "/node/atlas")

    assert "What happened all 11-21 12:00:00 GPU 0: idle → busy (alice computes)" in page
    assert [(one.node, one.limit) for one in asked if one.what == "events"] == [("atlas", 10)]


async def test_a_node_shows_what_its_host_did_in_the_same_time(busy: Web) -> None:
    host = bucket(NOW - timedelta(hours=1), cpu_percent=42, network_sent_bytes_per_second=2e6)
    told = {"series": [bucket(NOW, utilization_percent=7)]}
    asked = tell(busy, told)
    assert "The host in" not in await text(busy, "/node/atlas")
    asked.clear()
    told["series:host"] = [host]

    page = await text(busy, "/node/atlas?range=week")

    assert "The host in the same time" in page
    assert "CPU % mean 42.0 %, from 42.0 to 42.0 %" in page
    assert "Network out MB/s mean 2.0 MB/s" in page
    assert "Network in kB/s no reading in this time" in page
    gpus, host_asked = (one for one in asked if one.what == "series")
    assert (gpus.of, host_asked.of, host_asked.node) == (None, "host", "atlas")
    assert (gpus.since, gpus.until, gpus.points) == (
        host_asked.since,
        host_asked.until,
        host_asked.points,
    )
    source = html.unescape((await busy.client.get("/node/atlas")).text)
    assert "api/history/series?of=host&node=atlas&points=288&since=" in source


async def test_a_gpu_is_found_by_index_and_by_uuid(busy: Web) -> None:
    asked = tell(busy, {})

    by_index = await text(busy, "/node/atlas/gpu/5")
    by_uuid = await text(busy, "/node/atlas/gpu/GPU-atlas-0005")

    assert "GPU 5 of atlas held" in by_index
    assert "GPU 5 of atlas held" in by_uuid
    assert {one.gpu for one in asked} == {"GPU-atlas-0005"}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/node/atlas/gpu/77", "There is no GPU '77' on node 'atlas'; there are 0, 1, 2, 3, 4"),
        ("/node/nowhere/gpu/0", "There is no node 'nowhere'; there are atlas, boreas"),
        ("/node/nowhere", "There is no node 'nowhere'; there are atlas, boreas"),
    ],
)
async def test_what_is_not_there_is_not_found(busy: Web, path: str, told: str) -> None:
    assert told in await text(busy, path, 404)


async def test_nothing_of_an_offline_node_is_current(busy: Web) -> None:
    tell(busy, {})
    page = await text(busy, "/node/cygnus/gpu/0")

    assert "Nothing of this is current: offline." in page
    assert "There is no current reading: offline." in page
    assert "was idle" in page


async def test_a_gpu_is_found_by_its_name_in_an_address(busy: Web) -> None:
    asked = tell(busy, {})

    for path in ("/node/atlas/gpu/atlas:5", "/node/atlas/gpu/5"):
        assert "GPU 5 of atlas" in await text(busy, path)
    asked.clear()
    page = await text(busy, "/history?gpu=atlas:5")

    assert [one.gpu for one in asked if one.what == "events"] == [gpu_id("atlas", 5)]
    assert f"Of GPU {gpu_id('atlas', 5)} only." in page
