"""How often unrecorded events are sent again."""

from __future__ import annotations

from gleaner.bus.pace import STUCK_SECONDS, WINDOW, Pace


def sendings(seconds: int) -> int:
    """Play a recorder that is away; return how many events were sent meanwhile."""
    pace, sent = Pace(since=0), WINDOW[1]
    for now in range(seconds):
        if pace.is_stuck(now):
            pace = pace.gave_up(now)
            sent += pace.window
    return sent


def test_a_recorder_that_is_away_for_a_day_is_not_buried_under_repeats() -> None:
    assert sendings(86_400) < 2 * WINDOW[1] + 86_400 / STUCK_SECONDS[1] * WINDOW[0]


def test_once_the_watermark_moves_it_is_as_fast_as_before() -> None:
    pace = Pace()
    for now in range(0, 2000, 200):
        pace = pace.gave_up(now)
    assert pace.window == WINDOW[0]

    for now in range(7):
        pace = pace.moved(now)

    assert pace == Pace(since=6)
