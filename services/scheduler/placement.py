"""Which entry goes where on one node: file order, one run per GPU or one over all.

Nothing is ever stopped to make room for another entry. A place that will be free in a moment is
kept for the entry that comes first, so that a second's difference between two GPUs, or the wait
after an exit, does not decide who gets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from gleaner.bus.messages import Blocker, CatalogueEntry, Drain, Pause
from gleaner.settings import SchedulerSettings
from services.scheduler import crashes
from services.scheduler.idleness import gpu_blockers, is_paused, node_blockers, pause_blocker
from services.scheduler.state import Crash, Node, Place

SOON_SECONDS = 20.0
"""What is free within this time is waited for."""

Gpus = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One node at one moment, with every reason against using it."""

    node: Node
    pauses: tuple[Pause, ...]
    drains: tuple[Drain, ...]
    crashes: Mapping[Place, Crash]
    policy: SchedulerSettings
    now: datetime

    @cached_property
    def node_blockers(self) -> tuple[Blocker, ...]:
        """Why nothing starts anywhere on the node."""
        return node_blockers(self.node, self.pauses, self.drains, self.now)

    @cached_property
    def gpu_blockers(self) -> dict[str, tuple[Blocker, ...]]:
        """Why each GPU may not be used, apart from what holds for the node."""
        gpus = self.node.inventory.gpus if self.node.inventory else ()
        return {
            gpu.gpu: gpu_blockers(self.node, gpu, self.taken.get(gpu.gpu), self.policy, self.now)
            for gpu in gpus
        }

    @cached_property
    def taken(self) -> dict[str, str]:
        """GPU to the run of ours that has it."""
        return self.node.taken()

    @cached_property
    def index(self) -> dict[str, int]:
        """GPU to the number that people know it by."""
        gpus = self.node.inventory.gpus if self.node.inventory else ()
        return {gpu.gpu: gpu.index for gpu in gpus}

    @property
    def entries(self) -> tuple[CatalogueEntry, ...]:
        """The catalogue in the order of its file."""
        return self.node.catalogue.entries if self.node.catalogue else ()

    @cached_property
    def free(self) -> frozenset[str]:
        """GPUs without any blocker; none while something holds for the whole node."""
        if self.node_blockers:
            return frozenset()
        return frozenset(gpu for gpu, blockers in self.gpu_blockers.items() if not blockers)

    def places(self, entry: CatalogueEntry) -> list[Gpus]:
        """Return the sets of GPUs that an entry may run on, one run each."""
        return self._places[entry.name]

    def entry_blockers(self, entry: CatalogueEntry) -> list[Blocker]:
        """Return why an entry runs nowhere on the node."""
        return self._entry_blockers[entry.name]

    @cached_property
    def _places(self) -> dict[str, list[Gpus]]:
        return {entry.name: self._places_of(entry) for entry in self.entries}

    @cached_property
    def _entry_blockers(self) -> dict[str, list[Blocker]]:
        return {entry.name: self._blockers_of(entry) for entry in self.entries}

    def _places_of(self, entry: CatalogueEntry) -> list[Gpus]:
        gpus = self.node.schedulable
        if entry.gpus == "each":
            return [(gpu.gpu,) for gpu in gpus]
        if entry.gpus == "all":
            return [tuple(gpu.gpu for gpu in gpus)] if gpus else []
        by_index = {gpu.index: gpu.gpu for gpu in gpus if gpu.parent is None}
        if not set(entry.gpus) <= by_index.keys():
            return []
        return [tuple(by_index[index] for index in entry.gpus)]

    def _blockers_of(self, entry: CatalogueEntry) -> list[Blocker]:
        found = [Blocker(code="entry", text=problem) for problem in entry.problems]
        if entry.kind == "job":
            found.append(Blocker(code="job", text="a job: it does not start by itself"))
        pause = is_paused(self.pauses, self.node.node, entry.name)
        if pause is not None and pause.entry is not None:
            found.append(pause_blocker(pause))
        if self.node.inventory is None:
            return found
        gpus = self.node.inventory.gpus
        if entry.gpus == "all" and any(gpu.parent or not gpu.schedulable for gpu in gpus):
            text = "one run over all GPUs is refused on a node with MIG devices"
            found.append(Blocker(code="mig", text=text))
        elif not self.places(entry):
            text = "this node has no GPU that can be used"
            if isinstance(entry.gpus, tuple):
                whole = {gpu.index for gpu in self.node.schedulable if gpu.parent is None}
                lacking = ", ".join(str(index) for index in entry.gpus if index not in whole)
                text = f"this node has no GPU {lacking} that can be used as a whole"
            found.append(Blocker(code="no_gpu", text=text))
        return found

    def crash_blocker(self, entry: CatalogueEntry, place: Gpus) -> Blocker | None:
        """Return what earlier ends of an entry at a place ask to wait for."""
        crash = self.crashes.get((self.node.node, entry.name, place))
        return crashes.blocker(crash, entry, self.policy, self.now)

    def is_soon(self, blocker: Blocker) -> bool:
        """Whether a reason is one of time alone, and over in a moment."""
        return (
            blocker.code in ("idle_for", "backoff")
            and blocker.until is not None
            and blocker.until - self.now <= timedelta(seconds=SOON_SECONDS)
        )


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What starts now, and which free GPUs wait for whom."""

    starts: tuple[tuple[CatalogueEntry, Gpus], ...]
    kept: Mapping[str, str]
    """GPU to the entry that it is kept for."""


def place(scene: Scene) -> Placement:
    """Return which entries start on which GPUs now."""
    free = set(scene.free)
    starts: list[tuple[CatalogueEntry, Gpus]] = []
    kept: dict[str, str] = {}
    if not free:
        return Placement(starts=(), kept=kept)
    # One over all goes first, when all are free; the rest in the order of the file.
    for entry in sorted(scene.entries, key=lambda entry: entry.gpus != "all"):
        if scene.entry_blockers(entry):
            continue
        for gpus in scene.places(entry):
            waits = [
                blocker
                for gpu in gpus
                if gpu not in free
                # What another entry got or keeps is not free soon.
                for blocker in scene.gpu_blockers[gpu] or [Blocker(code="kept", text="")]
            ]
            crash = scene.crash_blocker(entry, gpus)
            waits += [crash] if crash else []
            if not waits:
                starts.append((entry, gpus))
            elif all(scene.is_soon(blocker) for blocker in waits):
                kept |= {gpu: entry.name for gpu in gpus if gpu in free}
            else:
                continue
            free.difference_update(gpus)
    return Placement(starts=tuple(starts), kept=kept)
