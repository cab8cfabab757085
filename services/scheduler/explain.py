"""Every no of a node in one message: what each GPU and each workload waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from gleaner.bus.messages import (
    Blocker,
    Blockers,
    CatalogueEntry,
    GpuBlockers,
    GpuInventory,
    WorkloadBlockers,
)
from services.scheduler.grants import refusal
from services.scheduler.placement import SOON_SECONDS, Gpus, Scene

QUIET_SECONDS = 10.0
"""Texts that merely count on are published at most this often."""
_SAME_MOMENT = timedelta(seconds=2)


def explain(scene: Scene, kept: Mapping[str, str]) -> Blockers:
    """Return why nothing (more) starts, GPU by GPU and workload by workload."""
    gpus = scene.node.inventory.gpus if scene.node.inventory else ()
    return Blockers(
        node=scene.node.node,
        gpus=tuple(
            GpuBlockers(gpu=gpu.gpu, blockers=tuple(_gpu(scene, gpu, kept)))
            for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.gpu))
        ),
        workloads=tuple(
            WorkloadBlockers(
                entry=entry.name,
                blockers=tuple(_workload(scene, entry, kept)),
                runs=tuple(_runs(scene, entry)),
            )
            for entry in scene.entries
        ),
        at=scene.now,
    )


def says_the_same(new: Blockers, old: Blockers | None) -> bool:
    """Whether nothing is worth publishing: texts that count on wait for their turn."""
    if old is None:
        return False
    counts_on = new.at - old.at < timedelta(seconds=QUIET_SECONDS)
    return (
        [one.gpu for one in new.gpus] == [one.gpu for one in old.gpus]
        and [(one.entry, one.runs) for one in new.workloads]
        == [(one.entry, one.runs) for one in old.workloads]
        and all(
            _alike(ours, theirs, counts_on=counts_on)
            for ours, theirs in zip(_groups(new), _groups(old), strict=True)
        )
    )


def next_texts(new: Blockers, published: Blockers) -> Iterator[datetime]:
    """Return when a text is due that counts on, or that was not worth publishing at once."""
    counts_on = any(one.code == "idle_for" for gpu in new.gpus for one in gpu.blockers)
    if counts_on or _texts(new) != _texts(published):
        yield published.at + timedelta(seconds=QUIET_SECONDS)


def moments(blockers: Blockers) -> Iterator[datetime]:
    """Return when something ends by itself, and when that is near enough to be waited for."""
    for group in _groups(blockers):
        for blocker in group:
            if blocker.until is not None:
                near = blocker.until - timedelta(seconds=SOON_SECONDS)
                yield near if near > blockers.at else blocker.until


def _texts(blockers: Blockers) -> list[str]:
    return [one.text for group in _groups(blockers) for one in group]


def _groups(blockers: Blockers) -> list[tuple[Blocker, ...]]:
    return [
        *(one.blockers for one in blockers.gpus),
        *(one.blockers for one in blockers.workloads),
    ]


def _alike(new: tuple[Blocker, ...], old: tuple[Blocker, ...], *, counts_on: bool) -> bool:
    if len(new) != len(old):
        return False
    for ours, theirs in zip(new, old, strict=True):
        if ours.code != theirs.code or (ours.until is None) != (theirs.until is None):
            return False
        # The beat that tells a node's clock comes a little sooner or later each time.
        moved = (
            ours.until is not None
            and theirs.until is not None
            and abs(ours.until - theirs.until) > _SAME_MOMENT
        )
        if moved or (ours.text != theirs.text and not (counts_on and ours.until is not None)):
            return False
    return True


def _gpu(scene: Scene, gpu: GpuInventory, kept: Mapping[str, str]) -> Iterator[Blocker]:
    yield from scene.node_blockers
    yield from scene.gpu_blockers[gpu.gpu]
    if gpu.gpu not in scene.free:
        return
    found = False
    for entry in scene.entries:
        if entry.gpus != "all" and not any(gpu.gpu in place for place in scene.places(entry)):
            continue
        for reason in _against(scene, entry, kept, gpu.gpu):
            yield reason.model_copy(
                update={"code": "workload", "text": f"{entry.name}: {reason.text}"}
            )
            found = True
            break
    if not found:
        yield Blocker(code="no_workload", text=f"no workload is meant for GPU {gpu.index}")


def _against(
    scene: Scene, entry: CatalogueEntry, kept: Mapping[str, str], gpu: str
) -> Iterator[Blocker]:
    yield from scene.entry_blockers(entry)
    for gpus in scene.places(entry):
        if gpu in gpus:
            yield from _at(scene, entry, gpus, kept)


def _workload(scene: Scene, entry: CatalogueEntry, kept: Mapping[str, str]) -> Iterator[Blocker]:
    yield from scene.node_blockers
    yield from scene.entry_blockers(entry)
    yield from _refusals(scene, entry)
    if entry.gpus == "all" and scene.entry_blockers(entry):
        return
    own = set(_runs(scene, entry))
    for gpus in scene.places(entry):
        if not any(scene.taken.get(gpu) in own for gpu in gpus):
            yield from _at(scene, entry, gpus, kept)


def _at(
    scene: Scene, entry: CatalogueEntry, gpus: Gpus, kept: Mapping[str, str]
) -> Iterator[Blocker]:
    """Return why an entry does not start at one of its places."""
    crash = scene.crash_blocker(entry, gpus)
    if crash is not None:
        yield crash
    for gpu in gpus:
        name = f"GPU {scene.index[gpu]}"
        blockers = scene.gpu_blockers[gpu]
        if blockers:
            first = blockers[0]
            yield Blocker(code="gpu", text=f"{name}: {first.text}", until=first.until)
        elif kept.get(gpu, entry.name) != entry.name:
            yield Blocker(code="kept", text=f"{name} is kept for {kept[gpu]}")


def _runs(scene: Scene, entry: CatalogueEntry) -> Iterator[str]:
    """Return the runs of an entry that are granted or not over."""
    granted = [one.run for one in scene.node.grants if one.entry == entry.name]
    alive = [one.run for one in scene.node.live_runs if one.entry == entry.name]
    yield from dict.fromkeys([*granted, *alive])


def _refusals(scene: Scene, entry: CatalogueEntry) -> Iterator[Blocker]:
    """Return what the node said against a grant that it has not begun."""
    for grant in scene.node.grants:
        said = refusal(scene.node, grant)
        if grant.entry == entry.name and grant.run not in scene.node.runs and said is not None:
            yield Blocker(code="refused", text=f"the node refused it: {said}")
