"""What is wrong with a GPU: errors it reported, what to say of them, and whether it is broken.

Nothing here sticks. An error is an event and a count with its time. What keeps work away is what
the driver says now, or a critical error since the driver was opened: while it is open (by us, for
one) nobody can reset the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gleaner.bus.messages import GpuReading, Xid
from services.collector.interface import GpuSweep
from services.collector.xid import meaning

AGAIN_SECONDS = 60.0
"""A program that fails in a loop makes the same error hundreds of times: told once a minute."""
SETTLED_SECONDS = 90.0
"""So long after an error what the driver asks for has been read anew; it is read once a minute."""
_RECOVERIES = {
    "gpu_reset": "the driver asks for a reset of the GPU",
    "drain_and_reset": "the driver asks for a reset of the GPU when nobody uses it",
    "bus_reset": "the driver asks for a reset of the GPU's bus",
    "node_reboot": "the driver asks for a reboot of the node",
    "system_reboot": "the driver asks for a reboot of the node",
}

Problem = dict[str, Any]
"""The data of an event of the kind `problem`."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What one check hands on to the next about the errors of one GPU."""

    session: int = 0
    xids: dict[int, Xid] = field(default_factory=dict)
    told: dict[int, tuple[float, int]] = field(default_factory=dict)
    """XID to when it was told last (monotonic seconds), and its count then."""
    critical: str | None = None
    """The last critical error since the driver was opened, in words."""
    critical_at: float = 0.0
    uncorrected: int | None = None
    """Memory errors that could not be corrected, by the driver's counter."""


def take_in(
    sweep: GpuSweep, past: Faults, session: int, now: float
) -> tuple[Faults, list[Problem]]:
    """Return what is known now, and what is to be recorded; `now` is in monotonic seconds."""
    if session != past.session:
        past = replace(past, session=session, critical=None)
    for event in sweep.events:
        if event.xid is not None:
            past = _count(event.xid, event.at, past, now)
    past, problems = _tell(sweep.reading, past, now)
    return _compare_memory(sweep.reading, past, problems, now)


def broken(reading: GpuReading, faults: Faults, now: float) -> tuple[str, ...]:
    """Return why nothing should be started on a GPU, or nothing."""
    found = []
    asked = reading.recovery_action
    settled = asked == "none" and now - faults.critical_at >= SETTLED_SECONDS
    if faults.critical is not None and not settled:
        found.append(f"{faults.critical}; the GPU needs a reset")
    if asked in _RECOVERIES:
        found.append(_RECOVERIES[asked])
    if reading.remapping_failed:
        found.append("a row of its memory failed and there is no spare one: exchange the GPU")
    return tuple(found)


def _count(number: int, at: datetime, past: Faults, now: float) -> Faults:
    severity, words = meaning(number)
    before = past.xids.get(number)
    count = before.count + 1 if before else 1
    xid = Xid(number=number, severity=severity, meaning=words, count=count, last_at=at)
    past = replace(past, xids={**past.xids, number: xid})
    if severity == "critical":
        text = f"XID {number} at {at:%H:%M:%S} UTC: {words}"
        past = replace(past, critical=text, critical_at=now)
    return past


def _tell(reading: GpuReading, past: Faults, now: float) -> tuple[Faults, list[Problem]]:
    """Return what was not told yet, or not for a while."""
    problems = []
    for number, xid in past.xids.items():
        told_at, told_count = past.told.get(number, (now - AGAIN_SECONDS, 0))
        if xid.count == told_count or now - told_at < AGAIN_SECONDS:
            continue
        past = replace(past, told={**past.told, number: (now, xid.count)})
        problems.append(
            _problem(reading, "xid", f"XID {number}: {xid.meaning}", xid.count - told_count)
            | {"number": number, "severity": xid.severity}
        )
    return past, problems


def _compare_memory(
    reading: GpuReading, past: Faults, problems: list[Problem], now: float
) -> tuple[Faults, list[Problem]]:
    """Look at the counter too: it tells where the driver reports nothing by itself."""
    errors, before = reading.ecc_uncorrected_errors, past.uncorrected
    if errors is None:
        return past, problems
    past = replace(past, uncorrected=errors)
    if before is None or errors <= before:
        return past, problems
    text = "memory error that could not be corrected"
    if "xids" in reading.problems:
        past = replace(past, critical=text, critical_at=now)
    return past, [*problems, _problem(reading, "ecc", text, errors - before)]


def _problem(reading: GpuReading, what: str, text: str, count: int) -> Problem:
    text = f"GPU {reading.index}: {text}" + (f" ({count} times)" if count > 1 else "")
    return {
        "what": what,
        "text": text,
        "gpu": reading.gpu,
        "index": reading.index,
        "count": count,
    }


def told_of(faults: Faults) -> Iterator[Xid]:
    """Return the errors by number."""
    return (faults.xids[number] for number in sorted(faults.xids))
