"""What is new in history reaches the pages that show it: soon, once, and whatever is committed."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from gleaner.bus.messages import EventKind, Recorded, RecorderState
from services.web.shown.view import News
from services.web.streaming.news import Newspaper
from tests.builders import NOW
from tests.web.canned import gpu_event, tell
from tests.web.conftest import Web
from tests.web.test_live import Reader


def recorded(node: str = "atlas", **kinds: int) -> Recorded:
    """Say when something of each kind was committed last, in seconds."""
    latest = {kind: NOW + timedelta(seconds=at) for kind, at in kinds.items()}
    return Recorded(node=node, streams={}, latest=latest, at=NOW)


def test_what_is_new_is_told_with_its_place_in_the_stream() -> None:
    paper = Newspaper()

    assert paper.take(recorded(run=1), retained=False)
    assert paper.due(7, NOW) == (News(node="atlas", kinds={"run": 7}),)
    assert paper.all() == (News(node="atlas", kinds={"run": 7}),)
    paper.take(recorded(run=1, gpu=2), retained=False)

    assert paper.due(9, NOW + timedelta(seconds=1)) == (
        News(node="atlas", kinds={"run": 7, "gpu": 9}),
    )


def test_a_storm_is_told_once_a_second() -> None:
    paper = Newspaper()
    told = []
    for number in range(1000):
        paper.take(recorded(gpu=number), retained=False)
        told += paper.due(number, NOW + timedelta(milliseconds=number))

    assert [one.kinds for one in told] == [{"gpu": 0}]
    assert [one.kinds for one in paper.due(1001, NOW + timedelta(seconds=1))] == [{"gpu": 1001}]


def test_what_is_said_twice_is_not_new() -> None:
    paper = Newspaper()
    paper.take(recorded(run=1), retained=False)
    paper.due(1, NOW)

    assert not paper.take(recorded(run=1), retained=False)
    assert paper.due(2, NOW + timedelta(seconds=5)) == ()


def test_what_lay_at_the_broker_is_new_only_if_it_changed_meanwhile() -> None:
    paper = Newspaper()

    assert not paper.take(recorded(run=1), retained=True)
    assert paper.take(recorded(run=2), retained=True)


def test_a_recorder_that_starts_anew_has_nothing_new() -> None:
    paper = Newspaper()
    paper.take(recorded(run=1), retained=False)
    paper.due(1, NOW)

    assert not paper.take(recorded(), retained=False)
    assert paper.due(2, NOW + timedelta(seconds=5)) == ()


def test_samples_of_all_nodes_are_in_no_hurry() -> None:
    paper = Newspaper()

    assert not paper.take(recorded(samples=1), retained=False)
    assert paper.due(1, NOW) == (News(node="atlas", kinds={EventKind.SAMPLES: 1}),)


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    paper = Newspaper()
    paper.take(recorded(run=1), retained=False)
    paper.due(1, NOW)
    paper.take(recorded(run=2), retained=False)

    assert paper.due(2, NOW - timedelta(hours=1))


async def test_the_stream_tells_at_once_what_was_committed(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()

    await busy.say([recorded(gpu=1)])
    _, delta = await reader.next()

    number = int(reader.last_id.rpartition("-")[2])
    assert delta["news"] == [{"node": "atlas", "kinds": {"gpu": number}}]
    _, snapshot = await Reader(busy).next()
    assert snapshot["news"] == delta["news"]


async def test_what_is_wrong_with_history_is_news_too(busy: Web) -> None:
    await busy.say([RecorderState(database="sqlite", at=NOW)])
    busy.live.flush()
    reader = Reader(busy)
    await reader.next()

    await busy.say([RecorderState(database="sqlite", problem="disk is full", at=NOW)])

    _, delta = await reader.next()
    assert [(one["node"], list(one["kinds"])) for one in delta["news"]] == [("", ["recorder"])]


@pytest.mark.parametrize(
    ("path", "kinds", "pace"),
    [
        ("/history", "gpu", "1"),
        ("/history?what=runs", "run recorder", "1"),
        ("/history?kind=people", "run people recorder", "1"),
        ("/usage?range=week", "samples recorder", "60"),
        ("/usage?range=year", "samples recorder", "300"),
        ("/node/atlas/gpu/0?range=hour", "samples recorder", "30"),
        ("/node/atlas?range=week", "samples recorder", "1800"),
    ],
)
async def test_each_page_says_what_it_follows_and_how_often(
    busy: Web, path: str, kinds: str, pace: str
) -> None:
    tell(busy, {})
    page = (await busy.client.get(path)).text

    assert f'{kinds}" data-node=' in page or f" {kinds} " in page
    assert f'data-pace="{pace}"' in page
    assert f'data-place="{busy.live.place}"' in page


@pytest.mark.parametrize(
    "path", ["/history?until=2026-11-01", "/usage?since=2026-10-01&until=2026-10-31"]
)
async def test_a_time_that_is_over_follows_nothing(busy: Web, path: str) -> None:
    tell(busy, {})

    assert "data-part" not in (await busy.client.get(path)).text


async def test_a_hundred_who_ask_for_the_same_ask_the_recorder_once(busy: Web) -> None:
    asked = tell(busy, {"events": [gpu_event(NOW, "alice")]})

    async def ask() -> str:
        return (await busy.client.get("/history?node=atlas&part=history")).text

    first = await asyncio.gather(*(ask() for _ in range(100)))
    assert Counter(one.what for one in asked) == {"events": 1, "latencies": 1}
    assert len({*first}) == 1
    assert "alice computes" in first[0]

    # The stream goes on: whoever asks now may have been told of more.
    await busy.say([recorded(gpu=1)])
    busy.live.flush()
    await asyncio.gather(*(ask() for _ in range(100)))
    assert Counter(one.what for one in asked) == {"events": 2, "latencies": 2}


async def test_a_page_that_is_loaded_is_always_asked_for_anew(busy: Web) -> None:
    asked = tell(busy, {})
    for _ in range(2):
        await busy.client.get("/history")

    assert len(asked) == 4


@pytest.mark.parametrize(
    ("part", "questions"),
    [
        ("now", set()),
        ("charts", {"series"}),
        ("happened", {"events", "runs"}),
        ("sessions", {"sessions"}),
    ],
)
async def test_a_part_asks_for_itself_only(busy: Web, part: str, questions: set[str]) -> None:
    asked = tell(busy, {})
    page = (await busy.client.get(f"/node/atlas/gpu/0?part={part}")).text

    assert {one.what for one in asked} == questions
    assert f'data-part="{part}"' in page
    assert page.count("data-part") == page.count(f'data-part="{part}"')
    assert "<nav" not in page or part == "charts"


async def test_an_unknown_part_is_told(busy: Web) -> None:
    tell(busy, {})
    page = (await busy.client.get("/history?part=banana")).text

    assert "&#39;part&#39; means nothing to this page" in page


@pytest.mark.parametrize("path", ["/history", "/usage", "/node/atlas", "/node/atlas/gpu/0"])
async def test_a_page_that_got_no_answer_asks_again_by_itself(busy: Web, path: str) -> None:
    assert " data-silent" in (await busy.client.get(path)).text

    tell(busy, {"events": "nothing was recorded of a node 'x'"})
    assert " data-silent" not in (await busy.client.get(path)).text
