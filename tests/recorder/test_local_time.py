"""Hours, days and months of a time zone, also where the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from services.recorder.store import Store
from services.recorder.values.local_time import EPOCH, LocalTime, machine_zone, next_of, not_before
from services.recorder.values.rollup import DAY, HOUR, MONTH
from services.recorder.values.spans import Part, months, of_one_offset, parts
from tests.recorder.builders import url

BERLIN = LocalTime(zones=((EPOCH, "Europe/Berlin"),))
KOLKATA = LocalTime(zones=((EPOCH, "Asia/Kolkata"),))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("at", "begin", "hours"),
    [
        (utc(2026, 3, 29, 12), utc(2026, 3, 28, 23), 23),
        (utc(2026, 10, 25, 12), utc(2026, 10, 24, 22), 25),
        (utc(2026, 7, 1, 12), utc(2026, 6, 30, 22), 24),
    ],
)
def test_a_day_of_a_clock_change_has_23_or_25_hours(
    at: datetime, begin: datetime, hours: int
) -> None:
    assert BERLIN.day_of(at) == begin
    assert next_of(BERLIN.day_of, at) - begin == timedelta(hours=hours)


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)

    assert (BERLIN.at(first).hour, BERLIN.at(second).hour) == (2, 2)
    assert BERLIN.hour_of(first) == utc(2026, 10, 25, 0)
    assert BERLIN.hour_of(second) == utc(2026, 10, 25, 1)


def test_hours_of_a_zone_of_half_an_hour_begin_at_half_past() -> None:
    at = utc(2026, 6, 1, 12, 10)

    assert KOLKATA.hour_of(at) == utc(2026, 6, 1, 11, 30)
    assert KOLKATA.day_of(at) == utc(2026, 5, 31, 18, 30)
    assert KOLKATA.month_of(at) == utc(2026, 5, 31, 18, 30)


def test_another_zone_leaves_the_past_as_it_was_counted() -> None:
    since = utc(2026, 6, 10, 9)
    local = LocalTime(zones=((EPOCH, "UTC"), (since, "Asia/Kolkata")))

    assert local.day_of(utc(2026, 6, 9, 20)) == utc(2026, 6, 9)
    assert local.day_of(utc(2026, 6, 10, 8)) == utc(2026, 6, 10)
    assert local.day_of(since + timedelta(hours=1)) == since
    assert local.day_of(utc(2026, 6, 10, 20)) == utc(2026, 6, 10, 18, 30)


@pytest.mark.parametrize("local", [BERLIN, KOLKATA])
def test_a_span_is_of_whole_months_and_days_with_hours_at_its_ends(local: LocalTime) -> None:
    since, until = utc(2026, 1, 15, 7, 20), utc(2026, 11, 3, 16, 40)

    found = parts(since, until, local, (HOUR, DAY, MONTH))

    assert [part.tier.name for part in found] == ["1h", "1d", "1mo", "1d", "1h"]
    assert found[0].begin == local.hour_of(since)
    assert found[-1].end == not_before(local.hour_of, until)
    assert all(a.end == b.begin for a, b in pairwise(found))
    assert months(since, until, local)[-1] == local.month_of(until)


def test_a_year_has_three_pieces_of_one_offset() -> None:
    part = Part(tier=HOUR, begin=utc(2026, 1, 1), end=utc(2027, 1, 1))

    assert [
        (piece.begin, offset // timedelta(hours=1)) for piece, offset in of_one_offset(part, BERLIN)
    ] == [(part.begin, 1), (utc(2026, 3, 29, 1), 2), (utc(2026, 10, 25, 1), 1)]


def test_this_machine_has_a_zone() -> None:
    assert LocalTime(zones=((EPOCH, machine_zone()),)).at(utc(2026, 1, 1)).utcoffset() is not None


async def test_a_change_of_the_zone_is_remembered_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(url(tmp_path), "Europe/Berlin"):
        pass
    async with Store(url(tmp_path), "Europe/Berlin") as store:
        assert store.local == BERLIN
    assert caplog.text == ""
    async with Store(url(tmp_path), "Asia/Kolkata") as store:
        assert [zone for _, zone in store.local.zones] == ["Europe/Berlin", "Asia/Kolkata"]
    assert "are of Asia/Kolkata from now on" in caplog.text
    async with Store(url(tmp_path), "Asia/Kolkata") as store:
        assert len(store.local.zones) == 2
