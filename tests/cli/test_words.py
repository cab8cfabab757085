"""Durations as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gleaner.cli.words import duration, gibibytes, parse_duration, parse_instant, percent
from tests.builders import NOW


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("2d 3h", 183600), ("1.5h", 5400), ("1W", 604800)],
)
def test_a_duration_is_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2x", "2h soon", "0s", "-1h"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="expected something like 30m, 2h or 1d 12h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T08:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("2026-11-01T08:00+01:00", datetime(2026, 11, 1, 7, tzinfo=UTC)),
    ],
)
def test_times_are_told_as_people_do(text: str, at: datetime) -> None:
    assert parse_instant(text, NOW) == at


@pytest.mark.parametrize("text", ["", "soon", "7", "2026-13-01", "0s", "-1d"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; expected something like 7d, 2026-11-01"):
        parse_instant(text, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01",
        "1969-12-31",
        "1970-01-01T00:30+01:00",
        "0001-01-01T00:00+10:00",
        "9999-12-31",
        "99999d",
        "9" * 400 + "d",
    ],
)
def test_a_time_at_which_nothing_is_recorded_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="lies outside the years 1970 to 9998; expected"):
        parse_instant(text, NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (4, "4 s"), (61, "1 min"), (3720, "1 h 02"), (100_000, "1 d 3 h"), (-5, "0 s")],
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_unknown_is_a_dash_and_never_zero() -> None:
    assert percent(None) == gibibytes(None, 1) == "–"
    assert percent(0) == "0 %"
