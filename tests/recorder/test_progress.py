"""The watermark: the last number without a gap that anybody still waits for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.recorder.intake.progress import Gap, Progress


def test_it_stops_before_what_is_missing_and_goes_on_when_it_comes() -> None:
    progress, gaps = Progress().recorded([1, 2, 4], oldest=1)
    assert (progress.watermark, progress.beyond, gaps) == (2, {4}, ())

    progress, gaps = progress.recorded([3], oldest=1)
    assert (progress.watermark, progress.beyond, gaps) == (4, frozenset(), ())


def test_what_is_older_than_the_oldest_kept_is_a_gap() -> None:
    progress, gaps = Progress().recorded([2, 5, 9], oldest=7)

    assert gaps == (Gap(first=1, last=1), Gap(first=3, last=4), Gap(first=6, last=6))
    assert (progress.watermark, progress.beyond, progress.gaps) == (6, {9}, 4)


def test_a_gap_is_noticed_once() -> None:
    progress, _ = Progress().recorded([5], oldest=5)

    again, gaps = progress.recorded([5, 6], oldest=5)

    assert (again.watermark, gaps, again.gaps) == (6, (), 4)


def test_a_new_database_begins_at_the_oldest_kept() -> None:
    progress, gaps = Progress().recorded([501], oldest=501)

    assert (progress.watermark, gaps) == (501, (Gap(first=1, last=500),))


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5), max_size=20),
    st.lists(st.integers(1, 10), min_size=20, max_size=20),
)
def test_every_number_up_to_the_watermark_is_recorded_or_in_one_gap(
    batches: list[list[int]], oldest: list[int]
) -> None:
    progress, recorded, lost = Progress(), set[int](), list[int]()
    for batch, least in zip(batches, oldest, strict=False):
        before = progress.watermark
        progress, gaps = progress.recorded(batch, min(least, *batch))
        recorded |= set(batch)
        lost += [number for gap in gaps for number in range(gap.first, gap.last + 1)]
        assert progress.watermark >= before

    assert len(lost) == len(set(lost)) == progress.gaps
    known = recorded | set(lost)
    assert set(range(1, progress.watermark + 1)) <= known
    assert progress.watermark + 1 not in recorded
    assert progress.beyond == {number for number in recorded if number > progress.watermark}
