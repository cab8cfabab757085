"""What a node's runner says: what it may run, what it runs, and how each run left."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from gleaner.bus.message import Message, QoS, Utc, Value, Writer, on


class CatalogueEntry(Value):
    """One workload the node's owner allows here; never its command."""

    name: str
    kind: Literal["filler", "job"]
    gpus: Literal["each", "all"] | tuple[int, ...]
    """`each`: one run per GPU; `all`: one run over all; numbers: one run over these indices."""
    digest: str
    """Changes with any change of the entry; a grant for another digest is refused."""
    grace_seconds: float
    problems: tuple[str, ...] = ()
    """Why it cannot run as it is written (`"user nobdy does not exist"`); empty: it can."""


@on("node/{node}/catalogue", writer=Writer.RUNNER, retain=True, qos=QoS.AT_LEAST_ONCE)
class Catalogue(Message):
    """Everything that may run on a node."""

    node: str
    entries: tuple[CatalogueEntry, ...]
    at: Utc


@on("node/{node}/runner", writer=Writer.RUNNER, retain=True, qos=QoS.AT_LEAST_ONCE)
class RunnerState(Message):
    """What a runner obeys and lives by; published on change."""

    node: str
    paused: bool
    """By a local pause file, which any user of the node may touch."""
    paused_reason: str | None = None
    watched: bool
    """The collector's checks arrive; without them nothing runs."""
    term: int | None
    """The highest term of a scheduler ever obeyed; an older one is refused."""
    generation: int | None
    lease: Literal["held", "lost", "none"]
    """`lost` or `none`: nothing is launched until the scheduler is heard again."""
    runs: tuple[str, ...] = ()
    """Ids of all runs that have a fact, so that a reader knows when it has them all."""
    refusals: tuple[str, ...] = ()
    """The last grants refused, each with its reason; at most ten."""
    limitations: tuple[str, ...] = ()
    started_at: Utc | None = None
    """When this runner began; of two under one name the later one gives way."""
    at: Utc


class RunState(StrEnum):
    """Where a run stands; the last five are final."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    """TERM was sent, grace runs."""
    KILLING = "killing"
    CLEARING = "clearing"
    """No process is left; memory or device are not back yet."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EVICTED = "evicted"
    """Somebody or something needed the place; never a failure, never a retry used up."""
    CANCELLED = "cancelled"
    """No longer wanted by the scheduler, or the node was shut down."""
    LOST = "lost"
    """It ended while nobody looked (a reboot); how is unknown."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the run."""
        return self in _FINAL


_FINAL = frozenset(
    {RunState.SUCCEEDED, RunState.FAILED, RunState.EVICTED, RunState.CANCELLED, RunState.LOST}
)


class CauseKind(StrEnum):
    """What made a run leave; journalled before the signal, so it is known and never guessed."""

    PERSON = "person"
    GPU_PROCESS = "gpu_process"
    GPU_UNKNOWN = "gpu_unknown"
    GPU_LOST = "gpu_lost"
    NOT_WATCHED = "not_watched"
    PAUSED = "paused"
    NOT_DESIRED = "not_desired"
    CATALOGUE = "catalogue"
    SHUTDOWN = "shutdown"
    SUPERVISOR_GONE = "supervisor_gone"


class Cause(Value):
    """Why a run was made to leave."""

    kind: CauseKind
    text: str
    """`"user1 is active at pts/3"`, `"GPU 0: user1 computes (pid 4711, python)"`."""


class Stages(Value):
    """How long each stage of leaving took, in seconds of the node's monotonic clock.

    `noticed` is the kernel's event or the check that saw the cause; each stage is None until it
    happened, or where it did not.
    """

    noticed_to_term: float | None = None
    term_to_exit: float | None = None
    """Until no process of the run is left."""
    exit_to_clear: float | None = None
    """Until the GPU's memory is back at its baseline and its device closed."""
    noticed_to_clear: float | None = None


@on("node/{node}/run/{run}", writer=Writer.RUNNER, retain=True, qos=QoS.AT_LEAST_ONCE)
class Run(Message):
    """One run of a catalogue entry; an id starts once, ever. Cleared when final and recorded."""

    node: str
    run: str
    entry: str
    digest: str
    gpus: tuple[str, ...]
    state: RunState
    reason: str
    """The state in words: `"running since 12:03"`, `"evicted: user1 is active at pts/3"`."""
    term: int
    pid: int | None = None
    supervisor_pid: int | None = None
    supervisor_started_ticks: int | None = None
    """Start time in clock ticks since boot, as in /proc/PID/stat; with the pid an identity."""
    token_digest: str | None = None
    """SHA-256 of the token in the run's environment, in hex."""
    cgroup: str | None = None
    """Path below the cgroup v2 mount, if it has one."""
    user: str | None = None
    started_at: Utc | None = None
    term_sent_at: Utc | None = None
    killed_at: Utc | None = None
    """When SIGKILL was needed, or None."""
    exited_at: Utc | None = None
    cleared_at: Utc | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    cause: Cause | None = None
    stages: Stages | None = None
    limits_not_set: tuple[str, ...] = ()
    """Limits of the entry that this node could not set, each with its reason."""
    simulated: bool = False
    at: Utc
