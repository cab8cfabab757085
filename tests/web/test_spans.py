"""Which time a page is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.web.history.spans import CHART_PRESETS, Span, date_of, span_of
from tests.builders import NOW


def asked(**address: str) -> Span:
    return span_of(address, CHART_PRESETS, "day", NOW)


def test_a_range_by_name_ends_now() -> None:
    assert asked(range="week").since == NOW - timedelta(days=7)
    assert asked(range="week").until == NOW
    assert asked().length == timedelta(days=1)


def test_two_dates_are_whole_days_the_last_one_included() -> None:
    span = asked(since="2026-11-01", until="2026-11-03")

    assert span.since == datetime(2026, 11, 1, tzinfo=UTC)
    assert span.until == datetime(2026, 11, 4, tzinfo=UTC)
    assert (date_of(span.since), date_of(span.until, is_end=True)) == ("2026-11-01", "2026-11-03")


def test_an_instant_is_that_instant_in_any_zone() -> None:
    assert asked(since="2026-11-01T12:00+02:00").since == datetime(2026, 11, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ({"range": "fortnight"}, "There is no range 'fortnight'"),
        ({"since": "banana"}, "dates are written like 2026-11-21."),
        ({"until": "9999-12-31"}, "dates are written like 2026-11-21."),
        ({"since": "0001-01-01"}, "dates are written like 2026-11-21."),
        ({"since": "2026-11-03", "until": "2026-11-01"}, "The first day is not before the last."),
    ],
)
def test_what_makes_no_sense_is_told_and_the_default_shown(
    address: dict[str, str], words: str
) -> None:
    span = asked(**address)

    assert words in (span.problem or "")
    assert span.length == timedelta(days=1)
