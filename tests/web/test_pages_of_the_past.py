"""What all pages of the past have in common, and the one of events and runs, over HTTP."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBus
from gleaner.bus.messages import HistoryAnswer, HistoryQuery, RecorderState
from tests.builders import NOW
from tests.web.canned import a_run, gpu_event, hours_of_the_week, tell, use
from tests.web.conftest import Web
from tests.web.example import MARKUP
from tests.web.test_app import words

PAGES = ("/node/atlas", "/node/atlas/gpu/0", "/usage", "/history", "/history?what=runs")
LATENCY = {
    "stage": "noticed_to_clear",
    "count": 40,
    "p50_seconds": 0.5,
    "p90_seconds": 0.9,
    "p99_seconds": 1.5,
    "max_seconds": 2.0,
}


async def text(web: Web, path: str, status: int = 200) -> str:
    page = await web.client.get(path)
    assert page.status_code == status
    return words(page.text)


async def test_happenings_and_latencies_are_told(busy: Web) -> None:
    fast = LATENCY | {"stage": "noticed_to_term", "p50_seconds": 0.0}
    tell(
        busy,
        {
            "events": [gpu_event(NOW, "alice")],
            "runs": [a_run(NOW)],
            "latencies": [fast, LATENCY],
        },
    )

    events, runs = await text(busy, "/history"), await text(busy, "/history?what=runs")

    assert "Noticed → TERM < 1 ms 900 ms" in events
    assert "In all 500 ms 900 ms 1.50 s 2.00 s 40" in events
    assert "atlas 0 gpu GPU 0: idle → busy (alice computes)" in events
    assert "evicted alice is active at pts/3 2.1 ms 184 ms 412 ms 598 ms" in runs


async def test_filters_go_to_the_recorder(busy: Web) -> None:
    asked = tell(busy, {})
    await text(
        busy,
        "/history?node=atlas&kind=gpu&since=2026-11-01&until=2026-11-02&gpu=GPU-1"
        "&user=bob&entry=fold&state=busy",
    )

    question = next(one for one in asked if one.what == "events")
    assert (question.node, question.kind, question.gpu) == ("atlas", "gpu", "GPU-1")
    assert (question.user, question.entry, question.state) == ("bob", "fold", "busy")
    assert question.since == datetime(2026, 11, 1, tzinfo=UTC)
    assert question.until == datetime(2026, 11, 3, tzinfo=UTC)


async def test_links_keep_the_filter(busy: Web) -> None:
    tell(busy, {"runs": [a_run(NOW)]})
    page = html.unescape(
        (await busy.client.get("/history?what=runs&user=nobody&state=evicted&cursor=x")).text
    )

    assert 'href="?what=runs&user=nobody&state=evicted">Newest' in page
    assert 'href="?user=nobody"' in page, "states of runs are none of events"
    assert "api/history/runs?user=nobody&state=evicted&format=csv" in page


async def test_how_far_back_could_be_searched_is_told_while_older_events_are_indexed(
    busy: Web,
) -> None:
    def reply(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        answer = HistoryAnswer(client=query.client, id=query.id)
        if query.what == "events":
            answer = answer.model_copy(update={"looked_back_to": NOW - timedelta(days=1)})
        busy.others.publish(answer)

    busy.others.subscribe(HistoryQuery, reply)
    page = await text(busy, "/history?user=alice")
    assert "Searched back to 2026-11-20 12:00: nothing fits so far." in page
    assert "Older" not in page


@pytest.mark.parametrize("path", ["/history?user=alcie", "/usage?user=alcie"])
async def test_a_name_that_was_never_recorded_is_told_with_what_comes_close(
    busy: Web, path: str
) -> None:
    said = "no user named 'alcie' was ever recorded; did you mean 'alice'?"

    def reply(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        is_unknown = query.user is not None
        answer = HistoryAnswer(client=query.client, id=query.id)
        refusal = {"error": said, "unknown": "user"} if is_unknown else {}
        busy.others.publish(answer.model_copy(update=refusal))

    busy.others.subscribe(HistoryQuery, reply)
    page = html.unescape(await text(busy, path))
    assert f"N{said[1:]}" in page
    assert f"{said}." not in page
    for kind in ("events?", "usage?format=csv&"):
        answer = await busy.client.get(f"/api/history/{kind}user=alcie")
        assert (answer.status_code, answer.json()) == (404, {"detail": said})


@pytest.mark.parametrize("path", PAGES)
async def test_names_are_text_and_never_markup(busy: Web, path: str) -> None:
    tell(
        busy,
        {
            "events": [gpu_event(NOW, MARKUP, node=MARKUP)],
            "runs": [a_run(NOW, MARKUP, MARKUP)],
            "usage:user": [{"user": MARKUP, "entry": None, **use(1)}],
            "usage:group": [{"group": MARKUP, **use(1)}],
            "usage:model": [{"model": MARKUP, **use(1)}],
            "usage:day": [{"day": MARKUP, **use(1)}],
            "quotas": [{"user": MARKUP, "gpu_hours": 1, "quota_gpu_hours": 2}],
            "latencies": [LATENCY | {"stage": MARKUP}],
            "series": f"{MARKUP} is wrong",
        },
    )
    page = await busy.client.get(f"{path}{'&' if '?' in path else '?'}user=&entry={MARKUP}")

    assert page.status_code == 200
    assert MARKUP not in page.text
    assert html.escape(MARKUP) in page.text


@pytest.mark.parametrize("path", PAGES)
async def test_without_a_recorder_a_page_says_so_and_shows_what_it_has(
    busy: Web, path: str
) -> None:
    page = await text(busy, path)

    assert "The recorder did not answer within 0.3 s." in page
    if path.startswith("/node/atlas"):
        assert "alice computes (pid 4711, python)" in page


async def test_nobody_waits_for_a_recorder_that_is_known_to_be_away(busy: Web) -> None:
    async with MemoryBus(busy.broker, "recorder", "main"):
        pass

    assert "The recorder is not running." in await text(busy, "/history")
    answer = await busy.client.get("/api/history/events")
    assert (answer.status_code, answer.json()) == (503, {"detail": "the recorder is not running"})


@pytest.mark.parametrize("path", PAGES)
async def test_a_refusal_is_shown_as_a_sentence(busy: Web, path: str) -> None:
    refusal = "since is not before until"
    told = dict.fromkeys(("series", "events", "runs", "usage:user", "latencies"), refusal)
    tell(busy, told)

    assert "The recorder says: since is not before until." in await text(busy, path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/usage?range=banana", "What is shown here is the range 'month'."),
        ("/usage?per=banana", "by 'banana', but by hour, day, week, month; here by day."),
        ("/history?what=banana", "There are events and runs, and no 'banana'; here are events."),
        ("/history?limit=banana", "'limit' means nothing to this page and was left out."),
        ("/node/atlas/gpu/0?a=1&b=2", "'a', 'b' mean nothing to this page and were left out."),
        ("/usage?since=banana&per=banana", "dates are written like 2026-11-21."),
        ("/node/atlas?range=banana", "There is no range 'banana'"),
        ("/node/atlas/gpu/0?since=2026-13-99", "dates are written like 2026-11-21."),
        ("/history?since=banana", "'banana' is no date and was left out"),
        ("/history?what=banana", "Nothing was recorded yet."),
        ("/history?kind=banana", "There is no kind of event 'banana'; there are node_started, gpu"),
        ("/history?what=runs&kind=gpu", "Runs have no kind, so it was left out."),
        ("/history?node=banana", "There is no node 'banana'; there are atlas, boreas"),
        ("/history?gpu=banana", "No GPU that is known now has the UUID 'banana'."),
        ("/usage?node=banana", "There is no node 'banana'; there are atlas, boreas"),
        ("/history?since=2999-01-01", "'2999-01-01' lies in the future: nothing is recorded yet."),
        ("/usage?since=2999-01-01", "The first day lies in the future."),
        ("/node/atlas?per=day", "'per' means nothing to this page and was left out."),
    ],
)
async def test_an_address_that_makes_no_sense_still_shows_the_page(
    busy: Web, path: str, words: str
) -> None:
    tell(busy, {})

    assert words in await text(busy, path)


@pytest.mark.parametrize("path", PAGES)
async def test_addresses_are_relative_so_that_any_prefix_works(busy: Web, path: str) -> None:
    tell(busy, {"events": [gpu_event(NOW, "a")], "runs": [a_run(NOW)]})
    page = (await busy.client.get(path)).text

    found = re.findall(r'(?:href|src|action|data-worker)="([^"]*)"', page)
    assert found
    assert [one for one in found if one.startswith("/") or "//" in one] == []
    assert 'aria-label="Pages"' in page


@pytest.mark.parametrize("path", ["/", "/usage", "/history", "/node/atlas", "/node/a%00%1Bb"])
async def test_no_control_character_of_an_address_comes_into_a_page(busy: Web, path: str) -> None:
    tell(busy, {})
    page = (await busy.client.get(f"{path}?user=%00%1B%C2%85al&%07=1")).text

    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page) == []


async def test_there_is_a_way_to_older_rows_and_back(busy: Web) -> None:
    tell(busy, {})
    page = (await busy.client.get("/history?node=atlas&cursor=abc")).text

    assert 'href="?node=atlas">Newest' in page
    assert "data-older hidden" in page


async def test_how_history_is_kept_is_told_where_it_is_looked_for(busy: Web) -> None:
    tell(busy, {"usage:weekday_hour": hours_of_the_week(lambda day, hour: 0.1)})
    state = RecorderState(
        database="sqlite",
        problem="gleaner.sqlite: disk is full",
        used_bytes=5_000_000,
        oldest={"events": NOW},
        lost_events=3,
        time_zone="Europe/Berlin",
        at=NOW,
    )
    await busy.say([state])

    for path in ("/", "/usage", "/history"):
        assert "Nothing is recorded, what happens waits at the nodes" in await text(busy, path)
    for path in ("/usage", "/history"):
        assert "5.0 MB; events since 2026-11-21; 3 events are missing" in await text(busy, path)
    assert "by hour of the week in Europe/Berlin" in await text(busy, "/usage")
    metrics = (await busy.client.get("/metrics")).text
    assert "gleaner_history_problem 1\n" in metrics
    assert "gleaner_history_lost_events 3\n" in metrics
    assert (await busy.client.get("/api/recorder")).json()["used_bytes"] == 5_000_000

    await busy.say([state.model_copy(update={"problem": None})])
    assert "Nothing is recorded, what" not in await text(busy, "/")
    assert "gleaner_history_problem 0\n" in (await busy.client.get("/metrics")).text
