"""What is kept: events on their way to the database, how far it is, and questions about it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import JsonValue

from gleaner.bus.message import Level, Message, QoS, Utc, Value, Writer, on


class EventKind(StrEnum):
    """The kinds that Gleaner itself writes; a reader keeps kinds it does not know."""

    NODE_STARTED = "node_started"
    """data: version, source, gpus, uptime_seconds: how long the host has been up."""
    GPU = "gpu"
    """A GPU's state changed; data: a `GpuState` without its node, and `before`."""
    PEOPLE = "people"
    """Somebody came or went; data: active, reason."""
    RUN = "run"
    """A run's state changed; data: a `Run` without its node."""
    SAMPLES = "samples"
    """A minute's readings; data: a `Samples`."""
    PROBLEM = "problem"
    """Something an operator might act on; data: what, text. Where what is `xid` or `ecc`, also
    gpu, index and count; of an `xid` number and severity too."""
    SHORT_PROCESS = "short_process"
    """A process used a GPU and ended without being in any sample, so that no session has it; data:
    a `ShortProcess`."""
    OVERFLOW = "overflow"
    """The outbox was full; data: dropped."""


class ShortProcess(Value):
    """What the driver's accounting has of a process that lived between two samples."""

    gpu: str
    index: int
    pid: int
    user: str | None = None
    """The user's name, or `uid 1000` where the id has none; None: nobody saw it alive."""
    command: str | None = None
    run: str | None = None
    entry: str | None = None
    container: str | None = None
    """What people call its container, or its id, cut to 12 characters, where no file says so."""
    started_at: Utc
    """When it began to use the GPU."""
    active_seconds: float
    memory_used_bytes: int | None = None
    """The most it had."""
    utilization_percent: float | None = None
    """The mean over its life."""
    memory_utilization_percent: float | None = None


class SampleUser(Value):
    """What one user, or one run of ours, has on one GPU at the moment of a sample."""

    user: str | None = None
    """The user's name, or `uid 1000` where the id has none; None where nobody knows."""
    run: str | None = None
    """Our run; its user is not a person's use of the GPU. None for people."""
    entry: str | None = None
    """The entry of that run."""
    container: str | None = None
    """What people call its container, or its id, cut to 12 characters, where no file says so."""
    processes: int
    memory_used_bytes: int | None = None
    """Of all these processes; None if it is not known of one of them."""


class Sample(Value):
    """One GPU over one sample interval: what the driver said at its end."""

    gpu: str
    index: int
    state: str
    at: Utc
    seconds: float
    """The interval this sample stands for."""
    utilization_percent: float | None = None
    memory_utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    sm_clock_mhz: float | None = None
    fan_percent: float | None = None
    energy_used_joules: float | None = None
    """By the driver's counter since the sample before; None after a start or a reset of it."""
    users: tuple[SampleUser, ...] | None = None
    """Who holds it, without processes that are ignored; None where nobody can tell."""
    schedulable: bool = True
    """False in MIG mode: what can be used are its instances, if it has any."""


class HostSample(Value):
    """The host over one sample interval; None is no answer."""

    at: Utc
    seconds: float
    """The interval this sample stands for."""
    cpu_percent: float | None = None
    """Of all cores, over the interval."""
    load_1_minute: float | None = None
    memory_used_bytes: int | None = None
    """In use at its end; what the kernel would give up for others is not."""
    network_received_bytes_per_second: float | None = None
    """Of all real interfaces, over the interval."""
    network_sent_bytes_per_second: float | None = None
    disk_used_percent: float | None = None
    """Of the local file system that is fullest at its end."""


class Samples(Value):
    """A minute of samples of all GPUs of a node, and of the node itself."""

    samples: tuple[Sample, ...]
    host: tuple[HostSample, ...] = ()


@on("node/{node}/event", writer=Writer.NODE, retain=False, qos=QoS.AT_LEAST_ONCE)
class Event(Message):
    """What happened. Identified by stream and sequence number; repeated until recorded."""

    node: str
    stream: str
    """The outbox it comes from: a UUID made with the file."""
    sequence: int
    """Starts at 1; a missing number is a loss unless it is below `oldest_sequence`."""
    oldest_sequence: int
    """The oldest number the outbox still keeps; what is older and missing is a known gap."""
    kind: str
    data: dict[str, JsonValue]
    boot_id: str
    at: Utc


@on("node/{node}/recorded", writer=Writer.RECORDER, retain=True, qos=QoS.AT_LEAST_ONCE)
class Recorded(Message):
    """How far the recorder is: the last sequence number committed without a gap, per stream."""

    node: str
    streams: dict[str, int]
    latest: dict[str, Utc] = {}
    """When an event of each kind was last committed, since the recorder was started; kinds that it
    does not know count as `other`. So that who shows history knows when to ask for it."""
    at: Utc


@on("recorder/state", writer=Writer.RECORDER, retain=True, qos=QoS.AT_LEAST_ONCE)
class RecorderState(Message):
    """Whether history is kept just now, and how large it is."""

    database: Literal["sqlite", "postgresql"]
    problem: str | None = None
    """Why nothing is recorded; meanwhile events wait at the nodes. None: it is."""
    used_bytes: int | None = None
    """What all rows take, with their indexes; None before it was measured."""
    max_bytes: int | None = None
    """`database.max_bytes`; None: no limit."""
    shortened: dict[str, Utc] = {}
    """What went before its time for want of room, and up to when."""
    oldest: dict[str, Utc] = {}
    """From when on there is what: `samples`, `five_minutes`, `hours`, `days`, `events`,
    `sessions`; without what there is nothing of."""
    kept_aside: dict[str, Utc] = {}
    """Damaged files beside the database, and when they were put there: what they have is in no
    answer."""
    lost_events: int | None = None
    """Numbers of events that never came, or that went with a damaged log; None: not known."""
    unreadable_messages: int | None = None
    """That were kept as they came; the newest thousand."""
    behind_since: Utc | None = None
    """Since when samples wait longer than usual to be summed up; None: they do not."""
    time_zone: str | None = None
    """In which hours of the day, days and months are counted, like `Europe/Berlin`; None: an
    older recorder, which does not say."""
    at: Utc


# At QoS 1 it would wait behind the events that a recorder without a database does not acknowledge.
@on("history/query/{id}", writer=Writer.CLIENT, retain=False, qos=QoS.AT_MOST_ONCE)
class HistoryQuery(Message):
    """A question about what was recorded; it expires, and who hears no answer asks again."""

    id: str
    client: Level
    what: Literal[
        "events",
        "runs",
        "samples",
        "sessions",
        "series",
        "usage",
        "quotas",
        "latencies",
        "last_hour",
    ]
    """`sessions`: who held which GPU from when to when; `series`: readings of one GPU or node;
    `usage`: GPU-hours; `quotas`: where each user stands this month; `latencies`: of evictions, by
    stage; `last_hour`: each GPU's utilization, one row for each node, a few nodes a page."""
    node: str | None = None
    gpu: str | None = None
    of: Literal["host"] | None = None
    """Of samples, and of the series of a node: `host`: what its CPU, memory, network and disks
    did; None: its GPUs."""
    kind: str | None = None
    user: str | None = None
    """Of sessions and usage: this person's only; of events and runs: those that name them."""
    entry: str | None = None
    """Of events and runs: those of this workload."""
    state: str | None = None
    """Of runs: those that are in it; of events: those by which a GPU or run came into it."""
    by: (
        Literal[
            "user",
            "group",
            "node",
            "gpu",
            "model",
            "hour",
            "weekday_hour",
            "day",
            "week",
            "month",
        ]
        | None
    ) = None
    """Of usage; `hour` is the hour of the day, in the recorder's time zone like days, weeks and
    months. None: by user, and by entry of ours."""
    points: int | None = None
    """Of a series: at most about so many rows in all; the resolution follows from it."""
    since: Utc | None = None
    until: Utc | None = None
    limit: int = 100
    """At most 1000 rows a page."""
    cursor: str | None = None
    """From the page before; None for the first."""
    expires_at: Utc


@on("history/answer/{client}/{id}", writer=Writer.RECORDER, retain=False, qos=QoS.AT_LEAST_ONCE)
class HistoryAnswer(Message):
    """One page, newest first."""

    client: str
    id: str
    rows: tuple[dict[str, JsonValue], ...] = ()
    cursor: str | None = None
    """Ask with this for the next page; None: that was all."""
    looked_back_to: Utc | None = None
    """Only so far back could be searched just now: the recorder was updated and still takes older
    events into its index. None: everything was searched."""
    error: str | None = None
    unknown: Literal["node", "gpu", "user", "entry"] | None = None
    """What was named in the question and never recorded; `error` says so, and what comes close."""
    is_fault: bool = False
    """Whether `error` is no fault of the question: history cannot be read just now."""
