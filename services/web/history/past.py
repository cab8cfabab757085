"""Events and runs as lines of a table; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gleaner.tell import tell_event

Row = Mapping[str, Any]
STAGES = {
    "noticed_to_term": "Noticed → TERM",
    "term_to_exit": "→ gone",
    "exit_to_clear": "→ GPU clear",
    "noticed_to_clear": "In all",
}


@dataclass(frozen=True, kw_only=True)
class PastEvent:
    """One event."""

    at: datetime
    node: str
    kind: str
    gpu: str | None
    state: str | None
    """The new state of a GPU."""
    text: str
    identity: str | None
    """By which its row is known again."""


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One run of ours."""

    at: datetime
    ended_at: datetime | None
    node: str
    run: str
    entry: str
    gpus: tuple[str, ...]
    state: str
    text: str
    stages: tuple[float | None, ...]
    """In the order of `STAGES`, in seconds."""
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long one stage of evictions took, in seconds."""

    stage: str
    title: str
    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    highest: float | None


@dataclass(frozen=True, kw_only=True)
class Held:
    """Somebody, or a workload of ours, on one GPU from when to when."""

    begin: datetime
    end: datetime
    user: str | None
    entry: str | None
    container: str | None
    hours: float
    held_hours: float
    utilization_percent: float | None
    memory_gib_hours: float | None
    """Of what is known of it; None where nobody ever knew."""


def event_of(row: Row) -> PastEvent:
    """Return an event as it is shown."""
    data, kind = _data(row), str(row.get("kind", ""))
    state = data.get("state") if kind == "gpu" else None
    gpu = row.get("gpu") or data.get("gpu")
    return PastEvent(
        at=datetime.fromisoformat(str(row["at"])),
        node=str(row.get("node", "")),
        kind=kind,
        gpu=str(gpu) if gpu else None,
        state=str(state) if state else None,
        text=tell_event(kind, data),
        identity=f"{row['stream']}-{row['sequence']}" if "stream" in row else None,
    )


def run_of(row: Row) -> PastRun:
    """Return a run as it is shown."""
    ended = row.get("ended_at")
    return PastRun(
        at=datetime.fromisoformat(str(row.get("started_at") or row["first_at"])),
        ended_at=datetime.fromisoformat(str(ended)) if ended else None,
        node=str(row.get("node", "")),
        run=str(row.get("run", "")),
        entry=str(row.get("entry", "")),
        gpus=tuple(map(str, row.get("gpus") or ())),
        state=str(row.get("state", "")),
        text=str(row.get("cause_text") or row.get("reason") or ""),
        stages=tuple(_seconds(row, f"{stage}_seconds") for stage in STAGES),
        simulated=bool(row.get("simulated")),
    )


def latency_of(row: Row) -> Latency:
    """Return a stage's latencies as they are shown."""
    stage = str(row.get("stage", ""))
    return Latency(
        stage=stage,
        title=STAGES.get(stage, stage.replace("_", " ")),
        count=int(row.get("count") or 0),
        p50=_seconds(row, "p50_seconds"),
        p90=_seconds(row, "p90_seconds"),
        p99=_seconds(row, "p99_seconds"),
        highest=_seconds(row, "max_seconds"),
    )


def held_of(row: Row) -> Held:
    """Return a session as it is shown."""
    weighed = float(row.get("utilization_seconds") or 0)
    return Held(
        begin=datetime.fromisoformat(str(row["begin"])),
        end=datetime.fromisoformat(str(row["end"])),
        user=row.get("user"),
        entry=row.get("entry"),
        container=row.get("container"),
        hours=float(row.get("seconds") or 0) / 3600,
        held_hours=float(row.get("held_seconds") or 0) / 3600,
        utilization_percent=float(row["utilization_sum"]) / weighed if weighed else None,
        memory_gib_hours=None
        if row.get("memory_max_bytes") is None
        else float(row["memory_byte_seconds"]) / 2**30 / 3600,
    )


def _data(row: Row) -> Row:
    data = row.get("data")
    return data if isinstance(data, Mapping) else {}


def _seconds(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None
