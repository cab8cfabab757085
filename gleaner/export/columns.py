"""Which columns the tables of history have; units stand in their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

What = Literal["sessions", "samples", "host_samples", "events", "runs"]
Kind = Literal["text", "instant", "whole", "number", "flag", "json"]
Row = Mapping[str, Any]

WHATS: tuple[What, ...] = get_args(What)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name with the unit, and where it comes from."""

    name: str
    kind: Kind
    of: Callable[[Row], Any]


def plain(kind: Kind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, kind=kind, of=_field(name)) for name in names)


def _field(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name)


def _renamed(kind: Kind, **names: str) -> tuple[Column, ...]:
    return tuple(Column(name=new, kind=kind, of=_field(old)) for new, old in names.items())


def _mean_utilization(row: Row) -> float | None:
    seconds = row.get("utilization_seconds")
    return row["utilization_sum"] / seconds if seconds else None


COLUMNS: Mapping[What, tuple[Column, ...]] = {
    "sessions": (
        *plain("text", "node", "gpu", "user", "entry", "container"),
        *plain("instant", "begin", "end"),
        *_renamed("number", gpu_seconds="seconds"),
        *plain("number", "busy_seconds", "held_seconds", "shared_seconds"),
        Column(name="utilization_mean_percent", kind="number", of=_mean_utilization),
        *_renamed("number", utilization_max_percent="utilization_max"),
        *plain("number", "memory_byte_seconds", "memory_max_bytes", "energy_joules"),
        *_renamed("number", sample_interval_seconds="interval"),
    ),
    "samples": (
        *plain("text", "node", "gpu"),
        *plain("instant", "at"),
        *plain("number", "seconds"),
        *plain("text", "state"),
        *plain("number", "utilization_percent", "memory_utilization_percent"),
        *plain("whole", "memory_used_bytes"),
        *plain("number", "temperature_celsius", "power_watts", "energy_joules"),
        *plain("number", "energy_used_joules", "sm_clock_mhz", "fan_percent"),
        *plain("json", "users"),
        *plain("flag", "schedulable"),
    ),
    "host_samples": (
        *plain("text", "node"),
        *plain("instant", "at"),
        *plain("number", "seconds", "cpu_percent", "load_1_minute"),
        *plain("whole", "memory_used_bytes"),
        *plain("number", "network_received_bytes_per_second"),
        *plain("number", "network_sent_bytes_per_second", "disk_used_percent"),
    ),
    "events": (
        *plain("text", "node", "stream"),
        *plain("whole", "sequence"),
        *plain("text", "kind", "gpu"),
        *plain("instant", "at", "received_at"),
        *plain("text", "boot_id"),
        *plain("json", "data"),
    ),
    "runs": (
        *plain("text", "node", "run", "entry"),
        *plain("json", "gpus"),
        *plain("text", "user", "state"),
        *plain("flag", "is_final"),
        *plain("text", "reason"),
        *plain("instant", "first_at", "at", "started_at", "ended_at"),
        *plain("text", "cause_kind", "cause_text"),
        *plain("whole", "exit_code", "exit_signal"),
        *plain("number", "noticed_to_term_seconds", "term_to_exit_seconds"),
        *plain("number", "exit_to_clear_seconds", "noticed_to_clear_seconds"),
        *plain("flag", "simulated"),
    ),
}


def asked_of(what: What) -> dict[str, Any]:
    """Return what a `HistoryQuery` has to say to be about a table."""
    return {"what": "samples", "of": "host"} if what == "host_samples" else {"what": what}
