"""How long answers take on a year of a hundred nodes of 8 GPUs and 60 people. `make bench-history`.

    python -m benchmarks.history [--nodes 100] [--days 365] [--cold]

The database is filled with plausible rows, straight into the tables: a year of hours, days, months,
sessions, events and runs of each GPU, 14 days of five minutes, and two days of samples of four
nodes; hours, days and five minutes of each host. It is kept in a folder below the temporary
directory, by its parameters, for the next time. `--cold` asks each question once with nothing of
the file in memory, and tells how much of it was read; how long that takes is the disk's, so it has
no goal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import figure, print_machine
from benchmarks.year import GPUS, NOW, USERS, fill
from gleaner.bus.messages import HistoryQuery
from services.recorder.queries import answers
from services.recorder.queries.questions import Known
from services.recorder.store import Store
from services.recorder.upkeep.retention import Retention

GOAL_MS = 200.0
GOAL_RESIDENT_MB = 150.0
TRIALS = 5
KEEP = Retention(samples=timedelta(days=2), events=timedelta(days=731))
LAYOUT = "8"
"""Changes when other rows are generated."""


def questions(nodes: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is asked, each with what it is called."""
    year, month = NOW - timedelta(days=365), NOW - timedelta(days=30)
    odd = year + timedelta(hours=7, minutes=20)
    for by in ("user", "group", "node", "gpu", "model"):
        yield f"usage of a year by {by}", {"what": "usage", "by": by, "since": odd}
    for by in ("hour", "weekday_hour", "day", "week", "month"):
        yield f"usage of a year by {by}", {"what": "usage", "by": by, "since": odd}
        yield (
            f"usage of a year by {by}, one user",
            {
                "what": "usage",
                "by": by,
                "since": odd,
                "user": "user7",
            },
        )
    for by in ("user", "gpu", "hour", "day"):
        yield f"usage of 30 days by {by}", {"what": "usage", "by": by, "since": month}
    node = f"n{nodes // 2}"
    for by in ("user", "day", "hour", "weekday_hour"):
        if by in ("user", "day"):
            yield (
                f"usage of a year by {by}, one node",
                {
                    "what": "usage",
                    "by": by,
                    "since": odd,
                    "node": node,
                },
            )
    yield (
        "usage of a year by hour, one node",
        {
            "what": "usage",
            "by": "hour",
            "since": odd,
            "node": node,
        },
    )
    yield (
        "usage of a year by node, one user",
        {
            "what": "usage",
            "by": "node",
            "since": odd,
            "user": "user7",
        },
    )
    one = {"what": "usage", "node": node, "user": "user7"}
    for by in ("hour", "weekday_hour", "day"):
        yield f"usage of a year by {by}, one user on one node", one | {"by": by, "since": odd}
    some = NOW - timedelta(hours=12)
    yield "usage of 12 hours by user, one node", one | {"user": None, "since": some}
    yield "usage of 12 hours by node, one user", one | {"node": None, "by": "node", "since": some}
    spans = (("year", 365), ("month", 30), ("week", 7), ("day", 1))
    for name, days in spans:
        since = NOW - timedelta(days=days)
        yield (
            f"series of a GPU over a {name}",
            {
                "what": "series",
                "gpu": f"GPU-{node}-3",
                "since": since,
            },
        )
        of_node = {"what": "series", "node": node, "since": since}
        yield f"series of a node over a {name}", of_node
        yield f"series of a host over a {name}", of_node | {"of": "host"}
    yield (
        "series of a GPU over an hour, by samples",
        {
            "what": "series",
            "gpu": "GPU-n0-3",
            "since": NOW - timedelta(hours=1),
        },
    )
    yield (
        "series of a GPU over a day, by samples",
        {
            "what": "series",
            "gpu": "GPU-n0-3",
            "since": NOW - timedelta(days=1),
        },
    )
    yield "the last hour of 20 nodes", {"what": "last_hour"}
    yield "samples of a node, one page", {"what": "samples", "node": "n0"}
    yield "samples of all nodes, one page", {"what": "samples"}
    for limit in (100, 1000):
        yield (
            f"sessions of a user, a page of {limit}",
            {
                "what": "sessions",
                "user": "user7",
                "limit": limit,
            },
        )
        yield f"events, a page of {limit}", {"what": "events", "limit": limit}
    yield "sessions of a node", {"what": "sessions", "node": node}
    yield "sessions, a month ago", {"what": "sessions", "until": month}
    yield "events of a kind", {"what": "events", "kind": "problem"}
    yield "events of a node", {"what": "events", "node": node}
    yield "events of a GPU", {"what": "events", "gpu": f"GPU-{node}-3"}
    for name, filters in (
        ("of a user", {"user": "user7"}),
        ("of a workload", {"entry": "fold"}),
        ("in which something came into a state", {"state": "held"}),
        ("of one user in one state", {"user": "user7", "state": "held"}),
        ("of one user on one node", {"user": "user7", "node": node}),
        ("a year ago of a user", {"user": "zoe"}),
        ("a year ago of a workload", {"entry": "protein"}),
        ("a year ago of a state", {"state": "lost"}),
        ("a year ago of a kind", {"kind": "overflow"}),
        ("a year ago of a user, a state", {"user": "nobody", "state": "lost"}),
        ("in vain for a user in a state", {"user": "zoe", "state": "busy"}),
        ("in vain for a user on a node", {"user": "zoe", "node": node}),
        ("in vain for a state", {"state": "dirty"}),
        ("in vain for a workload in a state", {"entry": "fold", "state": "held"}),
        ("in vain for a user of a workload", {"user": "user7", "entry": "fold"}),
        ("in vain for a user's runs", {"user": "user7", "kind": "run"}),
    ):
        yield f"events {name}", {"what": "events"} | filters
    yield "runs a year ago of a workload", {"what": "runs", "entry": "protein"}
    yield "runs, in vain for a state", {"what": "runs", "state": "lost"}
    yield "runs, in vain for a user", {"what": "runs", "user": "user7"}
    yield "runs, in vain for a workload", {"what": "runs", "entry": "fishtest"}
    yield "runs", {"what": "runs", "limit": 1000}
    yield "runs that failed", {"what": "runs", "kind": "failed"}
    yield "runs of a GPU", {"what": "runs", "gpu": f"GPU-{node}-3"}
    yield "quotas, this month", {"what": "quotas", "until": NOW - timedelta(seconds=1)}
    yield "quotas, twelve months", {"what": "quotas", "since": year}
    yield "latencies of a year", {"what": "latencies", "since": year}
    yield "latencies of a node", {"what": "latencies", "since": year, "node": node}


async def measure(directory: Path, nodes: int, *, is_cold: bool) -> bool:
    """Print how long each answer takes; return whether all were fast enough."""
    met = True
    async with Store(f"sqlite:///{directory / 'gleaner.sqlite'}") as store:
        known = Known(
            names=store.names,
            local=store.local,
            retention=KEEP,
            quotas={"*": 1000.0, "user7": 5000.0},
        )
        for title, wanted in questions(nodes):
            query = HistoryQuery.model_validate(
                {"id": "q", "client": "bench", "expires_at": NOW, "limit": 1000} | wanted
            )

            async def ask(query: HistoryQuery = query) -> int:
                return len((await answers.answer(store.read, query, known, NOW)).rows)

            if is_cold:
                await measure_cold(title, directory, ask)
            else:
                met &= await measure_warm(title, ask)
        resident = psutil.Process().memory_info().rss / 1e6
    return met & figure("resident, after all of these", resident, "MB", GOAL_RESIDENT_MB)


async def measure_warm(title: str, ask: Callable[[], Awaitable[int]]) -> bool:
    """Print the slowest of some answers."""
    worst, rows, cpu = 0.0, 0, list[float]()
    for _ in range(TRIALS):
        before, used = time.perf_counter(), time.process_time()
        rows = await ask()
        worst = max(worst, time.perf_counter() - before)
        cpu.append(time.process_time() - used)
    spent = f"{statistics.median(cpu) * 1000:.0f} ms CPU"
    return figure(f"{title} ({rows} rows, {spent})", worst * 1000, "ms", GOAL_MS)


async def measure_cold(title: str, directory: Path, ask: Callable[[], Awaitable[int]]) -> None:
    """Print an answer's first time, and what it read from the disk."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            # Nothing of it was changed, so all of it goes.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before, read = time.perf_counter(), psutil.Process().io_counters().read_bytes
    rows = await ask()
    took = time.perf_counter() - before
    read = psutil.Process().io_counters().read_bytes - read
    figure(f"{title} ({rows} rows, {read / 1e6:.1f} MB)", took * 1000, "ms")


async def main(nodes: int, days: int, *, is_cold: bool = False) -> bool:
    """Fill the database if it is not there, and ask."""
    print_machine()
    name = f"gleaner-bench-history-{LAYOUT}-{nodes}x{GPUS}-{days}d"
    directory = Path(tempfile.gettempdir()) / name
    if not directory.is_dir():
        making = directory.with_name(f"{name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        before = time.monotonic()
        await fill(making, nodes, days)
        making.rename(directory)
        print(f"filled {directory} in {time.monotonic() - before:.0f} s")
    size = (directory / "gleaner.sqlite").stat().st_size / 1e6
    print(f"{nodes} nodes of {GPUS} GPUs, {days} days, {USERS} people: {size:.0f} MB")
    if is_cold:
        print("once each, with nothing in memory; first page of 1000 rows at most:")
    else:
        with (directory / "gleaner.sqlite").open("rb") as file:
            # Into memory; for the disk there is `--cold`.
            while file.read(2**24):
                pass
        print(f"the slowest of {TRIALS} times, first page of 1000 rows at most; CPU, the middle:")
    return await measure(directory, nodes, is_cold=is_cold)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()
    sys.exit(not asyncio.run(main(given.nodes, given.days, is_cold=given.cold)))
