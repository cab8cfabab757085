"""What is told of the recorder and its database."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from gleaner.bus.messages import Availability, RecorderState
from gleaner.keeping import facts_of, nothing_of, problem_of, zone_of
from tests.builders import NOW

WELL = RecorderState(database="sqlite", used_bytes=9_900_000_000, at=NOW)
ASIDE = "gleaner.sqlite.damaged-20261121T120000000000"


def recorder(state: Literal["online", "offline"]) -> Availability:
    return Availability(
        service="recorder", instance="main", state=state, version="0", connection="c", at=NOW
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"problem": "gleaner.sqlite: disk is full"}, "Nothing is recorded, .*: disk is full"),
        ({"behind_since": NOW}, "behind: since 2026-11-21 12:00 UTC samples wait"),
        (
            {"kept_aside": {"old": NOW - timedelta(days=1), ASIDE: NOW}},
            f"history begins at 2026-11-21 12:00 UTC.* kept beside it as {ASIDE}",
        ),
        (
            {"kept_aside": {f"{ASIDE}-wal": NOW}},
            f"log was damaged: .* before 2026-11-21 12:00 UTC is missing.* as {ASIDE}-wal",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_it_means(state: dict[str, object], words: str) -> None:
    said = problem_of(WELL.model_copy(update=state), [recorder("online")])

    assert said is not None
    assert re.search(words, said)


def test_a_recorder_that_is_away_is_told_and_one_that_never_was_is_not() -> None:
    assert "not running" in str(problem_of(WELL, [recorder("offline")]))
    assert problem_of(None, []) is None
    assert problem_of(WELL, [recorder("offline"), recorder("online")]) is None
    assert problem_of(WELL, []) is None


def test_size_age_and_what_is_missing_are_told() -> None:
    state = WELL.model_copy(
        update={
            "max_bytes": 10_000_000_000,
            "oldest": {"samples": NOW, "events": NOW},
            "shortened": {"samples": NOW},
            "lost_events": 3,
            "unreadable_messages": 0,
            "kept_aside": {ASIDE: NOW},
        }
    )

    assert facts_of(state) == [
        "9.9 GB of at most 10.0 GB",
        "single samples since 2026-11-21",
        "events since 2026-11-21",
        "for want of room no single samples before 2026-11-21 12:00",
        "3 events are missing",
        f"kept aside: {ASIDE}",
    ]
    assert facts_of(None) == []


@pytest.mark.parametrize("begins", ["2026-11-20T23:00", "2026-11-21T00:00", "2026-11-21T10:00"])
def test_days_begin_at_a_midnight_wherever_that_is(begins: str) -> None:
    oldest = {"days": datetime.fromisoformat(begins).replace(tzinfo=UTC)}
    state = WELL.model_copy(update={"used_bytes": None, "oldest": oldest})

    assert facts_of(state) == ["days since 2026-11-21"]


def test_the_time_zone_has_its_name_where_the_recorder_says_it() -> None:
    assert zone_of(WELL.model_copy(update={"time_zone": "Asia/Tokyo"})) == "Asia/Tokyo"
    assert zone_of(WELL) == zone_of(None) == "the recorder's time zone"


@pytest.mark.parametrize(
    ("oldest", "told"),
    [
        ({}, "Nothing is recorded yet: .* five minutes, and appears here within ten"),
        (
            {"samples": NOW - timedelta(minutes=4)},
            "The first five minutes, from 11:56 UTC on, appear here at about 12:03 UTC",
        ),
        ({"samples": NOW - timedelta(hours=1)}, "Nothing is recorded yet: "),
        ({"samples": NOW, "days": NOW - timedelta(days=9)}, "Nothing was recorded in this time.$"),
        ({"days": NOW + timedelta(days=9)}, "in this time: history begins on 2026-12-01"),
    ],
)
def test_why_nothing_is_there_is_told_with_when_something_will_be(
    oldest: dict[str, datetime], told: str
) -> None:
    state = WELL.model_copy(update={"oldest": oldest})

    assert re.search(told, nothing_of(state, NOW, NOW))


def test_what_is_made_of_single_samples_is_there_soon() -> None:
    assert "within two minutes" in nothing_of(None, NOW, NOW, is_fine=True)
