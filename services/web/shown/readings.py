"""Every reading of one GPU in words, or why there is none; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gleaner.bus.messages import GpuReading, Xid
from services.web import texts

_NOT_READINGS = frozenset({"gpu", "index", "problems", "ages_seconds", "processes"})
_LABELS = {
    "utilization_percent": "Utilization",
    "memory_utilization_percent": "Memory controller",
    "memory_used_bytes": "Memory in use",
    "memory_total_bytes": "Memory in all",
    "unattributed_memory_bytes": "Memory in use by nobody we can name",
    "temperature_celsius": "Temperature",
    "power_watts": "Power",
    "power_limit_watts": "Power limit",
    "fan_percent": "Fan",
    "sm_clock_mhz": "SM clock",
    "memory_clock_mhz": "Memory clock",
    "performance_state": "Performance state",
    "energy_joules": "Energy since the driver was loaded",
    "throttle_reasons": "Throttled by",
    "memory_reserved_bytes": "Memory kept by the driver",
    "pcie_generation": "PCIe generation",
    "pcie_generation_max": "PCIe generation, at best",
    "pcie_width": "PCIe lanes",
    "pcie_width_max": "PCIe lanes, at best",
    "pcie_sent_bytes_per_second": "PCIe, sent",
    "pcie_received_bytes_per_second": "PCIe, received",
    "ecc_corrected_errors": "ECC errors, corrected",
    "ecc_uncorrected_errors": "ECC errors, uncorrected",
    "ecc_aggregate_corrected_errors": "ECC errors of its life, corrected",
    "ecc_aggregate_uncorrected_errors": "ECC errors of its life, uncorrected",
    "remapped_rows_correctable": "Rows remapped after corrected errors",
    "remapped_rows_uncorrectable": "Rows remapped after uncorrected errors",
    "remapping_pending": "Row to be remapped at the next reset",
    "remapping_failed": "Out of spare rows",
    "retired_pages": "Pages retired",
    "retired_pages_pending": "Pages to be retired at the next reset",
    "recovery_action": "The driver asks for",
    "xids": "XID errors",
}
_UNITS = {
    "percent": "%",
    "celsius": "°C",
    "watts": "W",
    "mhz": "MHz",
    "seconds": "s",
    "rpm": "rpm",
}
_WHY = {
    "unsupported": "not offered by this driver",
    "no permission": "no permission to read it",
}
_WATT_HOURS = 3600


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reading."""

    name: str
    """As in the API."""
    label: str
    value: str | None
    why: str | None
    """Why there is no value."""
    at: datetime | None
    """When it was read; slow ones are read rarely."""


def readings_of(reading: GpuReading, at: datetime | None = None) -> tuple[Reading, ...]:
    """Return all readings that a GPU has or could have, also those that we have no words for.

    `at` is when the message was made that they came with.
    """
    found = []
    for name in type(reading).model_fields:
        if name in _NOT_READINGS:
            continue
        value = _value(name, getattr(reading, name))
        problem = reading.problems.get(name)
        why = None
        if value is None:
            why = _WHY.get(problem, problem) if problem else "no answer"
        age = timedelta(seconds=reading.ages_seconds.get(name, 0))
        read_at = at - age if at else None
        found.append(Reading(name=name, label=label_of(name), value=value, why=why, at=read_at))
    return tuple(found)


def label_of(name: str) -> str:
    """Return what a reading is called, also if it is new to us."""
    words = name.rpartition("_")[0] if name.rpartition("_")[2] in _UNITS else name
    return _LABELS.get(name, words.replace("_", " ").capitalize())


def _value(name: str, value: Any) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "yes" if value else "no"
        case tuple() | list():
            return ", ".join(map(_text, value)) or "nothing"
        case dict():
            return ", ".join(f"{key} {_text(one)}" for key, one in value.items()) or "nothing"
        case int() | float():
            return _number(name, value)
        case _:
            return str(value)


def _number(name: str, value: float) -> str:
    unit = name.rpartition("_")[2]
    if name.endswith("bytes_per_second"):
        return f"{value / 1e6:.1f} MB/s"
    if unit == "bytes":
        return f"{texts.gibibytes(int(value))} GiB"
    if unit == "joules":
        return f"{value / _WATT_HOURS / 1000:.2f} kWh"
    if name == "performance_state":
        return f"P{value:.0f}"
    return texts.whole(value, _UNITS.get(unit, "")).strip()


def _text(value: Any) -> str:
    if isinstance(value, Xid):
        times = "once" if value.count == 1 else f"{value.count} times"
        return f"{value.number}, {times} ({value.meaning})"
    return str(value).replace("_", " ")
