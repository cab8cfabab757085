"""How long answers take on a year of a hundred nodes of 8 GPUs and 60 people. `make bench-history`.

    python -m benchmarks.history [--nodes 100] [--days 365] [--url postgresql://…]

The database is filled with plausible rows, straight into the tables: a year of hours, days, months,
sessions, events and runs of each GPU, 14 days of five minutes, and two days of samples of four
nodes. It is kept in a folder below the temporary directory, by its parameters, for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.figures import figure, print_machine
from gleaner.bus.messages import HistoryQuery
from services.recorder import answers, rollup, samples, tables, use
from services.recorder.columns import from_microseconds, to_microseconds
from services.recorder.packing import pack
from services.recorder.questions import Known
from services.recorder.retention import Retention
from services.recorder.store import Store

GOAL_MS = 200.0
TRIALS = 5
NOW = datetime(2026, 7, 1, tzinfo=UTC)
GPUS, USERS, ENTRIES = 8, 60, ("fold", "fishtest")
MODELS = ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA L40S", "Tesla V100-SXM2-32GB")
HOUR, DAY = 12, 288
"""In five minutes."""
KEEP = Retention(samples=timedelta(days=2), events=timedelta(days=731))
LAYOUT = "3"
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
        yield f"series of a node over a {name}", {"what": "series", "node": node, "since": since}
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
    yield "events, in vain for a user", {"what": "events", "user": "zoe"}
    yield "events, in vain for a state", {"what": "events", "state": "lost"}
    yield "events, in vain for a user on a node", {"what": "events", "user": "zoe", "node": node}
    yield "runs, in vain for a user", {"what": "runs", "user": "zoe"}
    yield "runs, in vain for a workload", {"what": "runs", "entry": "fishtest"}
    yield "runs", {"what": "runs", "limit": 1000}
    yield "runs that failed", {"what": "runs", "kind": "failed"}
    yield "runs of a GPU", {"what": "runs", "gpu": f"GPU-{node}-3"}
    yield "quotas, this month", {"what": "quotas", "until": NOW - timedelta(seconds=1)}
    yield "quotas, twelve months", {"what": "quotas", "since": year}
    yield "latencies of a year", {"what": "latencies", "since": year}
    yield "latencies of a node", {"what": "latencies", "since": year, "node": node}


async def fill(directory: Path, nodes: int, days: int) -> None:
    """Make the database."""
    path = directory / "gleaner.sqlite"
    async with Store(f"sqlite:///{path}"):
        pass
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous=OFF")
    chance = random.Random(1)
    database.execute("BEGIN")
    _names(database, nodes)
    last = int(NOW.timestamp()) // 300
    _rolled(database, "sample_1h", last - days * DAY, last, HOUR)
    _rolled(database, "sample_5m", last - 14 * DAY, last, 1)
    _sums(database)
    _use(database, last - days * DAY, days, nodes * GPUS, chance)
    _sessions(database, days, nodes * GPUS, chance)
    _events(database, days, nodes, chance)
    _runs(database, days, nodes, chance)
    _samples(database, nodes, chance)
    database.execute("COMMIT")
    database.close()


def _names(database: sqlite3.Connection, nodes: int) -> None:
    texts = ["", *(f"n{one}" for one in range(nodes)), *(f"user{one}" for one in range(USERS))]
    texts += [*ENTRIES, *MODELS, "boot"]
    database.executemany(
        "INSERT OR IGNORE INTO name (text) VALUES (?)", [(text,) for text in texts]
    )
    numbers = dict(database.execute("SELECT text, id FROM name"))
    at = to_microseconds(NOW)
    for node in range(nodes):
        model = numbers[MODELS[node * len(MODELS) // nodes]]
        database.executemany(
            'INSERT INTO device (node, gpu, "index", model, first_at, last_at) '
            "VALUES (?,?,?,?,?,?)",
            [
                (numbers[f"n{node}"], f"GPU-n{node}-{one}", one, model, at, at)
                for one in range(GPUS)
            ],
        )
        database.execute(
            "INSERT INTO stream (node, stream, watermark, gaps, updated_at) "
            "VALUES (?, 's', 0, 0, ?)",
            (numbers[f"n{node}"], at),
        )


def _rolled(database: sqlite3.Connection, table: str, first: int, last: int, width: int) -> None:
    ms = width * 300_000
    busy = "((d * 7 + s / 96 + abs(random()) % 3) % 5)"
    columns: dict[str, str] = {"samples": str(width * 30)}
    columns |= {f"{state}_seconds": "0" for state in rollup.STATES}
    columns |= {"busy_seconds": f"iif(b < 2, {ms}, 0)", "held_seconds": f"iif(b = 2, {ms}, 0)"}
    columns |= {"ours_seconds": f"iif(b = 3, {ms}, 0)", "idle_seconds": f"iif(b = 4, {ms}, 0)"}
    seconds = width * 300
    gauges = {
        "utilization_percent": ("iif(b < 4, 60 + r % 39, 0)", 1),
        "memory_utilization_percent": ("iif(b < 4, 30 + r % 19, 0)", 1),
        "memory_used_bytes": ("iif(b < 4, 70000 + r % 9999, 520)", 1),
        "temperature_celsius": ("iif(b < 4, 60 + r % 15, 33)", 1),
        "power_watts": ("iif(b < 4, 3000 + r % 999, 620)", 1),
        "sm_clock_mhz": ("iif(b < 4, 1900 + r % 80, 345)", 1),
    }
    columns["energy_joules"] = f"iif(b < 4, 330, 62) * {seconds} * 1000 + r"
    for gauge, (value, _) in gauges.items():
        columns |= {f"{gauge}_sum": f"{value} * {seconds} + r % 97"}
        columns |= {f"{gauge}_min": f"{value} * 2 / 3", f"{gauge}_max": value}
    columns["fan_percent_sum"] = "0"
    columns["fan_percent_seconds"] = "0"
    database.execute(
        f"INSERT INTO {table} (device, start, {', '.join(columns)}) "
        f"WITH RECURSIVE starts(s) AS (SELECT {first} UNION ALL SELECT s + {width} FROM starts "
        f"WHERE s + {width} < {last}), devices(d) AS (SELECT id FROM device) "
        f"SELECT d, s, {', '.join(columns.values())} FROM (SELECT d, s, {busy} AS b, "
        "abs(random()) % 1000 AS r FROM devices CROSS JOIN starts)"
    )


def _sums(database: sqlite3.Connection) -> None:
    names = [column.name for column in tables.sample_1h.c if not column.primary_key]
    of = {"min": "min", "max": "max"}
    sums = ", ".join(f"{of.get(name.rpartition('_')[2], 'sum')}({name})" for name in names)
    listed = ", ".join(names)
    starts = database.execute("SELECT DISTINCT start / 288 * 288 FROM sample_1h").fetchall()
    months = [
        (start, int(from_microseconds(start * 300_000_000).replace(day=1).timestamp()) // 300)
        for (start,) in starts
    ]
    database.execute("CREATE TEMP TABLE month (day INTEGER PRIMARY KEY, start INTEGER)")
    database.executemany("INSERT INTO month VALUES (?, ?)", months)
    database.execute(
        f"INSERT INTO sample_1d (device, start, {listed}) "
        f"SELECT device, start / 288 * 288, {sums} FROM sample_1h GROUP BY 1, 2"
    )
    database.execute(
        f"INSERT INTO sample_1mo (device, start, {listed}) SELECT device, m.start, {sums} "
        "FROM sample_1d s JOIN month m ON m.day = s.start GROUP BY 1, 2"
    )
    for table in ("sample_5m", "sample_1h", "sample_1d", "sample_1mo"):
        database.execute(
            f"INSERT INTO {table} (device, start, {listed}) SELECT 0, start, {sums} "
            f"FROM {table} GROUP BY start"
        )


def _use(
    database: sqlite3.Connection, first: int, days: int, devices: int, chance: random.Random
) -> None:
    numbers = dict(database.execute("SELECT text, id FROM name"))
    users = [numbers[f"user{one}"] for one in range(USERS)]
    entries, nobody = [numbers[entry] for entry in ENTRIES], numbers[""]

    def used(hours: float) -> list[int]:
        ms = int(hours * 3_600_000)
        return [ms, ms, 0, 0, ms // 15, ms, ms // 1000 * 40_000, ms * 300, 99, 70_000]

    marks = ",".join("?" * len((*use.SUMS, *use.LIMITS)))
    by_day: dict[tuple[int, int], dict[tuple[int, int], float]] = {}
    for day in range(days):
        start = first + day * DAY
        whole: dict[tuple[int, int], float] = {}
        for device in range(1, devices + 1):
            # Somebody has several GPUs, and the same for some days.
            user = users[(device // 3 + day // 4 + chance.randrange(2)) % USERS]
            for who in ((user, nobody), (nobody, entries[device % 2])):
                hours = chance.uniform(2, 12)
                by_day.setdefault((device, start), {})[who] = hours
                whole[who] = whole.get(who, 0) + hours
        by_day[0, start] = whole
    database.executemany(
        f"INSERT INTO use_1d VALUES (?, ?, ?, ?, {marks})",
        (
            [device, start, *who, *used(hours)]
            for (device, start), mine in sorted(by_day.items())
            for who, hours in sorted(mine.items())
        ),
    )
    database.executemany(
        f"INSERT INTO use_1h VALUES (?, ?, ?, {marks})",
        (
            [start + hour * HOUR, *who, *used(hours / 16)]
            for (device, start), mine in sorted(by_day.items())
            if device == 0
            for hour in range(24)
            for who, hours in sorted(mine.items())
            if (who[0] + hour) % 3
        ),
    )


def _sessions(database: sqlite3.Connection, days: int, devices: int, chance: random.Random) -> None:
    users = [row[0] for row in database.execute("SELECT id FROM name WHERE text LIKE 'user%'")]
    (nobody,) = database.execute("SELECT id FROM name WHERE text = ''").fetchone()
    entry = database.execute("SELECT id FROM name WHERE text = 'fold'").fetchone()[0]
    end = to_microseconds(NOW)
    rows = []
    for day in range(days):
        for device in range(1, devices + 1):
            who = [(users[(device // 3 + day // 4) % USERS], nobody)]
            who += [(nobody, entry)] if (device + day) % 2 else []
            for user, run in who:
                begin = end - (days - day) * 86_400_000_000 + chance.randrange(50_000_000_000)
                ms = chance.randrange(36_000_000)
                used = [ms, ms, 0, 0, ms // 15, ms, ms * 40, ms * 300, 99, 70_000]
                rows.append([device, user, run, "", begin, begin + ms * 1000, 10_000, *used])
    rows.sort(key=lambda row: row[4])
    names = [f'"{column.name}"' for column in tables.session.c if column.name != "id"]
    marks = ",".join("?" * len(names))
    database.executemany(f"INSERT INTO session ({','.join(names)}) VALUES ({marks})", rows)


def _events(database: sqlite3.Connection, days: int, nodes: int, chance: random.Random) -> None:
    datas = [
        pack(json.dumps({"gpu": "GPU", "index": one % 8, "state": "busy", "holders": [one] * 9}))
        for one in range(100)
    ]
    kinds = ("gpu",) * 40 + ("run",) * 20 + ("people",) * 5 + ("problem",)
    step = 86_400_000_000 * days // (days * 4 * nodes * GPUS)
    begin, boot = to_microseconds(NOW) - days * 86_400_000_000, 1
    node_of = {row[0]: row[1] for row in database.execute("SELECT id, node FROM device")}

    def rows() -> Iterator[tuple[Any, ...]]:
        for number in range(days * 4 * nodes * GPUS):
            device, at = chance.randrange(nodes * GPUS) + 1, begin + number * step
            kind = chance.choice(kinds)
            data = chance.choice(datas)
            stream = (device - 1) // GPUS + 1
            yield node_of[device], stream, number, kind, device, at, boot, at + 50_000, data

    database.executemany(
        "INSERT INTO event (node, stream, sequence, kind, device, at, boot, received_at, data) "
        "VALUES (?,?,?,?,?,?,?,?,?)",
        rows(),
    )


def _runs(database: sqlite3.Connection, days: int, nodes: int, chance: random.Random) -> None:
    begin = to_microseconds(NOW) - days * 86_400_000_000
    numbers = dict(database.execute("SELECT text, id FROM name"))
    rows = []
    for number in range(days * nodes * GPUS // 2):
        node = chance.randrange(nodes)
        first = begin + number * 86_400_000_000 * 2 // (nodes * GPUS)
        ended = first + chance.randrange(36_000_000_000)
        is_evicted = chance.random() < 0.6
        stages = (
            [chance.expovariate(300), chance.expovariate(1), chance.expovariate(2)]
            if is_evicted
            else [None] * 3
        )
        state = "evicted" if is_evicted else chance.choice(("succeeded", "failed", "cancelled"))
        rows.append(
            [
                numbers[f"n{node}"], f"{number:032x}", first, ended, "fold",
                json.dumps([f"GPU-n{node}-{chance.randrange(GPUS)}"]), "nobody", state, True,
                f"{state}: user1 is active at pts/3", first, ended,
                "person" if is_evicted else None,
                "user1 is active at pts/3" if is_evicted else None,
                0, None, *stages, sum(stages) if is_evicted else None, False,
            ]
        )  # fmt: skip
    marks = ",".join("?" * len(rows[0]))
    database.executemany(f"INSERT INTO run VALUES ({marks})", rows)


def _samples(database: sqlite3.Connection, nodes: int, chance: random.Random) -> None:
    numbers = dict(database.execute("SELECT text, id FROM name"))
    gpus = dict(database.execute("SELECT gpu, id FROM device"))
    rows = []
    for minute in range(2 * 1440):
        begin = NOW - timedelta(days=2) + timedelta(minutes=minute)
        for node in range(min(4, nodes)):
            mine = [
                {
                    "gpu": f"GPU-n{node}-{gpu}",
                    "index": gpu,
                    "state": "busy",
                    "at": begin + timedelta(seconds=10 * place, microseconds=gpu * 200),
                    "seconds": 10.0,
                    "utilization_percent": chance.randrange(100),
                    "memory_utilization_percent": chance.randrange(60),
                    "memory_used_bytes": 2**36,
                    "temperature_celsius": 66,
                    "power_watts": 300 + chance.randrange(9999) / 1000,
                    "energy_joules": 3000.0 * minute,
                    "sm_clock_mhz": 1900,
                    "fan_percent": None,
                    "energy_used_joules": 3000 + chance.randrange(9999) / 1000,
                    "users": [{"user": "user1", "processes": 1, "memory_used_bytes": 2**36}],
                }
                for place in range(1, 7)
                for gpu in range(GPUS)
            ]
            for slot, part in samples.by_slot(mine).items():
                data = pack(samples.written(part, gpus))
                number = int(slot.timestamp()) // 300
                rows.append((number, numbers[f"n{node}"], node + 1, minute, data))
    database.executemany(
        "INSERT INTO sample (slot, node, stream, sequence, data) VALUES (?,?,?,?,?)", rows
    )


async def measure(directory: Path, nodes: int) -> bool:
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
            worst = 0.0
            rows = 0
            for _ in range(TRIALS):
                query = HistoryQuery.model_validate(
                    {"id": "q", "client": "bench", "expires_at": NOW, "limit": 1000} | wanted
                )
                before = time.perf_counter()
                answer = await answers.answer(store.read, query, known, NOW)
                worst = max(worst, time.perf_counter() - before)
                rows = len(answer.rows)
            met &= figure(f"{title} ({rows} rows)", worst * 1000, "ms", GOAL_MS)
    return met


async def main(nodes: int, days: int) -> bool:
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
    print(f"the slowest of {TRIALS} times, first page of 1000 rows at most:")
    return await measure(directory, nodes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    sys.exit(not asyncio.run(main(given.nodes, given.days)))
