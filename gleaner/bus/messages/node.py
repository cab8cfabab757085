"""What a node's collector says: its GPUs, its people, its readings. None means: no answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from gleaner.bus.message import Message, QoS, Utc, Value, Writer, on


class GpuCondition(StrEnum):
    """The one word for a GPU."""

    IDLE = "idle"
    BUSY = "busy"
    """A person's process holds it, by the predicate the administrator set."""
    HELD = "held"
    """A person's process holds it and has done nothing for a while; never evicted, never idle."""
    OURS = "ours"
    """Only our runs hold it."""
    DIRTY = "dirty"
    """Memory or device still held by nobody we can name."""
    LOST = "lost"
    """The driver says it is gone, or that it works no more until it is reset."""
    UNKNOWN = "unknown"
    """No current answer; never idle."""


class Holder(Value):
    """One process that holds one GPU."""

    pid: int
    started_at: Utc | None = None
    user_id: int | None = None
    user: str | None = None
    """The user's name; None if the id has none, or the process is not visible to us."""
    command: str | None = None
    """Program and script without further arguments: arguments may hold secrets."""
    kinds: tuple[Literal["compute", "graphics", "mps", "device_open"], ...] = ()
    memory_used_bytes: int | None = None
    run: str | None = None
    """Our run it belongs to; None for everybody else's."""
    entry: str | None = None
    """The entry of that run."""
    container: str | None = None
    """The container's id, cut to 12 characters, or the name of a machine, if the cgroup tells."""
    container_name: str | None = None
    """What people call that container, where a file of its engine says so."""
    ignored: str | None = None
    """Why it does not count (`"program nvidia-smi"`, `"user backup"`), or None if it counts."""
    alive: bool = True
    """False when the driver lists a pid that no longer exists."""


@on("node/{node}/gpu/{gpu}/state", writer=Writer.COLLECTOR, retain=True, qos=QoS.AT_LEAST_ONCE)
class GpuState(Message):
    """Who holds one GPU, since when and why we think so; published on change."""

    node: str
    gpu: str
    """NVML's UUID; without NVML the PCI bus id or `minor-N`."""
    index: int
    """For people to read; never a key."""
    state: GpuCondition
    since: Utc
    """When `state` last changed."""
    reasons: tuple[str, ...] = ()
    """Why, in an operator's words: `"user1 computes (pid 4711, python)"`."""
    holders: tuple[Holder, ...] = ()
    at: Utc
    noticed_ns: int | None = None
    """CLOCK_MONOTONIC of this node when the kernel told us what caused this; None from a check."""
    noticed_by: str | None = None
    """`fanotify`, `inotify`, `check`, `exit`…"""


class GpuInventory(Value):
    """What does not change about one GPU."""

    gpu: str
    index: int
    minor: int | None = None
    """The number in `/dev/nvidiaN`; not the index."""
    name: str | None = None
    memory_total_bytes: int | None = None
    power_limit_watts: float | None = None
    pci_bus_id: str | None = None
    parent: str | None = None
    """The GPU a MIG device belongs to."""
    schedulable: bool = True
    """False for the parent of MIG devices."""


@on("node/{node}/inventory", writer=Writer.COLLECTOR, retain=True, qos=QoS.AT_LEAST_ONCE)
class Inventory(Message):
    """What a node is: host, driver, GPUs, and how well it can see."""

    node: str
    host: str
    boot_id: str
    agent_version: str
    source: Literal["nvml", "device-files", "simulated"]
    """`simulated` is shown as such everywhere."""
    driver_version: str | None = None
    driver_problem: str | None = None
    """Why the driver cannot be asked (`"driver was upgraded: reboot needed"`), or None."""
    gpus: tuple[GpuInventory, ...]
    notices_opens_by: Literal["fanotify", "inotify", "check", "script"]
    notices_people_by: Literal["fanotify", "inotify", "atime", "script", "nothing"]
    limitations: tuple[str, ...] = ()
    """What this node cannot see or do, and what that costs, one sentence each."""
    labels: tuple[str, ...] = ()
    """Words of its administrator, to find it by: `nvlink`, `lab-a`."""
    at: Utc


class Person(Value):
    """Somebody at a terminal, console or seat. Never a keystroke's time: `active` and idle only."""

    user: str | None
    user_id: int | None = None
    where: str
    """`pts/3`, `tty1`, `seat0`."""
    active: bool
    since: Utc
    """When `active` last changed."""
    idle_seconds: float | None = None
    """At `at` of the message, in steps of some seconds; None if nobody can tell."""
    whitelisted: bool = False
    """Shown, but never a reason to leave."""


@on("node/{node}/people", writer=Writer.COLLECTOR, retain=True, qos=QoS.AT_LEAST_ONCE)
class People(Message):
    """Who is at the node; published on change."""

    node: str
    watched: bool
    """False when people are not watched at all, by the node's settings."""
    active: bool
    """Somebody who counts is active, or we cannot tell."""
    reason: str
    """`"user1 is active at pts/3"`, `"nobody is active"`, `"people are not watched"`."""
    people: tuple[Person, ...] = ()
    problems: tuple[str, ...] = ()
    since: Utc
    """When `active` last changed; a start counts as somebody leaving just now."""
    at: Utc
    noticed_ns: int | None = None
    noticed_by: str | None = None


@on("node/{node}/beat", writer=Writer.COLLECTOR, retain=False, qos=QoS.AT_MOST_ONCE)
class Beat(Message):
    """A check was completed. Five seconds without one: nobody watches, so every run leaves."""

    node: str
    sequence: int
    check_seconds: float
    """How long the check took."""
    started_at: Utc | None = None
    """When this collector began to look, or its clock was set: no idle time goes back further."""
    at: Utc


class Xid(Value):
    """An error that the driver reported of a GPU by NVIDIA's number: how often, and when last."""

    number: int
    severity: Literal["critical", "application", "information", "unknown"]
    """`critical`: the GPU needs a reset or a repair; `application`: the fault of a program, as a
    rule; `unknown`: see NVIDIA's list."""
    meaning: str
    count: int
    """Since this collector began to listen."""
    last_at: Utc


class ProcessReading(Value):
    """One process on one GPU by the driver's own account; who it is stands in `GpuState`."""

    pid: int
    memory_used_bytes: int | None = None
    utilization_percent: float | None = None
    """Its share of the streaming multiprocessors' time; None where the driver does not tell."""
    memory_utilization_percent: float | None = None
    encoder_percent: float | None = None
    decoder_percent: float | None = None


class GpuReading(Value):
    """One GPU's readings; None is no answer, and `problems` says why."""

    gpu: str
    index: int
    utilization_percent: float | None = None
    """Share of the sample period in which a kernel was executing."""
    memory_utilization_percent: float | None = None
    """Activity of the memory controller; not memory in use."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    """Kept by the driver for itself; neither used nor free."""
    unattributed_memory_bytes: int | None = None
    """In use, but not by any process we can name."""
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    fan_percent: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    graphics_clock_mhz: float | None = None
    video_clock_mhz: float | None = None
    encoder_percent: float | None = None
    decoder_percent: float | None = None
    performance_state: int | None = None
    energy_joules: float | None = None
    """The driver's counter since it was loaded."""
    throttle_reasons: tuple[str, ...] | None = None
    pcie_generation: int | None = None
    """Of the link as it is; a GPU that rests lowers it."""
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    """Lanes in use; fewer than `pcie_width_max` is a card that sits badly, or a shared slot."""
    pcie_width_max: int | None = None
    pcie_sent_bytes_per_second: float | None = None
    """From the GPU, over 20 ms once a minute: to measure it takes that long."""
    pcie_received_bytes_per_second: float | None = None
    ecc_corrected_errors: int | None = None
    """Since the driver was loaded or the GPU was reset."""
    ecc_uncorrected_errors: int | None = None
    """Since the driver was loaded or the GPU was reset."""
    ecc_aggregate_corrected_errors: int | None = None
    """Of the card's whole life."""
    ecc_aggregate_uncorrected_errors: int | None = None
    remapped_rows_correctable: int | None = None
    """Rows of memory replaced by spare ones because of errors that could be corrected."""
    remapped_rows_uncorrectable: int | None = None
    remapping_pending: bool | None = None
    """A row will be replaced with the next reset."""
    remapping_failed: bool | None = None
    """There was no spare row left."""
    retired_pages: int | None = None
    """What older cards do instead of remapping rows."""
    retired_pages_pending: bool | None = None
    recovery_action: str | None = None
    """What the driver itself asks for: `none`, `gpu_reset`, `node_reboot`, `drain_p2p`…"""
    xids: tuple[Xid, ...] | None = None
    """Errors reported since this collector began to listen; None where the driver tells none."""
    processes: tuple[ProcessReading, ...] | None = None
    problems: dict[str, str] = {}
    """Reading to `unsupported`, `no permission` or the error."""
    ages_seconds: dict[str, int] = {}
    """Reading to its age, where that is a second or more; the others were read for this message."""


class Disk(Value):
    """One local file system."""

    mount: str
    total_bytes: int
    used_bytes: int


class HostReading(Value):
    """The host's readings."""

    cpu_percent: float | None = None
    cpu_count: int | None = None
    load_1_minute: float | None = None
    load_5_minutes: float | None = None
    load_15_minutes: float | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    network_received_bytes_per_second: float | None = None
    """Of all real interfaces, without loopback, bridges and tunnels, since the reading before."""
    network_sent_bytes_per_second: float | None = None
    uptime_seconds: float | None = None
    disks: tuple[Disk, ...] = ()


@on("node/{node}/telemetry", writer=Writer.COLLECTOR, retain=True, qos=QoS.AT_MOST_ONCE)
class Telemetry(Message):
    """All readings of a node at one moment, for live views only; history goes by `samples`."""

    node: str
    gpus: tuple[GpuReading, ...]
    host: HostReading
    interval_seconds: float
    """The next one is due after this; three times as old is stale."""
    at: Utc
