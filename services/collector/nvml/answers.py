"""Read what the NVML child writes, live or from a capture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gleaner.bus.messages import GpuInventory, GpuReading, ProcessReading
from services.collector.interface import (
    DriverEvent,
    DriverProcess,
    EndedProcess,
    GpuSweep,
    Hardware,
    Sweep,
)

Answer = dict[str, Any]

KINDS: tuple[Literal["compute", "graphics", "mps"], ...] = ("compute", "graphics", "mps")
NOT_INSTALLED = (9, 12)
"""Driver not loaded, library not found: there may well be no NVIDIA GPU at all."""
UPGRADED = 18


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the driver cannot be asked."""

    text: str
    not_installed: bool


def refusal(answer: Answer) -> Refusal | None:
    """Return why the driver cannot be asked, or None if it answered."""
    if "problem" not in answer:
        return None
    text, code = answer["problem"], answer.get("code")
    if code == UPGRADED:
        text = f"the driver was upgraded, its kernel module was not: reload it or reboot ({text})"
    return Refusal(text=text, not_installed=code in NOT_INSTALLED)


def hardware(answer: Answer, device_directory: Path) -> Hardware:
    """Return the hardware that a child's first line tells of."""
    gpus = tuple(GpuInventory(**facts) for facts in answer["gpus"])
    return Hardware(
        gpus=gpus,
        driver_version=answer["driver_version"],
        problem=None,
        limitations=tuple(
            f"GPU {index} cannot be asked: {text}" for index, text in answer["missing"].items()
        ),
        devices={
            gpu.gpu: device_directory / f"nvidia{gpu.minor}"
            for gpu in gpus
            if gpu.minor is not None
        },
    )


def sweep(answer: Answer, known: tuple[GpuInventory, ...]) -> Sweep:
    """Return one sweep, with MIG parents' unattributed processes given to all their instances."""
    told = {one["gpu"]: one for one in answer["sweep"]}
    strangers = {
        gpu.gpu: _strangers(gpu.gpu, told, known)
        for gpu in known
        if not gpu.schedulable and gpu.gpu in told
    }
    parents = {gpu.gpu: gpu.parent for gpu in known}
    return Sweep(
        gpus=tuple(
            _gpu(one, strangers.get(parents.get(gpu) or "", [])) for gpu, one in told.items()
        )
    )


def _strangers(
    parent: str, told: dict[str, Answer], known: tuple[GpuInventory, ...]
) -> list[Answer] | None:
    """Return the processes on a MIG parent that none of its instances lists; None: no answer."""
    if told[parent]["processes"] is None:
        return None
    attributed = {
        process["pid"]
        for gpu in known
        if gpu.parent == parent
        for process in told.get(gpu.gpu, {}).get("processes") or ()
    }
    return [one for one in told[parent]["processes"] if one["pid"] not in attributed]


def _gpu(one: Answer, strangers: list[Answer] | None) -> GpuSweep:
    values, problems = one["values"], one["problems"]
    if values.get("throttle_reasons") is not None:
        values = values | {"throttle_reasons": tuple(values["throttle_reasons"])}
    listed = one["processes"]
    # A GPU (or a WSL driver) that has no such lists leaves us with who holds the device.
    asked = listed is not None or any(problems.get(kind) != "unsupported" for kind in KINDS)
    processes: tuple[DriverProcess, ...] | None = None
    if not asked:
        processes = ()
    elif listed is not None and strangers is not None:
        processes = tuple(
            DriverProcess(
                pid=process["pid"],
                kinds=frozenset(process["kinds"]),
                memory_used_bytes=process["memory"],
            )
            for process in (*listed, *strangers)
        )
    return GpuSweep(
        gpu=one["gpu"],
        processes=processes,
        reading=GpuReading(
            gpu=one["gpu"],
            index=one["index"],
            problems=problems,
            ages_seconds=one.get("ages", {}),
            processes=None if listed is None else tuple(map(_process, listed)),
            **values,
        ),
        lost=one["lost"],
        driver_asked=asked,
        # A capture of an earlier version has neither of these.
        events=tuple(
            DriverEvent(xid=event["xid"], at=_instant(event["at"]))
            for event in one.get("events", ())
        ),
        ended=tuple(
            EndedProcess(
                pid=process["pid"],
                started_at=_instant(process["started_at"]),
                active_seconds=process["active_seconds"],
                memory_used_bytes=process["memory"],
                utilization_percent=process["utilization"],
                memory_utilization_percent=process["memory_utilization"],
            )
            for process in one.get("ended", ())
        ),
    )


def _process(process: Answer) -> ProcessReading:
    sm, memory, encoder, decoder = process.get("share") or (None,) * 4
    return ProcessReading(
        pid=process["pid"],
        memory_used_bytes=process["memory"],
        utilization_percent=sm,
        memory_utilization_percent=memory,
        encoder_percent=encoder,
        decoder_percent=decoder,
    )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
