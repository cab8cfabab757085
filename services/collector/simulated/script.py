"""What happens on a simulated node, and when: a script in TOML, or a lively day made up here.

Pure: the same script, seed and elapsed time give the same moments. See docs/simulation.md.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.collector.interface import Kind

Phase = Literal["begin", "again", "end"]
USERS = ("ada", "emmy", "grace", "linus", "mary", "sofia")


class Entry(BaseModel):
    """Something that lasts from `at` for `lasts` seconds; without `lasts`, to the script's end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Annotated[float, Field(ge=0)]
    lasts: Annotated[float, Field(gt=0)] | None = None

    def moments(self) -> Iterator[tuple[float, Phase]]:
        """Return what happens when, in order."""
        yield self.at, "begin"
        if self.lasts is not None:
            yield self.at + self.lasts, "end"


class Visit(Entry):
    """Somebody logs in, types for a while, and logs out when it ends."""

    user: str
    where: str = "pts/0"
    types_for: Annotated[float, Field(ge=0)] = 60
    types_every: Annotated[float, Field(gt=0)] = 10

    def moments(self) -> Iterator[tuple[float, Phase]]:
        """Return when they come, type and go."""
        yield self.at, "begin"
        typing = self.types_for if self.lasts is None else min(self.types_for, self.lasts)
        for key in range(1, int(typing / self.types_every) + 1):
            yield self.at + key * self.types_every, "again"
        if self.lasts is not None:
            yield self.at + self.lasts, "end"


class Work(Entry):
    """A process that holds GPUs."""

    user: str
    command: str = "python train.py"
    gpus: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    kinds: frozenset[Kind] = frozenset({"compute"})
    """Empty: it holds the device open, and the driver does not list it."""
    utilization_percent: Annotated[float, Field(ge=0, le=100)] = 95
    memory_percent: Annotated[float, Field(ge=0, le=100)] = 50


class Fault(Entry):
    """A GPU that is lost, reports an error, or whose memory nobody owns up to."""

    gpu: Annotated[int, Field(ge=0)]
    lost: str | None = None
    xid: Annotated[int, Field(ge=1, lt=2**32)] | None = None
    """Reported when it begins."""
    unattributed_memory_percent: Annotated[float, Field(ge=0, le=100)] = 0


class DriverFault(Entry):
    """The driver does not answer."""

    problem: str


class Script(BaseModel):
    """A whole life; it begins again after `repeat_seconds`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repeat_seconds: Annotated[float, Field(gt=0)] | None = None
    shift_seconds: Annotated[float, Field(ge=0)] = 0
    """Each entry begins up to this much later, each node at another time."""
    visit: tuple[Visit, ...] = ()
    work: tuple[Work, ...] = ()
    fault: tuple[Fault, ...] = ()
    driver: tuple[DriverFault, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, whatever they are."""
        return (*self.visit, *self.work, *self.fault, *self.driver)

    @model_validator(mode="after")
    def _entries_end_in_time(self) -> Self:
        for entry in self.entries:
            end = self.shift_seconds + max(at for at, _ in entry.moments())
            if self.repeat_seconds is not None and end > self.repeat_seconds:
                raise ValueError(
                    f"the entry at {entry.at:g} s ends after repeat_seconds ({end:g} s)"
                )
        return self


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One thing that happens, at seconds since the script began."""

    at: float
    entry: Entry
    phase: Phase


def read_script(path: Path, gpus: int) -> Script:
    """Return the script in a file; ValueError, naming file and key, if it is none."""
    try:
        script = Script.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, mistake['loc'])) or 'script'}: {mistake['msg']}"
            for mistake in error.errors()
        )
        raise ValueError(f"{path}: {mistakes}") from error
    named = {gpu for work in script.work for gpu in work.gpus} | {one.gpu for one in script.fault}
    if named and max(named) >= gpus:
        raise ValueError(
            f"{path}: there is no GPU {max(named)} (node.simulated.gpus is {gpus}, counted from 0)"
        )
    return script


def timeline(script: Script, seed: str) -> tuple[Moment, ...]:
    """Return everything that happens in one repetition, in order of time."""
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    moments = []
    for entry in script.entries:
        shift = chance.uniform(0, script.shift_seconds)
        moments += [
            Moment(at=at + shift, entry=entry, phase=phase) for at, phase in entry.moments()
        ]
    for entry in script.entries:
        if entry.lasts is None and script.repeat_seconds is not None:
            moments.append(Moment(at=script.repeat_seconds, entry=entry, phase="end"))
    return tuple(sorted(moments, key=lambda moment: moment.at))


def a_lively_day(seed: str, gpus: int) -> Script:
    """Return an hour and a half in which people come and go and leave the GPUs alone in between.

    With the default settings fillers start five minutes after the last key and run for some ten
    minutes before somebody comes back. One node in ten also loses a GPU for a while.
    """
    chance = random.Random(f"{seed}: a lively day")  # noqa: S311 - a story, not a secret
    ada, emmy, grace = chance.sample(USERS, 3)
    visit = (
        Visit(at=420, lasts=700, user=ada, where="pts/0", types_for=90),
        Visit(at=1500, lasts=3600, user=emmy, where="pts/1", types_for=120),
        Visit(at=2700, lasts=600, user=grace, where="pts/0", types_for=60),
        Visit(at=4200, lasts=900, user=ada, where="pts/2", types_for=200),
    )
    if gpus == 0:
        return Script(repeat_seconds=5400, shift_seconds=200, visit=visit)
    one, other, last = chance.randrange(gpus), chance.randrange(gpus), gpus - 1
    notebook = Work(
        at=1530,
        lasts=3500,
        user=emmy,
        gpus=(last,),
        command="jupyter notebook",
        utilization_percent=0,
        memory_percent=12,
    )
    everything = tuple(range(gpus))
    work = (
        Work(at=40, lasts=200, user=grace, gpus=(other,), command="python evaluate.py"),
        Work(at=450, lasts=500, user=ada, gpus=(one,), memory_percent=70),
        notebook,
        Work(at=2740, lasts=400, user=grace, gpus=everything, memory_percent=60),
        Work(at=4230, lasts=700, user=ada, gpus=(other,), memory_percent=70),
    )
    faults = [Fault(at=3500, lasts=60, gpu=one, unattributed_memory_percent=20)]
    if chance.random() < 0.1:
        faults.append(Fault(at=3700, lasts=300, gpu=one, lost="GPU is lost"))
    return Script(
        repeat_seconds=5400, shift_seconds=200, visit=visit, work=work, fault=tuple(faults)
    )


class Player:
    """Says what happens next, once."""

    def __init__(self, script: Script, seed: str) -> None:
        self._moments = timeline(script, seed)
        self._period = script.repeat_seconds
        self._began = 0.0
        self._next = 0

    @property
    def next_at(self) -> float | None:
        """When the next moment is, in seconds since the beginning; None after the last."""
        if self._next < len(self._moments):
            return self._began + self._moments[self._next].at
        if self._period is None or not self._moments:
            return None
        return self._began + self._period + self._moments[0].at

    def due(self, elapsed: float) -> Iterator[Moment]:
        """Return all that has happened by now and was not returned yet."""
        while (at := self.next_at) is not None and at <= elapsed:
            if self._next == len(self._moments):
                assert self._period is not None
                # Whole repetitions that nobody saw, as on a machine that slept, are left out.
                self._began += self._period * max(1, int((elapsed - self._began) // self._period))
                self._next = 0
                continue
            self._next += 1
            yield self._moments[self._next - 1]
