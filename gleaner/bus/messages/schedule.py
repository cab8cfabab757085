"""What the scheduler says and is asked: signed wishes for each node, and a reason for every no."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

from gleaner.bus.message import Level, Message, QoS, Utc, Value, Writer, on

Line = Annotated[str, StringConstraints(max_length=500)]
"""What a person says; the scheduler keeps it, and says it again with its state."""


class Grant(Value):
    """One run a node shall have."""

    run: str
    """Unique for ever; the node starts an id once."""
    entry: str
    digest: str
    gpus: tuple[str, ...]
    granted_at: Utc
    reason: str


class DesiredBody(Value):
    """What is signed in `Desired`: all runs that a node shall have, and no others."""

    node: str
    term: int
    """Of the scheduler that speaks; only grows, so that two can never both be obeyed."""
    generation: int
    """Grows with every change within a term."""
    runs: tuple[Grant, ...]
    withdrawn: dict[str, str] = {}
    """Why runs are no longer wished for since the generation before, by run."""
    at: Utc


@on("node/{node}/desired", writer=Writer.SCHEDULER, retain=True, qos=QoS.AT_LEAST_ONCE)
class Desired(Message):
    """A signed `DesiredBody`; see gleaner.bus.signature."""

    node: str
    body: str
    key: Level
    signature: str


class BeatBody(Value):
    """What is signed in `SchedulerBeat`; it renews every node's lease of 30 s."""

    term: int
    generation: int
    sequence: int
    at: Utc


@on("scheduler/beat", writer=Writer.SCHEDULER, retain=False, qos=QoS.AT_MOST_ONCE)
class SchedulerBeat(Message):
    """A signed `BeatBody`, every 5 s."""

    body: str
    key: Level
    signature: str


class Pause(Value):
    """Nothing runs: on one node, for one workload of a node, or (both None) in the fleet."""

    node: str | None = None
    entry: str | None = None
    reason: str
    by: str
    until: Utc | None = None
    """None: until resumed."""
    at: Utc


class Drain(Value):
    """Nothing new starts on a node; what runs goes on."""

    node: str
    reason: str
    by: str
    at: Utc


@on("scheduler/state", writer=Writer.SCHEDULER, retain=True, qos=QoS.AT_LEAST_ONCE)
class SchedulerState(Message):
    """What the scheduler holds to, for everybody to see."""

    term: int
    pauses: tuple[Pause, ...] = ()
    drains: tuple[Drain, ...] = ()
    idle_gpus_by_model: dict[str, int] = {}
    """Idle or ours: a person may take them at once."""
    at: Utc


class Blocker(Value):
    """One reason against a run."""

    code: str
    """Short and stable: `busy`, `idle_for`, `people`, `paused`, `drained`, `offline`, `held`…"""
    text: str
    """`"idle for 20 of 60 s"`, `"user1 is active at pts/3"`."""
    until: Utc | None = None
    """When it ends by itself, if that is known."""


class GpuBlockers(Value):
    """Why nothing (more) starts on one GPU; empty: it may be used."""

    gpu: str
    blockers: tuple[Blocker, ...]


class WorkloadBlockers(Value):
    """Why one workload does not run (more) on the node; empty: it runs wherever it may."""

    entry: str
    blockers: tuple[Blocker, ...]
    runs: tuple[str, ...] = ()


@on("node/{node}/blockers", writer=Writer.SCHEDULER, retain=True, qos=QoS.AT_LEAST_ONCE)
class Blockers(Message):
    """Every "no" on one node, with its reason; one list for page, command line and metrics."""

    node: str
    gpus: tuple[GpuBlockers, ...]
    workloads: tuple[WorkloadBlockers, ...]
    at: Utc


class RequestKind(StrEnum):
    """What the scheduler may be asked for."""

    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    UNDRAIN = "undrain"


@on("request/{kind}/{id}", writer=Writer.CLIENT, retain=False, qos=QoS.AT_LEAST_ONCE)
class Request(Message):
    """A wish of a person or program; answered once, and never obeyed after it has expired.

    `pause` and `resume` without node mean the fleet; with node and entry they mean one workload
    there, and `resume` also forgets that it crashed. `drain` and `undrain` need a node.
    """

    kind: RequestKind
    id: str
    client: Level
    """Where the answer goes."""
    by: Line
    """Who asks, for people to read."""
    node: str | None = None
    entry: str | None = None
    reason: Line = ""
    duration_seconds: float | None = None
    """How long a pause lasts; None: until resumed."""
    expires_at: Utc
    at: Utc


@on("response/{client}/{id}", writer=Writer.SCHEDULER, retain=False, qos=QoS.AT_LEAST_ONCE)
class Response(Message):
    """The answer to a request."""

    client: str
    id: str
    ok: bool
    text: str
    """What was done, or why not."""
    at: Utc
