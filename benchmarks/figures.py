"""How a figure is printed: what, middle, worst, goal, and whether it was met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.499) - 1))]


def reaction(title: str, milliseconds: Sequence[float], p50_goal: float, p99_goal: float) -> bool:
    """Print one row of a reaction benchmark; return whether both goals were met."""
    p50, p99 = statistics.median(milliseconds), percentile(milliseconds, 0.99)
    met = p50 <= p50_goal and p99 <= p99_goal
    print(
        f"{title:<58} n={len(milliseconds):<4} p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  "
        f"worst {max(milliseconds):8.2f} ms  goal {p50_goal:g}/{p99_goal:g} ms  "
        f"{'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def figure(title: str, value: float, unit: str, goal: float) -> bool:
    """Print one figure that shall not exceed its goal; return whether it was met."""
    met = value <= goal
    print(
        f"{title:<58} {value:10.2f} {unit:<10} goal {goal:g} {unit:<10} "
        f"{'met' if met else 'MISSED'}",
        flush=True,
    )
    return met
