"""The wall clock is set while people work: nobody counts as gone because of it, nor for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.collector.clock import Clocks
from services.collector.people.terminals import LastInput, last_input
from tests.builders import NOW

HOUR = 3600.0
WALL = NOW.timestamp()
UP = 100_000.0


def typed(seconds_ago: float) -> LastInput:
    return last_input(None, int((WALL - seconds_ago) * 1e9), 1, WALL, UP)


def after(last: LastInput, seconds: float, *, step: float, key_at: float | None = None) -> float:
    """Return the idle time after some seconds in which the wall clock was set by `step`."""
    accessed_ns = last.accessed_ns
    if key_at is not None:
        accessed_ns = int((WALL + key_at + step) * 1e9)
    now = last_input(last, accessed_ns, 1, WALL + seconds + step, UP + seconds)
    return now.idle_seconds(UP + seconds)


@pytest.mark.parametrize("step", [0, HOUR, -HOUR])
def test_who_typed_lately_stays_so_whatever_the_clock_is_set_to(step: float) -> None:
    assert after(typed(20), 30, step=step) == pytest.approx(42)


@pytest.mark.parametrize("step", [0, HOUR, -HOUR])
def test_who_left_long_ago_does_not_come_back_by_a_clock_that_is_set(step: float) -> None:
    assert after(typed(400), 30, step=step) == pytest.approx(422)


@pytest.mark.parametrize("step", [0, HOUR, -HOUR])
def test_a_key_after_the_clock_was_set_is_a_key(step: float) -> None:
    assert after(typed(400), 30, step=step, key_at=29) == 0


def test_an_access_time_in_the_future_counts_as_now_and_grows_old_from_there() -> None:
    last = typed(-HOUR)

    assert last.idle_seconds(UP) == 0
    assert last.idle_seconds(UP + 308) == pytest.approx(300)


def test_a_terminal_that_was_given_to_somebody_is_compared_with_the_clock_anew() -> None:
    last = last_input(typed(20), int((WALL - 400) * 1e9), 2, WALL, UP)

    assert last.idle_seconds(UP) == pytest.approx(392)


@pytest.mark.parametrize(("step", "seen"), [(0, None), (1, None), (HOUR, HOUR), (-HOUR, -HOUR)])
def test_a_clock_that_was_set_is_noticed(step: float, seen: float | None) -> None:
    before = Clocks(wall=NOW, steady=UP)
    day = Clocks(wall=NOW + timedelta(days=1, seconds=step), steady=UP + 86_400)

    assert day.set_since(before) == (None if seen is None else pytest.approx(seen))
