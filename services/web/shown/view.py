"""What page, API and stream show, so that all three show the same; see services.web.shown.show.

Instants are on our own clock, so that a reader can subtract them. Readings stand apart, because
they change with every report and facts hardly ever: the stream sends a whole node when a fact
changed, and a few numbers when only readings did.
"""

from __future__ import annotations

from typing import Literal

from gleaner.bus.message import Utc, Value
from gleaner.bus.messages import (
    Blocker,
    Drain,
    GpuCondition,
    Holder,
    HostReading,
    Pause,
    Person,
    RunState,
    Stages,
    WorkloadBlockers,
)
from gleaner.fleet import Presence

GpuReadings = tuple[float | None, int | None, float | None, float | None, int | None]
"""Utilization in percent, memory used in bytes, temperature in °C, power in W, memory that no
process accounts for in bytes."""


class Gpu(Value):
    """One GPU."""

    gpu: str
    node: str
    index: int | None
    name: str | None
    model: str
    """The short name for people to read: by `web.model_names`, or without its maker's."""
    memory_total_bytes: int | None
    power_limit_watts: float | None
    schedulable: bool
    """False for the parent of MIG devices: no sum counts it."""
    state: GpuCondition
    """`unknown` unless its node is online."""
    since: Utc | None
    """When `state` began; None when it is not current."""
    summary: str
    """Who has it, in a few words: `"user1 · python train.py"`, `"fold"`, `"free"`."""
    reasons: tuple[str, ...]
    holders: tuple[Holder, ...]
    entry: str | None
    """The workload of ours that has it."""
    run: str | None
    blockers: tuple[Blocker, ...] | None
    """Why nothing (more) starts here; empty: nothing is in the way; None: the scheduler has not
    said."""
    last: str | None
    """What was known when its node was last heard; None while the node is online."""
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    unattributed_memory_bytes: int | None = None
    """In use, but not by any process that can be named."""


class ShownRun(Value):
    """One run, live or just over."""

    current: bool
    """False: its node is not online, so this is the last that was known."""
    run: str
    node: str
    entry: str
    gpus: tuple[str, ...]
    state: RunState
    reason: str
    pid: int | None
    user: str | None
    started_at: Utc | None
    exit_code: int | None
    exit_signal: int | None
    cause: str | None
    """Why it was made to leave."""
    killed: bool
    """TERM was not enough."""
    stages: Stages | None
    """How long each stage of leaving took."""
    limits_not_set: tuple[str, ...]
    simulated: bool
    at: Utc


class Node(Value):
    """One node."""

    node: str
    name: str
    """What it is called on the page."""
    host: str | None
    labels: tuple[str, ...]
    """Words of its administrator, to find it by."""
    presence: Presence
    presence_text: str
    headline: str
    """`"3 of 8 GPUs free"`, of this node alone."""
    details: tuple[str, ...]
    heard_at: Utc | None
    """When it was last heard; None while it is online, and when it never was."""
    simulated: bool
    source: str | None
    driver_version: str | None
    driver_problem: str | None
    agent_version: str | None
    notices_opens_by: str | None
    notices_people_by: str | None
    reaction: str | None
    """How fast it notices somebody who opens a GPU."""
    limitations: tuple[str, ...]
    """What it cannot see or do, what is wrong with its workloads, and what it refused."""
    gpus: tuple[Gpu, ...]
    people_watched: bool | None
    people_active: bool | None
    """None: not known now."""
    people_reason: str
    people: tuple[Person, ...]
    """Empty while the node is not online: who was there is not who is there."""
    pause: Pause | None
    """By the scheduler; that of the fleet stands in the overview."""
    local_pause: str | None
    """By the node's own pause file: the reason."""
    drain: Drain | None
    lease: Literal["held", "lost", "none"] | None
    runs: tuple[ShownRun, ...]
    workloads: tuple[WorkloadBlockers, ...]
    resumable: tuple[str, ...]
    """Workloads that were paused by themselves, or are held because they crashed."""
    readings_at: Utc | None = None
    host_reading: HostReading | None = None


class Readings(Value):
    """What changes with every report of a node."""

    node: str
    readings_at: Utc | None
    host_reading: HostReading | None
    gpus: tuple[GpuReadings, ...]
    """In the order of `Node.gpus`."""


class Offer(Value):
    """The free GPUs of one model on one node."""

    node: str
    name: str
    simulated: bool
    idle: int
    on_demand: int
    """Used by our runs, which leave at once."""
    host: str | None
    """For the line to copy; None where there is nothing to lead to."""
    gpus: tuple[tuple[str, int | None], ...]
    """UUID and index, idle ones first."""


class FreeModel(Value):
    """Free GPUs of one model."""

    model: str
    free: int
    total: int
    nodes: int
    """How many nodes have free ones."""
    offers: tuple[Offer, ...]
    """The best of them: most idle ones first, and the one with most in all."""


class User(Value):
    """What one person uses now, over all nodes that are online."""

    user: str
    memory_used_bytes: int | None
    """Of the processes whose memory is known; None if that is none of them."""
    memory_is_complete: bool
    n_procs: int
    """One for each process and GPU."""
    n_gpus: int
    gpus: tuple[str, ...]
    """`atlas-0,1`: the nodes' names with the indices, the first few nodes."""
    more_nodes: int
    """How many nodes are not listed."""


class Overview(Value):
    """The answer first."""

    headline: str
    """`"5 of 8 GPUs free"`; idle, or used by our runs, which leave at once."""
    details: tuple[str, ...]
    """`"1 held"`, `"1 node offline"`."""
    connected: bool
    """False: the page has lost the broker, and nothing below is current."""
    gpus: int
    free: int
    states: dict[str, int]
    nodes: int
    nodes_online: int
    scheduler_online: bool
    history_problem: str | None
    """Why history is not kept just now, or not all of it; None: nothing is known to be wrong."""
    free_models: tuple[FreeModel, ...]
    not_counted: tuple[str, ...]
    """Whose last processes are not in the table of users, and why; the first few."""
    pauses: tuple[Pause, ...]
    """Of the fleet."""
    evictions: tuple[ShownRun, ...]
    """The last runs that left, newest first."""
    version: str


class News(Value):
    """What was recorded of a node since this service listens."""

    node: str
    """Empty: of all, because something else is wrong with history than before."""
    kinds: dict[str, int]
    """By kind of event (and `other`, `recorder`): the number of the stream's event that said so."""


class Snapshot(Value):
    """Everything at one moment."""

    at: Utc
    overview: Overview
    nodes: tuple[Node, ...]
    """With their readings; on the stream without, and those follow in `readings`."""
    users: tuple[User, ...] = ()
    """Most memory first."""
    readings: tuple[Readings, ...] = ()
    news: tuple[News, ...] = ()
    """On the stream only."""


class Delta(Value):
    """What changed since the event before."""

    at: Utc
    overview: Overview | None = None
    nodes: tuple[Node, ...] = ()
    """New, or with a changed fact; whole."""
    readings: tuple[Readings, ...] = ()
    gone: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    """Those who changed; whole."""
    users_gone: tuple[str, ...] = ()
    news: tuple[News, ...] = ()
    """Those who changed; whole."""
