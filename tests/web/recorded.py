"""A real recorder with some days of the example fleet's past."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gleaner.bus.memory import MemoryBus
from gleaner.bus.messages import Event, HostSample, Sample, Samples, SampleUser
from services.recorder.store import Store
from tests.recorder.builders import an_event, numbers, recording, url
from tests.web.example import GIB, MARKUP, gpu_id

INTERVAL = timedelta(minutes=10)
DAYS = 8
GAP = range(50, 54)
"""Hours before now in which nothing was recorded."""
ALICE, BOB = "alice", "bob"
WATTS = {"idle": 60.0, "busy": 540.0, "held": 80.0, "ours": 480.0}

Recorder = Callable[[MemoryBus], AbstractAsyncContextManager[object]]


def recorder_in(folder: Path) -> Recorder:
    """Return a recorder that knows the past of the example fleet, for `Site`."""

    @asynccontextmanager
    async def run(bus: MemoryBus) -> AsyncIterator[None]:
        async with Store(url(folder)) as store:
            now = datetime.now().astimezone()
            await record(store, past(now), now)
            while await store.roll_up(now):
                pass
            async with recording(bus, store):
                yield

    return run


async def record(store: Store, events: Iterator[Event], now: datetime) -> None:
    """Write events as a recorder does."""
    found = numbers(*events, now=now)
    for first in range(0, len(found), 200):
        await store.write(found[first : first + 200], now=now)


def past(now: datetime) -> Iterator[Event]:
    """Yield some days of samples, and what happened."""
    sequence = 0
    for node, index in (("atlas", 0), ("atlas", 5), ("boreas", 0)):
        samples = list(samples_of(node, index, now))
        for first in range(0, len(samples), 6):
            sequence += 1
            some = tuple(samples[first : first + 6])
            hosts = () if index else tuple(host_beside(one, now) for one in some)
            minutes = Samples(samples=some, host=hosts)
            yield an_event(
                sequence,
                node=node,
                stream=f"{node}-s",
                kind="samples",
                data=minutes.model_dump(mode="json"),
                at=minutes.samples[-1].at,
            )
    for node, kind, at, data in happenings(now):
        sequence += 1
        yield an_event(sequence, node=node, stream=f"{node}-s", kind=kind, data=data, at=at)


def samples_of(node: str, index: int, now: datetime) -> Iterator[Sample]:
    """Yield one GPU's samples: people by day, ours by night, idle between; and a gap."""
    steps = timedelta(days=DAYS) // INTERVAL
    for step in range(steps):
        at = now - INTERVAL * (steps - step - 1) - timedelta(seconds=30)
        if (now - at) // timedelta(hours=1) in GAP:
            continue
        state, who, load = at_work(node, index, at)
        yield Sample(
            gpu=gpu_id(node, index),
            index=index,
            state=state,
            at=at,
            seconds=INTERVAL.total_seconds(),
            utilization_percent=load + step % 7 if load else 0,
            memory_used_bytes=(38 if who else 1) * GIB,
            temperature_celsius=35 + load / 3,
            power_watts=WATTS[state] + step % 11,
            energy_used_joules=WATTS[state] * INTERVAL.total_seconds(),
            users=(who,) if who else (),
        )


def host_beside(sample: Sample, now: datetime) -> HostSample:
    """Return what the host does meanwhile: data comes in by day, its disk fills up."""
    load = sample.utilization_percent or 0
    wave = 1 + math.sin(sample.at.timestamp() / 5000)
    is_day = sample.state == "busy"
    return HostSample(
        at=sample.at,
        seconds=sample.seconds,
        cpu_percent=min(100.0, 3 + load / 2 + 6 * wave),
        load_1_minute=0.4 + load / 4 + 3 * wave,
        memory_used_bytes=int((24 + 2 * load + 8 * wave) * GIB),
        network_received_bytes_per_second=2e4 + (60e6 + 40e6 * wave if is_day else 0),
        network_sent_bytes_per_second=1e4 + 2e5 * wave,
        disk_used_percent=round(81 - (now - sample.at) / timedelta(days=1), 1),
    )


def at_work(node: str, index: int, at: datetime) -> tuple[str, SampleUser | None, float]:
    """Return what a GPU does at some time: its state, who has it, how busy it is."""
    user = MARKUP if node == "boreas" else BOB if index == 5 else ALICE
    is_weekend = at.weekday() >= 5
    if at.hour < 7:
        entry = SampleUser(user="nobody", run="fold-1", entry="fold", processes=1)
        return "ours", entry, 90
    if is_weekend or at.hour >= 20:
        return "idle", None, 0
    mine = SampleUser(user=user, processes=1, memory_used_bytes=38 * GIB)
    if at.hour >= 16 and index == 5:
        return "held", mine, 0
    return "busy", mine, 70


def happenings(now: datetime) -> Iterator[tuple[str, str, datetime, dict[str, Any]]]:
    """Yield what happened: node, kind, when and what."""
    for number in range(130):
        at = now - timedelta(minutes=11 * number + 3)
        yield (
            "atlas",
            "gpu",
            at,
            {
                "gpu": gpu_id("atlas", 0),
                "index": 0,
                "before": "idle" if number % 2 else "busy",
                "state": "busy" if number % 2 else "idle",
                "since": at.isoformat(),
                "reasons": ["alice computes (pid 4711, python)"] if number % 2 else [],
                "holders": [{"pid": 4711, "user": "alice"}] if number % 2 else [],
            },
        )
    yield (
        "boreas",
        "gpu",
        now - timedelta(minutes=2),
        {
            "gpu": gpu_id("boreas", 0),
            "index": 0,
            "before": "idle",
            "state": "busy",
            "reasons": [f"{MARKUP} computes (pid 31337)"],
            "holders": [{"pid": 31337, "user": MARKUP}],
        },
    )
    yield (
        "atlas",
        "problem",
        now - timedelta(hours=2),
        {"what": "fan", "text": "GPU 3: fan is at 0 %"},
    )
    yield (
        "boreas",
        "people",
        now - timedelta(hours=1),
        {"active": True, "reason": "carol is active"},
    )
    for number in range(12):
        at = now - timedelta(hours=5 * number + 1)
        yield "atlas", "run", at, a_run(number, at)


def a_run(number: int, at: datetime) -> dict[str, Any]:
    """Return a run that left, as an event tells it."""
    slow = 1 + number / 10
    return {
        "run": f"fold-{number}",
        "entry": "fold" if number % 3 else "render",
        "digest": "d",
        "gpus": [gpu_id("atlas", 0)],
        "state": "evicted" if number % 4 else "succeeded",
        "reason": "evicted: alice is active at pts/3" if number % 4 else "done",
        "term": 3,
        "user": "nobody",
        "started_at": (at - timedelta(minutes=40)).isoformat(),
        "exited_at": at.isoformat(),
        "cause": {"kind": "person", "text": "alice is active at pts/3"} if number % 4 else None,
        "stages": {
            "noticed_to_term": 0.002 * slow,
            "term_to_exit": 0.18 * slow,
            "exit_to_clear": 0.4 * slow,
            "noticed_to_clear": 0.582 * slow,
        }
        if number % 4
        else None,
        "at": at.isoformat(),
    }
