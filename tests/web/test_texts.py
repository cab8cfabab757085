"""Numbers and ages in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.web.texts import (
    age,
    gibibytes,
    hours,
    memory,
    milliseconds,
    quantity,
    rate,
    share,
    whole,
)
from tests.builders import NOW


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (8040, "2 h 14 min"),
        (86400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


def test_no_answer_is_a_dash_and_never_zero() -> None:
    dashes = (
        age(None, NOW),
        gibibytes(None),
        memory(None),
        milliseconds(None),
        rate(None),
        whole(None, "%"),
    )
    assert set(dashes) == {"–"}
    assert share(None, 10) is None
    assert share(5, 0) is None


def test_numbers_are_as_exact_as_people_need_them() -> None:
    assert gibibytes(33_500_000_000) == "31.2"
    assert gibibytes(150 * 2**30) == "150"
    assert rate(8_020_000.0) == "8.0 MB/s"
    assert [milliseconds(0.0021), milliseconds(0.5981), milliseconds(5.006)] == [
        "2.1 ms",
        "598 ms",
        "5.01 s",
    ]
    assert whole(2.5, "%") == "3 %"
    assert share(3, 2) == 100


def test_little_is_not_nothing() -> None:
    ago = [NOW - timedelta(seconds=seconds) for seconds in (12, 72, 360, 18720)]
    assert [hours(at, NOW) for at in ago] == ["12 s", "1 min", "0.1", "5.2"]
    assert [quantity(0), quantity(0.004), quantity(0.02)] == ["0.0 h", "< 0.01 h", "0.02 h"]
