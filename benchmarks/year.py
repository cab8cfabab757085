"""A generated year of a fleet, straight into the tables; for `benchmarks.history`."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.recorder.index.mentions import Sort, is_of, mentions_of
from services.recorder.schema import tables
from services.recorder.store import Store
from services.recorder.values import hours, rollup, samples, use
from services.recorder.values.columns import from_microseconds, to_microseconds
from services.recorder.values.packing import pack

NOW = datetime(2026, 7, 1, tzinfo=UTC)
GPUS, USERS, ENTRIES = 8, 60, ("fold", "fishtest")
MODELS = ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA L40S", "Tesla V100-SXM2-32GB")
HOUR, DAY = 12, 288
"""In five minutes."""
BATCH = 10_000
RARE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gpu", {"gpu": "GPU", "state": "held", "holders": [{"user": "zoe", "pid": 7}]}),
    ("gpu", {"gpu": "GPU", "state": "lost", "holders": []}),
    ("run", {"run": "r", "entry": "protein", "state": "lost", "user": "nobody"}),
    ("overflow", {"dropped": 17}),
)
"""What was said a few times, long ago."""
RARELY = range(20_000, 20_040)
"""The events that say it."""


async def fill(directory: Path, nodes: int, days: int) -> None:
    """Make the database."""
    path = directory / "gleaner.sqlite"
    async with Store(f"sqlite:///{path}"):
        pass
    database = sqlite3.connect(path, isolation_level=None)
    # Nobody else sees it yet.
    database.execute("PRAGMA journal_mode=OFF")
    database.execute("PRAGMA synchronous=OFF")
    chance = random.Random(1)
    database.execute("BEGIN")
    _names(database, nodes)
    last = int(NOW.timestamp()) // 300
    # Hours lie packed; before that they are rows as the others.
    database.execute("CREATE TEMP TABLE hour AS SELECT * FROM sample_1d WHERE false")
    _rolled(database, "hour", last - days * DAY, last, HOUR)
    _rolled(database, "sample_5m", last - 14 * DAY, last, 1)
    _sums(database)
    _pack(database)
    _hosts(database, last, days)
    _use(database, last - days * DAY, days, nodes * GPUS, chance)
    _sessions(database, days, nodes * GPUS, chance)
    _events(database, days, nodes, chance)
    _runs(database, days, nodes, chance)
    _samples(database, nodes, chance)
    _watermarks(database)
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
    names = [column.name for column in tables.sample_1d.c if not column.primary_key]
    of = {"min": "min", "max": "max"}
    sums = ", ".join(f"{of.get(name.rpartition('_')[2], 'sum')}({name})" for name in names)
    listed = ", ".join(names)
    starts = database.execute("SELECT DISTINCT start / 288 * 288 FROM hour").fetchall()
    months = [
        (start, int(from_microseconds(start * 300_000_000).replace(day=1).timestamp()) // 300)
        for (start,) in starts
    ]
    database.execute("CREATE TEMP TABLE month (day INTEGER PRIMARY KEY, start INTEGER)")
    database.executemany("INSERT INTO month VALUES (?, ?)", months)
    database.execute(
        f"INSERT INTO sample_1d (device, start, {listed}) "
        f"SELECT device, start / 288 * 288, {sums} FROM hour GROUP BY 1, 2 ORDER BY 2, 1"
    )
    database.execute(
        f"INSERT INTO sample_1mo (device, start, {listed}) SELECT device, m.start, {sums} "
        "FROM sample_1d s JOIN month m ON m.day = s.start GROUP BY 1, 2 ORDER BY 2, 1"
    )
    for table in ("sample_5m", "hour", "sample_1d", "sample_1mo"):
        database.execute(
            f"INSERT INTO {table} (device, start, {listed}) SELECT 0, start, {sums} "
            f"FROM {table} GROUP BY start"
        )


def _pack(database: sqlite3.Connection) -> None:
    names = [column.name for column in tables.sample_1d.c]
    found = database.execute(f"SELECT {', '.join(names)} FROM hour ORDER BY device, start")
    rows = (dict(zip(names, row, strict=True)) for row in found)
    database.executemany("INSERT INTO sample_1h VALUES (?, ?, ?)", _by_time(hours.packed(rows)))
    database.execute("DROP TABLE hour")


def _by_time(days: Iterator[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Return them as they come in: in any other order pages would be left half empty."""
    return sorted(days, key=lambda day: (day[1], day[0]))


def _hosts(database: sqlite3.Connection, last: int, days: int) -> None:
    database.execute("CREATE TEMP TABLE host_hour AS SELECT * FROM host_1d WHERE false")
    for table, kept, width in (
        ("host_5m", 14, 1),
        ("host_hour", days, HOUR),
        ("host_1d", days, DAY),
    ):
        seconds = width * 300
        columns = {"samples": f"{width * 30}", "recorded_seconds": f"{seconds * 1000}"}
        for gauge, most in zip(
            rollup.HOST.gauges, (1000, 9000, 400_000, 10**8, 10**6, 900), strict=True
        ):
            value = f"{most} * (r % 97 + 3) / 100"
            columns |= {f"{gauge}_sum": f"{value} * {seconds}"}
            columns |= {f"{gauge}_min": f"{value} / 2", f"{gauge}_max": value}
        first = last // width * width - kept * DAY
        database.execute(
            f"INSERT INTO {table} (node, start, {', '.join(columns)}) "
            f"WITH RECURSIVE starts(s) AS (SELECT {first} UNION ALL SELECT s + {width} FROM starts "
            f"WHERE s + {width} < {last}), nodes(n) AS (SELECT DISTINCT node FROM device) "
            f"SELECT n, s, {', '.join(columns.values())} FROM "
            "(SELECT n, s, abs(random()) % 1000 AS r FROM nodes CROSS JOIN starts)"
        )
    names = [column.name for column in tables.host_1d.c]
    found = database.execute(f"SELECT {', '.join(names)} FROM host_hour ORDER BY node, start")
    rows = (dict(zip(names, row, strict=True)) for row in found)
    packed = _by_time(hours.packed(rows, hours.OF_HOST, "node"))
    database.executemany("INSERT INTO host_1h VALUES (?, ?, ?)", packed)
    database.execute("DROP TABLE host_hour")


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
            for (device, start), mine in sorted(by_day.items(), key=lambda one: one[0][::-1])
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
    said = [(kind, pack(json.dumps(data)), mentions_of(kind, data)) for kind, data in _said()]
    rare = [(kind, pack(json.dumps(data)), mentions_of(kind, data)) for kind, data in RARE]
    texts = {text for _, _, one in (*said, *rare) for text in one.texts}
    database.executemany("INSERT OR IGNORE INTO name (text) VALUES (?)", ((one,) for one in texts))
    numbers = dict(database.execute("SELECT text, id FROM name"))
    node_of = {row[0]: row[1] for row in database.execute("SELECT id, node FROM device")}
    step = 86_400_000_000 * days // (days * 4 * nodes * GPUS)
    begin, boot = to_microseconds(NOW) - days * 86_400_000_000, 1
    rows, lists = list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    for number in range(days * 4 * nodes * GPUS):
        device, at = chance.randrange(nodes * GPUS) + 1, begin + number * step
        kind, data, mentions = chance.choice(said)
        if number in RARELY:
            kind, data, mentions = rare[number % len(rare)]
        stream, node, event = (device - 1) // GPUS + 1, node_of[device], number + 1
        rows.append((event, node, stream, number, kind, device, at, boot, at + 50_000, data))
        what = numbers[mentions.what]
        lists += [
            (one, at, event, what, device if is_of(Sort.NODE, one) else None)
            for one in mentions.lists(node, numbers)
        ]
        if len(rows) == BATCH:
            _write_events(database, rows, lists)
    _write_events(database, rows, lists)


def _write_events(
    database: sqlite3.Connection, rows: list[tuple[Any, ...]], lists: list[tuple[Any, ...]]
) -> None:
    database.executemany(
        "INSERT INTO event (id, node, stream, sequence, kind, device, at, boot, received_at, data) "
        "VALUES (?,?,?,?,?,?,?,?,?,?)",
        rows,
    )
    database.executemany("INSERT INTO mention VALUES (?,?,?,?,?)", lists)
    rows.clear()
    lists.clear()


def _said() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what events tell, each as often as another."""
    for number in range(USERS):
        user = f"user{number}"
        for state in ("busy", "held", "idle", "ours"):
            run, entry = (f"{7:032x}", ENTRIES[number % 2]) if state == "ours" else (None, None)
            holder = {"pid": 4711, "user": "nobody" if run else user, "run": run, "entry": entry}
            holders = [] if state == "idle" else [holder | {"command": "python train.py"}]
            why = [f"{user} computes (pid 4711, python)"]
            yield (
                "gpu",
                {"gpu": "GPU", "index": 1, "state": state, "reasons": why, "holders": holders},
            )
        yield "people", {"active": True, "reason": f"{user} is active at pts/3"}
        for state in ("starting", "evicted"):
            yield (
                "run",
                {"run": f"{7:032x}", "entry": "fold", "state": state, "user": "nobody"}
                | {"gpus": ["GPU"], "reason": f"{state}: {user} computes (pid 4711, python)"},
            )
    for what in ("xid", "ecc", "driver"):
        yield "problem", {"what": what, "text": "the driver answers again"}


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
            [int(chance.expovariate(rate) * 1e6) for rate in (300, 1, 2)]
            if is_evicted
            else [None] * 3
        )
        state = "evicted" if is_evicted else chance.choice(("succeeded", "failed", "cancelled"))
        rows.append(
            [
                numbers[f"n{node}"], f"{number:032x}", first, ended,
                "protein" if number in RARELY[:4] else "fold",
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


def _watermarks(database: sqlite3.Connection) -> None:
    # What lies beyond a watermark the recorder knows by heart: of a million events, 200 MB.
    database.execute(
        "UPDATE stream SET watermark = (SELECT max(sequence) FROM "
        "(SELECT sequence FROM event UNION ALL SELECT sequence FROM sample))"
    )
