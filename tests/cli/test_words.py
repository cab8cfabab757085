"""Durations as people write and read them."""

from __future__ import annotations

import pytest

from gleaner.cli.words import duration, gibibytes, parse_duration, percent


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
    ("seconds", "text"),
    [(None, "?"), (4, "4 s"), (61, "1 min"), (3720, "1 h 02"), (100_000, "1 d 3 h"), (-5, "0 s")],
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_unknown_is_a_dash_and_never_zero() -> None:
    assert percent(None) == gibibytes(None, 1) == "–"
    assert percent(0) == "0 %"
