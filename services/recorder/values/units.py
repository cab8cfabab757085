"""In which parts of one each sum is kept, so that adding up is exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEMORY = 1 / 2**20
"""Whole mebibytes, as `nvidia-smi` shows them."""
PARTS: dict[str, float] = {
    "utilization_percent": 1,
    "memory_utilization_percent": 1,
    "memory_used_bytes": MEMORY,
    "temperature_celsius": 1,
    "power_watts": 10,
    "sm_clock_mhz": 1,
    "fan_percent": 1,
    "utilization": 1,
    "cpu_percent": 10,
    "load_1_minute": 100,
    "network_received_bytes_per_second": 1,
    "network_sent_bytes_per_second": 1,
    "disk_used_percent": 10,
}
"""By gauge. What one of them comes to is rounded once, for each five minutes."""


def parts_of(name: str) -> float:
    """Return how many parts of one a total is kept in."""
    if name in ("memory_byte_seconds", "memory_max_bytes"):
        return MEMORY
    gauge, _, what = name.rpartition("_")
    if what in ("sum", "min", "max"):
        return PARTS[gauge]
    # Seconds and intervals in milliseconds; joules in the thousandths that drivers count.
    return 1 if name == "samples" else 1000


def whole(totals: Mapping[str, Any]) -> dict[str, Any]:
    """Return totals as the database would give them back."""
    return {name: _whole(name, value) for name, value in totals.items()}


def _whole(name: str, value: Any) -> Any:
    parts = parts_of(name)
    if not isinstance(value, (int, float)) or (parts == 1 and isinstance(value, int)):
        return value
    return round(value * parts) / parts
