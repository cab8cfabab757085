"""The plain drawing of a series, for pages without script: paths and rectangles; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600, 100
"""Of the drawing, in its own units."""
SHADES = 4
"""In so many steps a lane tells how much of a bucket a state had."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One state in one lane of the ribbon, with the share of the time that it had."""

    state: str
    x: float
    width: float
    shade: int


def band_path(
    middles: Sequence[float],
    low: Sequence[float | None],
    high: Sequence[float | None],
    top: float,
) -> str:
    """Return the area between the lowest and the highest."""
    return "".join(
        _outline([(middles[i], _y(low[i], top), _y(high[i], top)) for i in piece])
        for piece in _pieces(low)
    )


def line_path(middles: Sequence[float], values: Sequence[float | None], top: float) -> str:
    """Return a line, with a gap wherever there is no value."""
    return "".join(
        _polyline([(middles[i], _y(values[i], top)) for i in piece]) for piece in _pieces(values)
    )


def ribbon(
    state: str, ends: Sequence[float], shares: Sequence[float | None], width: float
) -> Iterator[Stretch]:
    """Yield one state's lane; buckets that are alike are one stretch."""
    last: Stretch | None = None
    for end, share in zip(ends, shares, strict=True):
        begin, shade = max(0.0, end - width), -(-int((share or 0) * 100 * SHADES) // 100)
        if last and last.shade == shade and begin <= last.x + last.width + width / 100:
            last = Stretch(state=state, x=last.x, width=end - last.x, shade=shade)
            continue
        if last and last.shade:
            yield last
        last = Stretch(state=state, x=begin, width=end - begin, shade=shade)
    if last and last.shade:
        yield last


def round_top(highest: float) -> float:
    """Return a round number not below the highest, for the end of an axis."""
    size = 1.0
    while size * 10 < highest:
        size *= 10
    return next(step * size for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * size >= highest)


def _pieces(values: Sequence[float | None]) -> list[list[int]]:
    """Return the stretches of indices without a gap."""
    pieces: list[list[int]] = []
    for index, value in enumerate(values):
        if value is None:
            continue
        if pieces and pieces[-1][-1] == index - 1:
            pieces[-1].append(index)
        else:
            pieces.append([index])
    return pieces


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    first, *rest = points
    # A point between two gaps is a dot.
    lines = "".join(f"L{x:.1f} {y:.1f}" for x, y in rest) or "h.1"
    return f"M{first[0]:.1f} {first[1]:.1f}{lines}"


def _outline(points: Sequence[tuple[float, float, float]]) -> str:
    there = [f"{x:.1f} {low:.1f}" for x, low, _ in points]
    back = [f"{x:.1f} {high:.1f}" for x, _, high in reversed(points)]
    return f"M{'L'.join(there + back)}Z"


def _y(value: float | None, top: float) -> float:
    return HEIGHT - min(1.0, (value or 0.0) / top) * HEIGHT
