"""The page of use, with a recorder that says what the test wants."""

from __future__ import annotations

import html
from datetime import timedelta

from gleaner.bus.messages import RecorderState
from tests.builders import NOW
from tests.web.canned import hours_of_the_week, tell, use
from tests.web.conftest import Web
from tests.web.test_pages_of_the_past import text


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
