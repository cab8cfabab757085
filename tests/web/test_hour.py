"""The last hour of utilization: means of a minute, and what is not known stays so."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.web.shown.hour import LastHour
from services.web.texts import spark, spark_text
from tests.builders import NOW
from tests.web.example import Example

GPU = "GPU-atlas-0000"


def heard(hour: LastHour, percent: float, at: datetime) -> None:
    hour.take(Example(at).telemetry("atlas", [(percent, 1, 40, 100)], 80), at)


def row(hour: LastHour, at: datetime) -> tuple[int | None, ...]:
    return hour.of("atlas", at)[GPU]


def test_a_minute_is_the_mean_of_what_was_heard_in_it() -> None:
    hour = LastHour()
    for seconds, percent in ((0, 10), (10, 20), (20, 60)):
        heard(hour, percent, NOW + timedelta(seconds=seconds))

    assert row(hour, NOW)[-1] == 30
    assert row(hour, NOW)[:-1] == (None,) * 59


def test_a_silence_leaves_a_gap() -> None:
    hour = LastHour()
    heard(hour, 50, NOW)
    heard(hour, 70, NOW + timedelta(minutes=3))

    assert row(hour, NOW + timedelta(minutes=3))[-4:] == (50, None, None, 70)
    assert row(hour, NOW + timedelta(minutes=5))[-6:] == (50, None, None, 70, None, None)


def test_after_an_hour_nothing_is_left() -> None:
    hour = LastHour()
    for minute in range(90):
        heard(hour, minute, NOW + timedelta(minutes=minute))

    assert row(hour, NOW + timedelta(minutes=89)) == tuple(range(30, 90))
    assert set(row(hour, NOW + timedelta(minutes=200))) == {None}


def test_a_clock_set_back_begins_anew() -> None:
    hour = LastHour()
    heard(hour, 50, NOW)
    heard(hour, 70, NOW - timedelta(minutes=10))

    assert row(hour, NOW - timedelta(minutes=10))[-1] == 70
    assert set(row(hour, NOW - timedelta(minutes=10))[:-1]) == {None}


def test_the_line_stops_at_a_gap_and_a_lone_minute_is_a_dot() -> None:
    assert spark((None, 10, 20, None, 100)) == "M1 90L1 90L2 80M4 0L4 0"
    assert spark((None, None)) == ""
    assert "30 % in the mean, at most 40 %" in spark_text((20, None, 40))


def test_what_was_before_fills_only_where_nothing_was_heard() -> None:
    hour = LastHour()
    heard(hour, 90, NOW - timedelta(minutes=1))
    heard(hour, 80, NOW)
    before = {GPU: [10] * 58 + [None] + [20], "GPU-new": [None] * 59 + [30]}

    hour.fill("atlas", NOW - timedelta(minutes=59), before, NOW)

    assert row(hour, NOW) == (*[10] * 58, 90, 80)
    assert hour.of("atlas", NOW)["GPU-new"] == (*[None] * 59, 30)
    later = NOW + timedelta(minutes=2)
    assert row(hour, later) == (*[10] * 56, 90, 80, None, None)


def test_what_is_too_old_or_to_come_fills_nothing() -> None:
    hour = LastHour()

    hour.fill("atlas", NOW - timedelta(minutes=70), {GPU: [10] * 80}, NOW)

    assert row(hour, NOW) == (10,) * 60
    assert row(hour, NOW + timedelta(minutes=1)) == (*[10] * 59, None)
