"""Every reading of one GPU in words, or why there is none; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gleaner.bus.messages import GpuReading
from services.web import texts

_NOT_READINGS = frozenset({"gpu", "index", "problems"})
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
    "ecc_uncorrected_errors": "ECC errors, uncorrected",
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


def readings_of(reading: GpuReading) -> tuple[Reading, ...]:
    """Return all readings that a GPU has or could have, also those that we have no words for."""
    found = []
    for name in type(reading).model_fields:
        if name in _NOT_READINGS:
            continue
        value = _value(name, getattr(reading, name))
        problem = reading.problems.get(name)
        why = None
        if value is None:
            why = _WHY.get(problem, problem) if problem else "no answer"
        found.append(Reading(name=name, label=label_of(name), value=value, why=why))
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
    if unit == "bytes":
        return f"{texts.gibibytes(int(value))} GiB"
    if unit == "joules":
        return f"{value / _WATT_HOURS / 1000:.2f} kWh"
    if name == "performance_state":
        return f"P{value:.0f}"
    return texts.whole(value, _UNITS.get(unit, "")).strip()


def _text(value: Any) -> str:
    return str(value).replace("_", " ")
