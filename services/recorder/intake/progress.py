"""How far one stream is recorded: pure arithmetic over sequence numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

AHEAD = 100_000
"""No node has that many on their way: what is missing behind as many is not coming."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Numbers that will never come, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The watermark, and what is recorded beyond the first missing number."""

    watermark: int = 0
    beyond: frozenset[int] = frozenset()
    gaps: int = 0
    """How many numbers below the watermark never came."""

    def recorded(self, numbers: Iterable[int], oldest: int) -> tuple[Progress, tuple[Gap, ...]]:
        """Take in what was recorded; return what is known now and which gaps are new.

        `oldest` is the oldest number that its outbox still keeps: what is older and missing is
        lost, and waiting for it would hold up the watermark for ever.
        """
        beyond = self.beyond | {number for number in numbers if number > self.watermark}
        if len(beyond) > AHEAD:
            oldest = max(oldest, sorted(beyond)[-AHEAD])
        watermark = max(self.watermark, oldest - 1)
        gaps, expected = [], self.watermark + 1
        for number in [*sorted(number for number in beyond if number <= watermark), watermark + 1]:
            if number > expected:
                gaps.append(Gap(first=expected, last=number - 1))
            expected = number + 1
        while watermark + 1 in beyond:
            watermark += 1
        missing = sum(gap.last - gap.first + 1 for gap in gaps)
        left = frozenset(number for number in beyond if number > watermark)
        return Progress(watermark=watermark, beyond=left, gaps=self.gaps + missing), tuple(gaps)
