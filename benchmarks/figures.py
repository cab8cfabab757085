"""How a figure is printed: on what machine, what, middle, worst, goal, and whether it was met."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

LOADED = 0.5
"""Others' load on this machine, as a share of its cores, from which figures mean little."""


def print_machine() -> None:
    """Print what all figures below were measured on, and a warning if others use it."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    print(
        f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"load {load:.1f}" + (": OTHERS WORK HERE" if load > LOADED * cores else ""),
        flush=True,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.499) - 1))]


def reaction(
    title: str, milliseconds: Sequence[float], p50_goal: float | None, p99_goal: float | None
) -> bool:
    """Print one row of a reaction benchmark; return whether its goals were met."""
    p50, p99 = statistics.median(milliseconds), percentile(milliseconds, 0.99)
    goals = ((p50, p50_goal, "p50"), (p99, p99_goal, "p99"))
    met = all(goal is None or value <= goal for value, goal, _ in goals)
    wanted = ", ".join(f"{name} {goal:g}" for _, goal, name in goals if goal is not None)
    verdict = f"goal {wanted} ms  {'met' if met else 'MISSED'}" if wanted else ""
    print(
        f"{title:<52} n={len(milliseconds):<4} p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  "
        f"worst {max(milliseconds):8.2f} ms  {verdict}",
        flush=True,
    )
    return met


def figure(title: str, value: float, unit: str, goal: float | None = None) -> bool:
    """Print one figure that shall not exceed its goal; return whether it was met."""
    met = goal is None or value <= goal
    verdict = "" if goal is None else f"goal {goal:g} {unit:<10} {'met' if met else 'MISSED'}"
    print(f"{title:<58} {value:10.2f} {unit:<10} {verdict}".rstrip(), flush=True)
    return met
