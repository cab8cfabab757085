"""Whom a runner obeys, and which grants it refuses. Pure; every refusal is a sentence.

Two things are needed for a launch: a signed wish (`Desired`) and a signed beat of the same term,
heard live since we connected and not older than the lease. A retained wish alone starts nothing,
because nobody knows how old it is. Terms and generations only grow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from gleaner.bus.messages import (
    BeatBody,
    CatalogueEntry,
    DesiredBody,
    GpuCondition,
    GpuInventory,
    Grant,
)
from services.runner.facts import Facts
from services.runner.timing import Timing

_RUN = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,79}")


@dataclass(frozen=True, kw_only=True)
class Allegiance:
    """What was heard of schedulers; the highest term and generation survive a restart."""

    term: int | None = None
    generation: int | None = None
    """Of the last wish accepted in this term."""
    desired: DesiredBody | None = None
    beat_term: int | None = None
    beat_sequence: int | None = None
    beat_at: float | None = None
    """CLOCK_BOOTTIME of the last live beat since we connected, in seconds."""
    was_heard: bool = False


def take_desired(
    allegiance: Allegiance, body: DesiredBody, node: str
) -> tuple[Allegiance, str | None]:
    """Accept a signed wish; return what holds now, and why it was refused or None."""
    if body.node != node:
        return allegiance, f"it is meant for node {body.node}"
    if allegiance.term is not None and body.term < allegiance.term:
        return allegiance, f"term {body.term} is older than {allegiance.term}, which spoke before"
    known = allegiance.generation if body.term == allegiance.term else None
    if known is not None and body.generation < known:
        return allegiance, f"generation {body.generation} is older than {known}"
    return (
        replace(allegiance, term=body.term, generation=body.generation, desired=body),
        None,
    )


def take_beat(allegiance: Allegiance, body: BeatBody, now: float) -> tuple[Allegiance, str | None]:
    """Renew the lease by a signed beat; a repeated one renews nothing."""
    if allegiance.term is not None and body.term < allegiance.term:
        return allegiance, f"term {body.term} is older than {allegiance.term}, which spoke before"
    last = allegiance.beat_sequence if body.term == allegiance.beat_term else None
    if last is not None and body.sequence <= last:
        return allegiance, None
    return (
        replace(
            allegiance,
            term=body.term,
            generation=allegiance.generation if body.term == allegiance.term else None,
            beat_term=body.term,
            beat_sequence=body.sequence,
            beat_at=now,
            was_heard=True,
        ),
        None,
    )


def disconnected(allegiance: Allegiance) -> Allegiance:
    """Forget the last beat: after a gap, only a live one allows a launch."""
    return replace(allegiance, beat_at=None)


def lease(allegiance: Allegiance, now: float, timing: Timing) -> Literal["held", "lost", "none"]:
    """Return whether a scheduler allows launches right now."""
    if not allegiance.was_heard:
        return "none"
    fresh = allegiance.beat_at is not None and now - allegiance.beat_at < timing.lease
    return "held" if fresh else "lost"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Everything a grant is held against."""

    facts: Facts
    allegiance: Allegiance
    entries: Mapping[str, CatalogueEntry]
    seen: frozenset[str] | set[str]
    """Run ids that were started before."""
    taken: Mapping[str, str] = field(default_factory=dict)
    """GPU to our run that has it."""
    obstacle: str | None = None
    """Why nothing can be started here at all, such as a full disk."""


def refuse(grant: Grant, place: Place, now: float, timing: Timing) -> str | None:
    """Return why a grant of the accepted wish is not carried out, or None."""
    return (
        _refuse_by_scheduler(grant, place, now, timing)
        or _refuse_by_entry(grant, place)
        or _refuse_by_node(place, now, timing)
        or _refuse_by_gpu(grant, place)
    )


def _refuse_by_scheduler(grant: Grant, place: Place, now: float, timing: Timing) -> str | None:
    allegiance = place.allegiance
    if not _RUN.fullmatch(grant.run):
        return "its id cannot be the name of a folder"
    if grant.run in place.seen:
        return "a run id starts only once"
    if lease(allegiance, now, timing) != "held":
        return "no scheduler was heard lately"
    if allegiance.desired is None or allegiance.desired.term != allegiance.beat_term:
        return "the scheduler that wished for it is not the one that is heard"
    return None


def _refuse_by_entry(grant: Grant, place: Place) -> str | None:
    entry = place.entries.get(grant.entry)
    if entry is None:
        return f"the catalogue of this node has no entry {grant.entry}"
    if entry.digest != grant.digest:
        return f"entry {grant.entry} was changed since it was granted"
    if entry.problems:
        return f"entry {grant.entry}: {entry.problems[0]}"
    known = {one.gpu: one for one in place.facts.inventory.gpus} if place.facts.inventory else {}
    if not grant.gpus or len(set(grant.gpus)) != len(grant.gpus):
        return "it names no GPU, or one of them twice"
    for gpu in grant.gpus:
        if gpu not in known:
            return f"this node has no GPU {gpu}"
        if not known[gpu].schedulable:
            return f"GPU {known[gpu].index} is not schedulable (its MIG devices are)"
    if not _fits(entry, grant, known):
        return f"entry {grant.entry} does not run on these GPUs (gpus = {entry.gpus!r})"
    return None


def _fits(entry: CatalogueEntry, grant: Grant, known: Mapping[str, GpuInventory]) -> bool:
    if entry.gpus == "each":
        return len(grant.gpus) == 1
    if entry.gpus == "all":
        return set(grant.gpus) == {gpu for gpu, one in known.items() if one.schedulable}
    return sorted(known[gpu].index for gpu in grant.gpus) == sorted(entry.gpus)


def _refuse_by_node(place: Place, now: float, timing: Timing) -> str | None:
    facts = place.facts
    if place.obstacle is not None:
        return place.obstacle
    if facts.paused is not None:
        return facts.paused
    if not facts.is_watched(now, timing.beat):
        return "the collector completes no checks"
    if facts.people is None:
        return "nobody has said who is at this node"
    if facts.people.watched and facts.people.active:
        return facts.people.reason
    return None


def _refuse_by_gpu(grant: Grant, place: Place) -> str | None:
    for gpu in grant.gpus:
        name, state = place.facts.name(gpu), place.facts.gpus.get(gpu)
        if gpu in place.taken:
            return f"{name} is taken by run {place.taken[gpu]}"
        if state is None:
            return f"{name}: nothing is known about it"
        if state.state is not GpuCondition.IDLE:
            reasons = "; ".join(state.reasons)
            return f"{name} is {state.state.value}" + (f": {reasons}" if reasons else "")
    return None
