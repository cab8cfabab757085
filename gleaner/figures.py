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
GAUGES = (
    "utilization_percent",
    "memory_utilization_percent",
    "memory_used_bytes",
    "temperature_celsius",
    "power_watts",
    "sm_clock_mhz",
    "fan_percent",
)
"""Of a GPU. Packed hours have this order: another one is a new version of them."""
HOST_GAUGES = (
    "cpu_percent",
    "load_1_minute",
    "memory_used_bytes",
    "network_received_bytes_per_second",
    "network_sent_bytes_per_second",
    "disk_used_percent",
)
"""Of a host; the same holds."""
_OF_TIME = ("resolution_seconds", "samples", "seconds")


def _with_limits(gauges: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{gauge}{end}" for gauge in gauges for end in ("", "_min", "_max"))


def _states() -> tuple[str, ...]:
    # The command line asks for its options before it needs any message.
    from gleaner.bus.messages import GpuCondition

    return tuple(state.value for state in GpuCondition)


def columns_of(
    what: What, by: By = "user", *, of_one_user: bool = False, of_host: bool = False
) -> tuple[str, ...]:
    """Return the names of the columns, in the order of an answer's rows."""
    match what:
        case "usage":
            hours: tuple[str, ...]
            if of_one_user or by in ("user", "group"):
                hours = ("gpu_hours", "busy_hours", "held_hours", "shared_hours")
            else:
                hours = ("gpu_hours", "share_used", *(f"{state}_hours" for state in _states()))
            return (*_KEYS.get(by, (by,)), *hours, *_OF_USE)
        case "series" if of_host:
            return ("start", *_OF_TIME, *_with_limits(HOST_GAUGES))
        case "series":
            states = (f"{state}_seconds" for state in _states())
            return ("start", *_OF_TIME, "energy_joules", *states, *_with_limits(GAUGES))
        case "quotas":
            return ("user", "month", "gpu_hours", "quota_gpu_hours", "percent")
        case "latencies":
            return ("stage", "count", "p50_seconds", "p90_seconds", "p99_seconds", "max_seconds")
