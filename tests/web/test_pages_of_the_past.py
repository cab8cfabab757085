"""The pages behind the first one over HTTP, with a recorder that says what the test wants."""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import UTC, datetime, timedelta

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBus
from gleaner.bus.messages import HistoryAnswer, HistoryQuery, RecorderState
from tests.builders import NOW
from tests.web.canned import a_run, bucket, gpu_event, hours_of_the_week, tell, use
from tests.web.conftest import Web
from tests.web.example import MARKUP, gpu_id
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


async def test_use_is_told_by_everything(busy: Web) -> None:
    tell(
        busy,
        {
            "usage:user": [
                {
                    "user": "alice",
                    "entry": None,
                    "memory_byte_hours": 80 * 2**30,
                    **use(30, busy=20, held=10),
                },
                {"user": None, "entry": "fold", **use(50)},
            ],
            "usage:group": [{"group": "vision", **use(30)}],
            "usage:node": [{"node": "boreas", **use(30)}],
            "usage:model": [{"model": "NVIDIA H100 80GB HBM3", **use(30)}],
            "usage:day": [
                {
                    "day": "2026-11-20",
                    **use(30, busy=20, held=10),
                    "ours_hours": 50.0,
                    "idle_hours": 20.0,
                }
            ],
            "usage:weekday_hour": hours_of_the_week(lambda day, _: 0.03 if day == 7 else 0.4),
            "quotas": [
                {"user": "alice", "month": "2026-11", "gpu_hours": 30, "quota_gpu_hours": 40}
            ],
        },
    )
    page = await text(busy, "/usage")

    for expected in (
        "People had GPUs 30 % of the time",
        "10.0 h of them held without doing anything",
        "Least used: Sun 00–04, 3 % busy",
        "alice 30.0 20.0 10.0 15.0 50 % 80.0 1.0",
        "vision",
        "Boreas",
        "H100 80GB HBM3",
        "Our workloads Workload GPU-hours busy held utilized mean kWh fold 50.0",
        "10.0 h left",
    ):
        assert expected in page


async def test_use_is_summed_up_by_the_hour_of_the_day_too(busy: Web) -> None:
    asked = tell(busy, {"usage:hour": [{"hour": "09", **use(3, busy=2.5, held=0.5)}]})

    page = await text(busy, "/usage?range=day&per=hour")

    assert "GPU-hours by hour of the day in the recorder's time zone Hour of day Day" in page
    assert "10 nothing was recorded 09 2.5 0.50" in page
    assert [one.by for one in asked if one.what == "usage"].count("hour") == 1


async def test_use_of_one_person_on_one_node_is_told_by_the_hour(busy: Web) -> None:
    asked = tell(
        busy,
        {
            "usage:user": [{"user": "alice", "entry": None, **use(3, busy=3)}],
            "usage:weekday_hour": [{"weekday": 2, "hour": "09", **use(2.5, busy=2.5)}],
        },
    )
    page = await text(busy, "/usage?node=boreas&user=alice&range=week")

    assert "Usage by alice on Boreas" in page
    assert "When alice uses GPUs GPU-hours, by hour of the week" in page
    assert "Tue 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 2.5 0.0" in page
    assert "Least used" not in page
    usage = [one for one in asked if one.what == "usage"]
    assert {(one.node, one.user) for one in usage} == {("boreas", "alice")}
    links = html.unescape((await busy.client.get("/usage?node=boreas&user=alice")).text)
    for kept in ("node=boreas&user=alice&range=day", "&node=boreas&user=alice&per=week"):
        assert kept in links
    assert "&node=boreas&user=alice&format=csv" in links


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


async def test_the_api_answers_in_pages_and_as_a_file(web: Web) -> None:
    rows = [{"user": "=cmd()", "entry": None, **use(3)}, {"user": "bob", **use(1)}]
    asked = tell(web, {"usage:user": rows})

    page = await web.client.get("/api/history/usage?by=user&node=atlas&limit=7")
    file = await web.client.get("/api/history/usage?by=user&format=csv")

    assert page.json() == {"rows": rows, "cursor": None, "looked_back_to": None}
    assert (asked[0].node, asked[0].limit) == ("atlas", 7)
    assert file.headers["content-type"].startswith("text/csv")
    assert "gleaner-usage.csv" in file.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(file.text)))
    assert [row["user"] for row in table] == ["'=cmd()", "bob"]
    assert table[0]["gpu_hours"] == "3"


async def test_a_file_turns_all_pages(web: Web) -> None:
    def reply(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        number = int(query.cursor or 0)
        answer = HistoryAnswer(client=query.client, id=query.id, rows=({"kind": f"k{number}"},))
        more = {"cursor": str(number + 1)} if number < 3 else {}
        web.others.publish(answer.model_copy(update=more))

    web.others.subscribe(HistoryQuery, reply)
    file = await web.client.get("/api/history/events?format=csv")

    assert [row["kind"] for row in csv.DictReader(io.StringIO(file.text))] == [
        "k0", "k1", "k2", "k3",
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["usage?by=day&", "series?gpu=G&", "quotas?", "runs?"])
async def test_a_file_with_nothing_in_it_has_its_heading(web: Web, what: str) -> None:
    tell(web, {})
    file = await web.client.get(f"/api/history/{what}format=csv")

    (heading,) = file.text.splitlines()
    assert heading.count(",") > 3


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("series?points=0", 422),
        ("series?limit=1001", 422),
        ("usage?by=colour", 422),
        ("usage?unheard_of=1", 422),
        ("sessions?node=../../etc", 422),
        ("events?since=yesterday", 422),
        ("quotas", 422),
        ("events?kind=banana", 422),
    ],
)
async def test_the_api_refuses_what_it_cannot_answer(web: Web, query: str, status: int) -> None:
    tell(web, {"quotas": "this recorder cannot tell of quotas"})
    answer = await web.client.get(f"/api/history/{query}")

    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("gpus?colour=red", "There is no parameter 'colour'; there are none."),
        ("last-hour?nodes=a", "There is no parameter 'nodes'; there is node."),
        ("last-hour?node=nowhere", "There is no node 'nowhere'; there are atlas, boreas"),
        ("nodes/nowhere", "There is no node 'nowhere'; there are atlas, boreas"),
        (
            "history/latencies?user=a",
            "There is no parameter 'user'; there are node, since, until, ",
        ),
        ("history/usage?by=colour", "by 'colour': Input should be 'user', 'group'"),
        ("events?what=all", "what 'all': Input should be 'events' or 'runs'"),
        ("events?kind=gpus", "kind 'gpus': there are node_started, gpu, "),
        ("history/events?kind=gpus", "kind 'gpus': there are node_started, gpu, "),
        ("history/events?state=sleepy", "state 'sleepy': there are idle, busy, "),
        ("history/runs?state=idle", "state 'idle': there are "),
        ("export/all", "what 'all': Input should be "),
    ],
)
async def test_the_api_says_in_a_sentence_what_it_does_not_know(
    busy: Web, path: str, told: str
) -> None:
    answer = await busy.client.get(f"/api/{path}")

    assert answer.status_code in (400, 404, 422)
    assert answer.json()["detail"].startswith(told)


async def test_before_there_is_history_one_card_says_when_there_will_be(busy: Web) -> None:
    tell(busy, {})
    begun = RecorderState(database="sqlite", oldest={"samples": NOW}, at=NOW)
    await busy.say([begun])

    page = await text(busy, "/usage")
    assert "The first five minutes, from 12:00 UTC on, appear here at about 12:07 UTC." in page
    assert "Then this page tells GPU-hours over time" in page
    assert "By user" not in page
    day = await text(busy, "/node/atlas/gpu/0?range=day")
    assert "appear here at about 12:07 UTC. The last hour is drawn sooner" in day
    # Of so young a history the hour is shown, unless somebody chooses.
    assert "within two minutes" in await text(busy, "/node/atlas/gpu/0")
    assert "within two minutes" in await text(busy, "/node/atlas")

    await busy.say([begun.model_copy(update={"oldest": {"days": NOW - timedelta(days=3)}})])
    page = await text(busy, "/usage")
    assert "Nothing to show Nothing was recorded in this time." in page
    assert "Then this page" not in page


async def test_who_has_used_nothing_is_not_told_that_nothing_was_recorded(busy: Web) -> None:
    standing = {"user": "alice", "gpu_hours": 0, "quota_gpu_hours": None}
    tell(busy, {"usage:node": [use(0, node="atlas", idle_hours=4.0)], "quotas": [standing]})

    page = await text(busy, "/usage")

    assert "By user Nobody used a GPU in this time." in page
    assert "Our workloads No workload of ours ran in this time." in page
    assert "Quotas this month Nobody has a quota" in page


async def test_a_gpu_is_found_by_its_name_in_an_address(busy: Web) -> None:
    asked = tell(busy, {})

    for path in ("/node/atlas/gpu/atlas:5", "/node/atlas/gpu/5"):
        assert "GPU 5 of atlas" in await text(busy, path)
    asked.clear()
    page = await text(busy, "/history?gpu=atlas:5")

    assert [one.gpu for one in asked if one.what == "events"] == [gpu_id("atlas", 5)]
    assert f"Of GPU {gpu_id('atlas', 5)} only." in page


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
