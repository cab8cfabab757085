"""Which columns an answer for figures has; a table with nothing in it still has its heading."""

from __future__ import annotations

from typing import Literal

What = Literal["series", "usage", "quotas", "latencies"]
By = Literal[
    "user", "group", "node", "gpu", "model", "hour", "weekday_hour", "day", "week", "month"
]

_KEYS: dict[By, tuple[str, ...]] = {
    "user": ("user", "entry"),
    "group": ("group", "entry"),
    "gpu": ("node", "gpu"),
    "weekday_hour": ("weekday", "hour"),
}
_OF_USE = (
    "utilization_percent",
    "utilization_percent_max",
    "utilized_hours",
    "energy_joules",
    "memory_byte_hours",
)
_GAUGES = (
    "utilization_percent",
    "memory_utilization_percent",
    "memory_used_bytes",
    "temperature_celsius",
    "power_watts",
    "sm_clock_mhz",
    "fan_percent",
)


def _states() -> tuple[str, ...]:
    # The command line asks for its options before it needs any message.
    from gleaner.bus.messages import GpuCondition

    return tuple(state.value for state in GpuCondition)


def columns_of(what: What, by: By = "user", *, of_one_user: bool = False) -> tuple[str, ...]:
    """Return the names of the columns, in the order of an answer's rows."""
    match what:
        case "usage":
            hours: tuple[str, ...]
            if of_one_user or by in ("user", "group"):
                hours = ("gpu_hours", "busy_hours", "held_hours", "shared_hours")
            else:
                hours = ("gpu_hours", "share_used", *(f"{state}_hours" for state in _states()))
            return (*_KEYS.get(by, (by,)), *hours, *_OF_USE)
        case "series":
            gauges = (f"{gauge}{end}" for gauge in _GAUGES for end in ("", "_min", "_max"))
            states = (f"{state}_seconds" for state in _states())
            figures = ("resolution_seconds", "samples", "seconds", "energy_joules")
            return ("start", *figures, *states, *gauges)
        case "quotas":
            return ("user", "month", "gpu_hours", "quota_gpu_hours", "percent")
        case "latencies":
            return ("stage", "count", "p50_seconds", "p90_seconds", "p99_seconds", "max_seconds")
