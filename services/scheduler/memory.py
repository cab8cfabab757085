"""What must survive a restart, in one file: term, pauses, drains, how workloads ended."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from gleaner.bus.codec import first_mistake
from gleaner.bus.message import Value
from gleaner.bus.messages import Drain, Pause
from gleaner.runtime import write_atomically
from services.scheduler.state import Crash, State

logger = logging.getLogger(__name__)


class Memory(Value):
    """The content of `scheduler/state.json`."""

    term: int = 0
    """The highest ever heard of; the next one is higher."""
    pauses: tuple[Pause, ...] = ()
    drains: tuple[Drain, ...] = ()
    crashes: tuple[Crash, ...] = ()


def memory_of(state: State) -> Memory:
    """Return what of a state must survive."""
    return Memory(
        term=max(state.term, state.highest_term),
        pauses=state.pauses,
        drains=state.drains,
        crashes=tuple(state.crashes.values()),
    )


def may_differ(state: State, kept: Memory) -> bool:
    """Whether a state may hold more than was kept; cheap, since it is asked at every event."""
    return (
        max(state.term, state.highest_term) != kept.term
        or state.pauses != kept.pauses
        or state.drains != kept.drains
        or len(state.crashes) != len(kept.crashes)
        or any(
            ours is not theirs
            for ours, theirs in zip(state.crashes.values(), kept.crashes, strict=True)
        )
    )


def remembered(memory: Memory, now: datetime) -> State:
    """Return the state that a scheduler starts with."""
    return State(
        now=now,
        highest_term=memory.term,
        pauses=memory.pauses,
        drains=memory.drains,
        crashes=MappingProxyType({crash.place: crash for crash in memory.crashes}),
    )


def read(path: Path) -> Memory:
    """Return what was kept; a damaged file is put aside, and said so."""
    try:
        return Memory.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Memory()
    except ValidationError as error:
        aside = _aside(path)
        path.rename(aside)
        logger.error(
            "%s is damaged (%s): it is kept as %s; pauses, drains and crash counts begin anew",
            path,
            first_mistake(error),
            aside,
        )
        return Memory()


def write(path: Path, memory: Memory) -> None:
    """Keep it: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, memory.model_dump_json(indent=1))


def _aside(path: Path) -> Path:
    """Return a name that is not taken."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
