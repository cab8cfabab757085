"""An example fleet that shows everything at once: all states, ages, long names, markup as names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    Blocker,
    Blockers,
    Catalogue,
    CatalogueEntry,
    Cause,
    CauseKind,
    Disk,
    Drain,
    GpuBlockers,
    GpuCondition,
    GpuInventory,
    GpuReading,
    GpuState,
    Holder,
    HostReading,
    Inventory,
    Pause,
    People,
    Person,
    ProcessReading,
    Run,
    RunnerState,
    RunState,
    SchedulerBeat,
    SchedulerState,
    Stages,
    Telemetry,
    WorkloadBlockers,
    Xid,
)

GIB = 2**30
MARKUP = "<img src=x onerror=alert(1)>"
H100, A100, RTX = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 4090"


class Example:
    """Makes the messages of a fleet at one moment."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def ago(self, **what: float) -> datetime:
        """Return an instant before now."""
        return self.now - timedelta(**what)

    def messages(self) -> Iterator[Message]:
        """Yield the messages of the whole fleet; beats aside, see `beats`."""
        yield from self.scheduler()
        yield from self.atlas()
        yield from self.boreas()
        yield from self.cygnus()
        yield from self.draco()
        yield from self.long_names()
        yield from self.simulated()

    def beats(self) -> Iterator[Message]:
        """Yield what says that scheduler and nodes are alive; draco and cygnus are not."""
        yield SchedulerBeat(body="{}", key="k", signature="s")
        for node in ("atlas", "boreas", "sim-0", "workstation-of-the-imaging-group-room-417"):
            yield self.beat(node)

    def beat(self, node: str, **ago: float) -> Beat:
        """Return a node's beat."""
        return Beat(node=node, sequence=1, check_seconds=0.002, at=self.ago(**ago))

    def scheduler(self) -> Iterator[Message]:
        """A scheduler that has drained one node."""
        yield SchedulerState(
            term=3,
            drains=(
                Drain(
                    node="boreas",
                    reason="new fans on Monday",
                    by="olga",
                    at=self.ago(hours=3),
                ),
            ),
            at=self.ago(hours=3),
        )

    def atlas(self) -> Iterator[Message]:
        """A busy machine with eight GPUs in nearly all states."""
        node = "atlas"
        yield self.online(node)
        yield self.inventory(
            node, H100, 8, 80 * GIB, notices="fanotify", labels=("nvlink", "lab-a")
        )
        trainer = self.holder(4711, "alice", "python train.py", 62 * GIB, hours=2, minutes=14)
        trainer = trainer.model_copy(
            update={"container": "0123456789ab", "container_name": "notebook"}
        )
        yield self.state(node, 0, "busy", "alice computes (pid 4711, python)", trainer, hours=2)
        yield self.state(node, 1, "busy", "alice computes (pid 4711, python)", trainer, hours=2)
        yield self.state(node, 2, "ours", "run fold-7", self.ours(5120, "fold-7"), minutes=42)
        yield self.state(node, 3, "ours", "run fold-8", self.ours(5121, "fold-8"), minutes=42)
        yield self.state(node, 4, "idle", "", seconds=24)
        yield self.state(
            node,
            5,
            "held",
            "bob holds 38 GiB and has done nothing for 5 h (pid 990)",
            self.holder(990, "bob", "jupyter-lab", 38 * GIB, hours=31),
            hours=5,
        )
        yield self.state(node, 6, "dirty", "3.1 GiB are held by nobody we can name", minutes=6)
        yield self.state(node, 7, "lost", "the driver says: GPU is lost", days=2)
        yield self.telemetry(
            node,
            [
                (97, 62.4, 71, 648),
                (93, 61.8, 69, 612),
                (99, 11.2, 66, 580),
                (98, 11.2, 67, 575),
                (0, 0.4, 34, 71),
                (0, 38.1, 36, 78),
                (0, 3.1, 35, 74),
                None,
            ],
            80,
        )
        yield People(
            node=node,
            watched=True,
            active=False,
            reason="nobody is active",
            people=(
                Person(user="alice", where="pts/3", active=False, since=self.ago(minutes=27)),
                Person(user="bob", where="pts/7", active=False, since=self.ago(hours=5)),
                Person(
                    user="monitor",
                    where="pts/0",
                    active=True,
                    since=self.ago(days=3),
                    whitelisted=True,
                ),
            ),
            since=self.ago(minutes=27),
            at=self.now,
        )
        yield from self.runner(node, ["fold-7", "fold-8"])
        for index, run in ((2, "fold-7"), (3, "fold-8")):
            yield self.run(node, run, "fold", index, RunState.RUNNING, minutes=42)
        yield self.evicted(node, "fold-5", "fold", 0, "GPU 0: alice computes (pid 4711, python)")
        yield self.blockers(
            node,
            {
                0: [("busy", "alice computes (pid 4711, python)")],
                1: [("busy", "alice computes (pid 4711, python)")],
                2: [("taken", "fold runs here")],
                3: [("taken", "fold runs here")],
                4: [("idle_for", "idle for 24 of 60 s")],
                5: [("held", "bob holds 38 GiB and has done nothing for 5 h (pid 990)")],
                6: [("dirty", "3.1 GiB are held by nobody we can name")],
                7: [("lost", "the driver says: GPU is lost")],
            },
            [
                WorkloadBlockers(
                    entry="render",
                    blockers=(
                        Blocker(code="crashed", text="held: it failed 5 times in a row (exit 139)"),
                    ),
                )
            ],
        )

    def boreas(self) -> Iterator[Message]:
        """A drained machine with somebody at it, and hostile names."""
        node = "boreas"
        yield self.online(node)
        yield self.inventory(
            node,
            A100,
            4,
            40 * GIB,
            notices="inotify",
            limitations=(
                "Not root: other users' files cannot be seen; NVML's lists remain.",
                "No cgroup v2: memory limits of workloads are not set.",
            ),
        )
        yield self.state(
            node,
            0,
            "busy",
            f"{MARKUP} computes (pid 31337)",
            self.holder(31337, MARKUP, f"python {MARKUP}", 9 * GIB, minutes=3).model_copy(
                update={"container": "0123456789ab", "container_name": MARKUP}
            ),
            minutes=3,
        )
        yield self.state(node, 1, "idle", "", hours=1)
        yield self.state(node, 2, "idle", "", hours=1)
        yield self.state(node, 3, "idle", "", hours=9)
        yield self.telemetry(
            node, [(41, 9.1, 52, 210), (0, 0.3, 30, 52), (0, 0.3, 31, 53), (0, 0.3, 30, 51)], 40
        )
        yield People(
            node=node,
            watched=True,
            active=True,
            reason="carol is active at pts/1",
            people=(Person(user="carol", where="pts/1", active=True, since=self.ago(minutes=4)),),
            since=self.ago(minutes=4),
            at=self.now,
        )
        yield from self.runner(node, [])
        here = ("people", "carol is active at pts/1")
        drained = ("drained", "drained by olga: new fans on Monday")
        yield self.blockers(
            node,
            {0: [("busy", f"{MARKUP} computes (pid 31337)"), here, drained]}
            | {index: [here, drained] for index in (1, 2, 3)},
        )

    def cygnus(self) -> Iterator[Message]:
        """A machine that was switched off."""
        node = "cygnus"
        yield self.inventory(node, A100, 4, 40 * GIB, notices="fanotify")
        for index in range(4):
            yield self.state(node, index, "idle", "", hours=7)
        yield self.telemetry(node, [(0, 0.3, 30, 52)] * 4, 40)
        yield self.online(node, state="offline")
        yield self.blockers(node, {index: [("offline", "cygnus is offline")] for index in range(4)})

    def draco(self) -> Iterator[Message]:
        """A machine whose collector hangs: its beat is old."""
        node = "draco"
        yield self.online(node)
        yield self.inventory(node, RTX, 2, 24 * GIB, notices="check")
        dan = self.holder(808, "dan", "blender", 11 * GIB, hours=1)
        yield self.state(node, 0, "busy", "dan draws (pid 808, blender)", dan, hours=1)
        yield self.state(node, 1, "idle", "", hours=1)
        yield self.telemetry(node, [(71, 11.4, 63, 300), (0, 0.6, 33, 21)], 24)

    def long_names(self) -> Iterator[Message]:
        """Names as long as they come."""
        node = "workstation-of-the-imaging-group-room-417"
        yield self.online(node)
        yield self.inventory(node, RTX, 1, 24 * GIB, notices="fanotify")
        user = "a-very-long-user-name-from-the-directory-service"
        command = (
            "/opt/conda/envs/segmentation-2026/bin/python3.11 run_all_experiments_of_the_week.py"
        )
        yield self.state(
            node,
            0,
            "busy",
            f"{user} computes (pid 4000123, python3.11)",
            self.holder(4000123, user, command, 21 * GIB, days=12, hours=3),
            self.holder(4000124, user, "python3.11 worker.py", 2 * GIB, minutes=3),
            days=12,
        )
        yield self.telemetry(node, [(64, 23.2, 81, 441)], 24)
        yield self.blockers(node, {0: [("busy", f"{user} computes (pid 4000123, python3.11)")]})
        yield from self.runner(node, [])

    def simulated(self) -> Iterator[Message]:
        """A node that does not exist."""
        node = "sim-0"
        yield self.online(node)
        yield self.inventory(
            node, "Simulated H100", 4, 80 * GIB, notices="script", source="simulated"
        )
        yield self.state(node, 0, "ours", "run sim-run", self.ours(77, "sim-run"), minutes=3)
        yield self.state(node, 1, "idle", "", minutes=8)
        yield self.state(node, 2, "idle", "", minutes=8)
        yield self.state(node, 3, "unknown", "no check was completed yet", seconds=3)
        yield self.telemetry(
            node, [(88, 9.5, 60, 410), (0, 0.5, 33, 70), (0, 0.5, 32, 70), (0, 0.5, 32, 70)], 80
        )
        yield People(
            node=node,
            watched=False,
            active=False,
            reason="people are not watched",
            since=self.ago(minutes=8),
            at=self.now,
        )
        yield self.run(node, "sim-run", "fold", 0, RunState.RUNNING, simulated=True, minutes=3)
        yield from self.runner(node, ["sim-run"])
        yield self.blockers(
            node,
            {0: [("taken", "fold runs here")], 1: [], 2: [], 3: [("unknown", "no current answer")]},
        )

    def online(self, node: str, state: Any = "online") -> Availability:
        """Return what a node's connection says."""
        return Availability(
            service="node", instance=node, state=state, connection="c", version="0.1", at=None
        )

    def inventory(
        self,
        node: str,
        model: str,
        gpus: int,
        memory: int,
        *,
        notices: Any,
        source: Any = "nvml",
        limitations: tuple[str, ...] = (),
        labels: tuple[str, ...] = (),
    ) -> Inventory:
        """Return what a node is."""
        return Inventory(
            node=node,
            host=f"{node}.example.org",
            boot_id="b",
            agent_version="0.1",
            source=source,
            driver_version="570.86.15" if source == "nvml" else None,
            gpus=tuple(
                GpuInventory(
                    gpu=gpu_id(node, index),
                    index=index,
                    minor=index,
                    name=model,
                    memory_total_bytes=memory,
                    power_limit_watts=700.0,
                )
                for index in range(gpus)
            ),
            notices_opens_by=notices,
            notices_people_by="fanotify",
            limitations=limitations,
            labels=labels,
            at=self.ago(hours=9),
        )

    def state(
        self, node: str, index: int, state: str, reason: str, *holders: Holder, **since: float
    ) -> GpuState:
        """Return a GPU's state."""
        return GpuState(
            node=node,
            gpu=gpu_id(node, index),
            index=index,
            state=GpuCondition(state),
            since=self.ago(**since),
            reasons=(reason,) if reason else (),
            holders=holders,
            at=self.now,
        )

    def holder(self, pid: int, user: str, command: str, memory: int, **since: float) -> Holder:
        """Return a person's process."""
        return Holder(
            pid=pid,
            user=user,
            user_id=1000,
            command=command,
            kinds=("compute",),
            memory_used_bytes=memory,
            started_at=self.ago(**since),
        )

    def ours(self, pid: int, run: str) -> Holder:
        """Return a process of a run of ours."""
        return Holder(
            pid=pid,
            user="nobody",
            user_id=65534,
            command="fold --steps 1000",
            kinds=("compute",),
            memory_used_bytes=11 * GIB,
            run=run,
            started_at=self.ago(minutes=42),
        )

    def memory_error(self) -> Xid:
        """Return an error that takes a whole sentence on a page."""
        return Xid(
            number=63,
            severity="information",
            meaning="a row of the memory is remapped at the next reset",
            count=3,
            last_at=self.ago(hours=30),
        )

    def telemetry(
        self, node: str, rows: Sequence[tuple[float, float, float, float] | None], total: int
    ) -> Telemetry:
        """Return a node's readings; None where the GPU gives none."""
        return Telemetry(
            node=node,
            gpus=tuple(
                GpuReading(gpu=gpu_id(node, index), index=index)
                if row is None
                else GpuReading(
                    gpu=gpu_id(node, index),
                    index=index,
                    utilization_percent=float(row[0]),
                    memory_used_bytes=int(row[1] * GIB),
                    memory_total_bytes=total * GIB,
                    temperature_celsius=float(row[2]),
                    power_watts=float(row[3]),
                    xids=(self.memory_error(),) if index == 0 else (),
                    processes=(ProcessReading(pid=4711, utilization_percent=91),),
                )
                for index, row in enumerate(rows)
            ),
            host=HostReading(
                cpu_percent=37.0,
                cpu_count=64,
                load_1_minute=21.5,
                memory_total_bytes=512 * GIB,
                memory_used_bytes=188 * GIB,
                network_received_bytes_per_second=8_020_000.0,
                network_sent_bytes_per_second=410_000.0,
                uptime_seconds=86400.0 * 12,
                disks=(Disk(mount="/", total_bytes=900 * GIB, used_bytes=410 * GIB),),
            ),
            interval_seconds=10,
            at=self.ago(seconds=2),
        )

    def runner(self, node: str, runs: list[str]) -> Iterator[Message]:
        """Return a runner that obeys, and its catalogue."""
        yield RunnerState(
            node=node,
            paused=False,
            watched=True,
            term=3,
            generation=9,
            lease="held",
            runs=tuple(runs),
            at=self.now,
        )
        yield Catalogue(
            node=node,
            entries=(
                CatalogueEntry(
                    name="fold", kind="filler", gpus="each", digest="d", grace_seconds=5
                ),
            ),
            at=self.now,
        )

    def run(
        self,
        node: str,
        run: str,
        entry: str,
        index: int,
        state: RunState,
        *,
        simulated: bool = False,
        **since: float,
    ) -> Run:
        """Return a run."""
        return Run(
            node=node,
            run=run,
            entry=entry,
            digest="d",
            gpus=(gpu_id(node, index),),
            state=state,
            reason="running since 11:18",
            term=3,
            pid=5120 + index,
            user="nobody",
            started_at=self.ago(**since),
            simulated=simulated,
            at=self.ago(**since),
        )

    def evicted(self, node: str, run: str, entry: str, index: int, why: str) -> Run:
        """Return a run that has left."""
        return Run(
            node=node,
            run=run,
            entry=entry,
            digest="d",
            gpus=(gpu_id(node, index),),
            state=RunState.EVICTED,
            reason=f"evicted: {why}",
            term=3,
            pid=3120,
            started_at=self.ago(hours=3),
            cause=Cause(kind=CauseKind.GPU_PROCESS, text=why),
            stages=Stages(
                noticed_to_term=0.0021,
                term_to_exit=0.184,
                exit_to_clear=0.412,
                noticed_to_clear=0.5981,
            ),
            at=self.ago(hours=2),
        )

    def blockers(
        self,
        node: str,
        gpus: dict[int, list[tuple[str, str]]],
        workloads: list[WorkloadBlockers] | None = None,
    ) -> Blockers:
        """Return why nothing starts on a node."""
        return Blockers(
            node=node,
            gpus=tuple(
                GpuBlockers(
                    gpu=gpu_id(node, index),
                    blockers=tuple(Blocker(code=code, text=text) for code, text in found),
                )
                for index, found in gpus.items()
            ),
            workloads=tuple(workloads or ()),
            at=self.now,
        )

    def paused(self, reason: str, node: str | None = None) -> SchedulerState:
        """Return a scheduler that has paused the fleet or a node."""
        pause = Pause(node=node, reason=reason, by="olga", at=self.now)
        return SchedulerState(term=3, pauses=(pause,), at=self.now)


def gpu_id(node: str, index: int) -> str:
    """Return the UUID of a GPU of the example."""
    return f"GPU-{node[:12]}-{index:04d}"
