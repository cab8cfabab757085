"""What of a session lies within an hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from services.recorder.queries.presence import spread, spread_by_hour
from services.recorder.values import use
from services.recorder.values.columns import to_microseconds
from services.recorder.values.local_time import LocalTime
from services.recorder.values.rollup import HOUR
from services.recorder.values.spans import Part
from tests.builders import NOW

PART = Part(tier=HOUR, begin=NOW, end=NOW + timedelta(hours=3))


def session(begin: datetime, hours: float) -> dict[str, Any]:
    used = dict.fromkeys(use.SUMS, round(hours * 3600)) | dict.fromkeys(use.LIMITS, 7)
    return used | {
        "user": 1,
        "begin": to_microseconds(begin),
        "end": to_microseconds(begin + timedelta(hours=hours)),
    }


def test_only_what_lies_within_the_part_counts() -> None:
    (early, late) = spread(
        [session(NOW - timedelta(hours=3), 4), session(NOW + timedelta(hours=2), 10)],
        PART,
        ["user"],
    )

    assert (early["seconds"], late["seconds"], early["utilization_max"]) == (3600, 3600, 7)


def test_each_hour_has_its_share() -> None:
    half = timedelta(minutes=30)
    hours = spread_by_hour(
        [session(NOW + half, 2)], PART, LocalTime().hour_of, lambda start: {"clock": start // 12}
    )

    first = to_microseconds(NOW) // 3_600_000_000
    assert [(one["clock"] - first, one["energy_joules"]) for one in hours] == [
        (0, 1800), (1, 3600), (2, 1800),
    ]  # fmt: skip
