"""How large the database of a large fleet becomes: a month of a few GPUs, through the real code.

    python -m benchmarks.month [--days 31]

Two nodes of 8 GPUs go through a plausible month: each four days each GPU is held by a person for 44
hours (without work in the last four) and by a run of ours for 32, which is evicted; each change is
an event, and so is each step of a run. Beside the samples of a node's GPUs is always one of its
host. The last two days have a sample each 10 seconds; before, when samples would be gone, one each
100, for what is kept of them is as large. What each row takes, its share of the indexes included,
is extrapolated to 1,000 nodes after two years.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from benchmarks.figures import figure, print_machine
from gleaner.bus.messages import (
    Event,
    GpuState,
    Holder,
    HostSample,
    Run,
    Sample,
    Samples,
    SampleUser,
)
from services.recorder.intake.batch import Number
from services.recorder.intake.rows import rows_of
from services.recorder.store import Store
from services.recorder.upkeep.retention import Retention

GOAL_GB = 27.0
START = datetime(2026, 5, 1, tzinfo=UTC)
NODES, GPUS, USERS = 2, 8, 40
FLEET = 1000 * 8
YEARS = 731
KEPT_5M = 14
OTHER_USERS = 20
"""Times as many people at once as on these GPUs."""
KEEP = Retention(samples=timedelta(days=2), events=timedelta(days=YEARS))
ENOUGH_ROWS = 100
Sizes = dict[str, tuple[int, int]]
_FEED = timedelta(hours=6)


class Node:
    """What a node would say, day after day."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self._chance = chance
        self._stream, self._boot = str(uuid.UUID(int=chance.getrandbits(128))), str(uuid.uuid4())
        self._gpus = [f"GPU-{uuid.UUID(int=chance.getrandbits(128))}" for _ in range(GPUS)]
        self._energy = [chance.uniform(1e6, 1e9) for _ in range(GPUS)]
        self._sequence = 0
        self._states = [""] * GPUS

    def says(self, begin: datetime, end: datetime, step: timedelta) -> Iterator[Event]:
        """Yield the events of a time: changes of state, runs, and samples each minute or so."""
        at, samples, hosts = begin, list[Sample](), list[HostSample]()
        while at < end:
            at += step
            hosts.append(self._host(at, step.total_seconds()))
            for index in range(GPUS):
                state, user, run = self._state(index, at)
                if state != self._states[index]:
                    yield from self._changed(index, state, user, run, at)
                samples.append(self._sample(index, state, user, run, at, step.total_seconds()))
            if at.second == 0:
                data = Samples(samples=tuple(samples), host=tuple(hosts)).model_dump(mode="json")
                yield self._event("samples", data, at)
                samples, hosts = [], []

    def _state(self, index: int, at: datetime) -> tuple[str, str | None, str | None]:
        # Four days, over and over; the GPUs of a node one after the other.
        hours = (int((at - START).total_seconds()) // 3600 + index * 12) % 96
        if hours < 44:
            user = f"user{(at.toordinal() // 4 * 7 + index // 4) % USERS}"
            return ("held" if hours >= 40 else "busy"), user, None
        if 52 <= hours < 84:
            return "ours", None, f"{at.toordinal() // 4:08x}{index:024x}"
        return "idle", None, None

    def _sample(
        self,
        index: int,
        state: str,
        user: str | None,
        run: str | None,
        at: datetime,
        seconds: float,
    ) -> Sample:
        chance, works = self._chance, state in ("busy", "ours")
        watts = round(chance.gauss(330 if works else 62, 20 if works else 0.4), 3)
        used = round(watts * seconds, 3)
        self._energy[index] += used
        load = float(min(100, max(0, round(chance.gauss(88, 8))))) if works else 0.0
        memory = 2**21 * (35_000 + (0 if state == "held" else chance.randrange(3))) if user else 0
        who = SampleUser(user=user, processes=1, memory_used_bytes=memory)
        if run:
            who = SampleUser(run=run, entry="fold", processes=2, memory_used_bytes=2**33)
        return Sample(
            gpu=self._gpus[index],
            index=index,
            state=state,
            at=at + timedelta(microseconds=chance.randrange(900)),
            seconds=seconds,
            utilization_percent=load,
            memory_utilization_percent=float(load // 2),
            memory_used_bytes=memory + 545_259_520,
            temperature_celsius=float(round(chance.gauss(66 if works else 33, 1))),
            power_watts=watts,
            energy_joules=round(self._energy[index], 3),
            sm_clock_mhz=float(1980 - 15 * chance.randrange(5)) if works else 345.0,
            energy_used_joules=used,
            users=(who,) if user or run else (),
        )

    def _host(self, at: datetime, seconds: float) -> HostSample:
        chance = self._chance
        works = sum(self._state(index, at)[0] in ("busy", "ours") for index in range(GPUS))
        return HostSample(
            at=at + timedelta(microseconds=chance.randrange(900)),
            seconds=seconds,
            cpu_percent=round(min(100, max(0.1, chance.gauss(2 + 6 * works, 2))), 1),
            load_1_minute=round(max(0, chance.gauss(0.5 + 4 * works, 0.5)), 2),
            memory_used_bytes=2**12 * int(2**20 * (6 + 8 * works) + chance.randrange(2**18)),
            network_received_bytes_per_second=round(chance.expovariate(1 / (2e4 + 2e7 * works))),
            network_sent_bytes_per_second=round(chance.expovariate(1 / (1e4 + 1e6 * works))),
            disk_used_percent=round(60 + (at - START) / timedelta(days=2), 1),
        )

    def _changed(
        self, index: int, state: str, user: str | None, run: str | None, at: datetime
    ) -> Iterator[Event]:
        before, self._states[index] = self._states[index], state
        gpu, chance = self._gpus[index], self._chance
        holder = Holder(
            pid=chance.randrange(2**20),
            started_at=at - timedelta(microseconds=chance.randrange(10**9)),
            user_id=1000 + chance.randrange(USERS),
            user=user or "nobody",
            command="python train.py" if user else "fold",
            kinds=("compute", "device_open"),
            memory_used_bytes=2**36,
            run=run,
            entry="fold" if run else None,
        )
        why = {
            "busy": f"{user} computes (pid {holder.pid}, python)",
            "held": f"{user} holds it and has done nothing for 1800 s (pid {holder.pid})",
            "ours": f"run {run} of fold",
            "idle": "nobody holds it",
        }[state]
        said = GpuState.model_validate_json(
            to_json(
                {
                    "node": self.name,
                    "gpu": gpu,
                    "index": index,
                    "state": state,
                    "since": at,
                    "reasons": (why,),
                    "holders": () if state == "idle" else (holder,),
                    "at": at,
                    "noticed_by": "fanotify",
                }
            )
        )
        data = said.model_dump(mode="json", exclude={"node"}) | {"before": before or None}
        yield self._event("gpu", data, at)
        for one, number in ((before, 0), (state, 1)):
            if one == "ours":
                yield from self._run(gpu, f"{at.toordinal() // 4:08x}{index:024x}", number, at)

    def _run(self, gpu: str, run: str, begins: int, at: datetime) -> Iterator[Event]:
        base: dict[str, Any] = {
            "node": self.name, "run": run, "entry": "fold", "digest": "sha256:" + "a" * 64,
            "gpus": (gpu,), "term": 7, "pid": 4711, "supervisor_pid": 4710,
            "supervisor_started_ticks": 123_456_789,
            "token_digest": f"{self._chance.getrandbits(256):x}",
            "user": "nobody", "started_at": at, "at": at,
        }  # fmt: skip
        why = "evicted: user1 computes (pid 4711, python)"
        left = {
            "exited_at": at, "term_sent_at": at, "exit_signal": 15,
            "cause": {"kind": "gpu_process", "text": why},
            "stages": {
                "noticed_to_term": self._chance.random() / 100, "term_to_exit": 1.234567,
                "exit_to_clear": 0.345678, "noticed_to_clear": 1.6,
            },
        }  # fmt: skip
        said: tuple[dict[str, Any], ...] = (
            {"state": "starting", "reason": "granted"},
            {"state": "running", "reason": "it runs"},
        )
        if not begins:
            said = (
                {"state": "stopping", "reason": why},
                {"state": "evicted", "reason": why} | left,
            )
        for one in said:
            data = Run.model_validate_json(to_json(base | one)).model_dump(
                mode="json", exclude={"node"}
            )
            yield self._event("run", data, at)

    def _event(self, kind: str, data: dict[str, Any], at: datetime) -> Event:
        self._sequence += 1
        return Event(
            node=self.name,
            stream=self._stream,
            sequence=self._sequence,
            oldest_sequence=max(1, self._sequence - 3),
            kind=kind,
            data=data,
            boot_id=self._boot,
            at=at,
        )


async def play(store: Store, days: int) -> Sizes:
    """Record the month; return how large the tables were in the middle."""
    chance = random.Random(1)
    nodes = [Node(f"gpu{number:04d}", chance) for number in range(NODES)]
    now, end = START, START + timedelta(days=days)
    middle: Sizes = {}
    while now < end:
        step = timedelta(seconds=10 if now >= end - KEEP.samples else 100)
        events = [one for node in nodes for one in node.says(now, now + _FEED, step)]
        now += _FEED
        events.sort(key=lambda one: one.at)
        for place in range(0, len(events), 200):
            await store.write([_number(one) for one in events[place : place + 200]], now=now)
        later = now + timedelta(minutes=10)
        while await store.roll_up(later):
            pass
        while await store.seal(KEEP.sealed(now)):
            pass
        if not middle and now >= START + timedelta(days=days) / 2:
            middle = sizes(Path(store.name))
    return middle


def sizes(path: Path) -> Sizes:
    """Return bytes, indexes included, and rows of each table."""
    database = sqlite3.connect(path)
    found = {}
    for table, size in database.execute(
        "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_schema m ON m.name = s.name "
        "GROUP BY 1"
    ).fetchall():
        (rows,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        found[table] = (int(size), int(rows))
    database.close()
    return found


def _number(event: Event) -> Number:
    return Number(
        node=event.node,
        stream=event.stream,
        sequence=event.sequence,
        oldest=event.oldest_sequence,
        rows=rows_of(event, event.at + timedelta(milliseconds=300)),
    )


def extrapolate(path: Path, days: int, middle: Sizes) -> float:
    """Print what the tables take and would take; return the gigabytes."""
    database = sqlite3.connect(path)
    gpus = NODES * GPUS
    (events,) = database.execute("SELECT count(*) FROM event").fetchone()
    print(f"{events / gpus / days:.1f} events of each GPU a day")
    print(f"{gpus} GPUs, {days} days measured; {FLEET} GPUs after {YEARS} days extrapolated:")
    end = sizes(path)
    scale = FLEET / gpus
    years = scale * YEARS / days
    # By table: how many times as many rows of GPUs there will be as there are now.
    grows = {
        "sample": scale, "stretch": scale, "sample_5m": scale * KEPT_5M / days,
        "sample_1h": years, "sample_1d": years, "sample_1mo": years, "use_1d": years,
        "host_5m": scale * KEPT_5M / days, "host_1h": years, "host_1d": years,
        "use_1h": OTHER_USERS * YEARS / days, "session": years, "event": years, "run": years,
        "mention": years,
    }  # fmt: skip
    total = 0.0
    for table, factor in grows.items():
        (size, rows), (size_before, rows_before) = end[table], middle[table]
        width, each = size / max(1, rows), 0
        if rows - rows_before > ENOUGH_ROWS and table not in ("sample", "stretch"):
            # What the second half took: the first pages of a small table are not full.
            width = (size - size_before) / (rows - rows_before)
        if table.startswith("sample_") or table == "use_1d":
            # The sums of all GPUs are no more with more GPUs.
            (each,) = database.execute(f"SELECT count(*) FROM {table} WHERE device = 0").fetchone()
        grown = (rows - each) * factor + each * factor / scale
        total += grown * width
        print(
            f"  {table:<12} {width:7.1f} bytes a row, {grown / 1e6:8.2f} million rows, "
            f"{grown * width / 1e9:6.2f} GB"
        )
    database.close()
    return total / 1e9


async def main(days: int) -> bool:
    """Play a month and print what it takes."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as directory:
        path = Path(directory) / "gleaner.sqlite"
        async with Store(f"sqlite:///{path}") as store:
            middle = await play(store, days)
        size = extrapolate(path, days, middle)
    return figure("database of 1,000 nodes of 8 GPUs after two years", size, "GB", GOAL_GB)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=31)
    given = parser.parse_args()
    print_machine()
    sys.exit(not asyncio.run(main(given.days)))
