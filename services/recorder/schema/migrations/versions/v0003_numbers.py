"""Numbers in place of names, whole numbers in place of fractions, samples by the minute.

Everything is kept. What was summed by days of UTC stays so; from now on it is the time zone's.
Column by column this says what the tables were and became; it does not change with the code.
"""

# ruff: noqa: S608 - the names of tables and columns are our own
from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from services.recorder.values import samples
from services.recorder.values.columns import from_microseconds
from services.recorder.values.packing import pack

revision = "0003"
down_revision = "0002"

_STATES = ("idle", "busy", "held", "ours", "dirty", "lost", "unknown")
_GAUGES = {
    "utilization_percent": "",
    "memory_utilization_percent": "",
    "memory_used_bytes": " / 1048576",
    "temperature_celsius": "",
    "power_watts": " * 10",
    "sm_clock_mhz": "",
    "fan_percent": "",
}
_USED = {
    "seconds": " * 1000",
    "busy_seconds": " * 1000",
    "held_seconds": " * 1000",
    "shared_seconds": " * 1000",
    "utilization_sum": "",
    "utilization_seconds": " * 1000",
    "memory_byte_seconds": " / 1048576",
    "energy_joules": " * 1000",
}
_LARGEST = {"utilization_max": "", "memory_max_bytes": " / 1048576"}
_STAGES = ("noticed_to_term", "term_to_exit", "exit_to_clear")
_SLOT = 300_000_000
"""Five minutes in microseconds."""
_BATCH = 1000
_REPLACED = {
    "event": ("ix_event_at_id", "ix_event_kind_at_id", "ix_event_node_at_id"),
    "run": ("ix_run_first_at_node_run",),
    "stream": (),
    "gpu_sample": ("ix_gpu_sample_at_node_gpu",),
    "sample_5m": ("ix_sample_5m_is_sealed_start",),
    "sample_1h": ("ix_sample_1h_is_sealed_start",),
    "sample_1d": ("ix_sample_1d_is_sealed_start",),
    "use_1h": ("ix_use_1h_start",),
    "use_1d": ("ix_use_1d_start",),
    "dirty": ("ix_dirty_node_gpu_start",),
    "stretch": (),
    "session": (
        "ix_session_node_gpu_end",
        "ix_session_begin_id",
        "ix_session_user_begin_id",
    ),
}
_UNIQUE = {"event": "uq_event_node_stream_sequence"}


def upgrade() -> None:
    """Make the tables anew, and bring over what was there."""
    _finish_roll_ups()
    for table, indexes in _REPLACED.items():
        for index in indexes:
            op.drop_index(index, table)
        if op.get_bind().dialect.name == "postgresql":
            # Names of constraints are those of indexes there.
            op.drop_constraint(_UNIQUE.get(table, f"pk_{table}"), table)
            if table in _UNIQUE:
                op.drop_constraint(f"pk_{table}", table)
        op.rename_table(table, f"old_{table}")
    _make_tables()
    _bring_names()
    _bring_events()
    _bring_runs()
    _bring_samples()
    for tier in ("5m", "1h", "1d"):
        _bring_rolled(tier)
    _sum_months()
    _bring_use()
    had_some = op.get_bind().execute(sa.text("SELECT count(*) FROM sample_5m")).scalar()
    if had_some:
        op.execute("INSERT INTO time_zone (since, name) VALUES (0, 'UTC')")
    for table in _REPLACED:
        op.drop_table(f"old_{table}")


def _make_tables() -> None:
    op.create_table("name", _id(), _text("text"), _pk("name", "id"), _uq("name", "text"))
    op.create_table(
        "device",
        _id(),
        *_whole("node"),
        _text("gpu"),
        *_maybe("index", "model"),
        sa.Column("parent", sa.Text()),
        *_whole("first_at", "last_at"),
        _pk("device", "id"),
        _uq("device", "node", "gpu"),
    )
    op.create_table(
        "stream",
        _id(),
        *_whole("node"),
        _text("stream"),
        *_whole("watermark", "gaps", "updated_at"),
        _pk("stream", "id"),
        _uq("stream", "node", "stream"),
    )
    op.create_table(
        "event",
        _id(),
        *_whole("node", "stream", "sequence"),
        _text("kind"),
        *_maybe("device"),
        *_whole("at", "boot", "received_at"),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        _pk("event", "id"),
        _uq("event", "stream", "sequence"),
    )
    for columns in (["at", "id"], ["node", "at", "id"], ["kind", "at", "id"]):
        op.create_index(op.f(f"ix_event_{'_'.join(columns)}"), "event", columns)
    op.create_table(
        "run",
        *_whole("node"),
        _text("run"),
        *_whole("first_at", "at"),
        *map(_text, ("entry", "gpus")),
        sa.Column("user", sa.Text()),
        _text("state"),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        _text("reason"),
        *_maybe("started_at", "ended_at"),
        sa.Column("cause_kind", sa.Text()),
        sa.Column("cause_text", sa.Text()),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("exit_signal", sa.Integer()),
        sa.Column("noticed_to_term_seconds", sa.Double()),
        sa.Column("term_to_exit_seconds", sa.Double()),
        sa.Column("exit_to_clear_seconds", sa.Double()),
        sa.Column("noticed_to_clear_seconds", sa.Double()),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        _pk("run", "node", "run"),
    )
    op.create_index(op.f("ix_run_first_at_node_run"), "run", ["first_at", "node", "run"])
    evicted = sa.text("noticed_to_term_seconds IS NOT NULL")
    op.create_index(
        "ix_run_evicted",
        "run",
        ["ended_at", "node", *(f"{stage}_seconds" for stage in _STAGES)],
        sqlite_where=evicted,
        postgresql_where=evicted,
    )
    op.create_table(
        "sample",
        _id(),
        *_whole("slot", "node", "stream", "sequence"),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        _pk("sample", "id"),
        _uq("sample", "slot", "node", "stream", "sequence"),
    )
    op.create_table("time_zone", *_whole("since"), _text("name"), _pk("time_zone", "since"))
    op.create_table("sealed", *_whole("until"), _pk("sealed", "until"))
    op.create_table(
        "dirty", *_whole("slot", "node"), _pk("dirty", "slot", "node"), sqlite_with_rowid=False
    )
    for tier in ("5m", "1h", "1d", "1mo"):
        table = f"sample_{tier}"
        op.create_table(
            table,
            *_whole("device", "start", "samples"),
            *_whole(*(f"{state}_seconds" for state in _STATES), "energy_joules"),
            *_maybe("energy_seconds"),
            *(
                sa.Column(f"{gauge}_{what}", sa.BigInteger(), nullable=what != "sum")
                for gauge in _GAUGES
                for what in ("sum", "seconds", "min", "max")
            ),
            _pk(table, "device", "start"),
            sqlite_with_rowid=False,
        )
    who = ("user", "entry")
    for table, key in (("use_1h", ("start", *who)), ("use_1d", ("device", "start", *who))):
        op.create_table(
            table,
            *_whole(*key, *_USED),
            *_maybe(*_LARGEST),
            _pk(table, *key),
            sqlite_with_rowid=False,
        )
        op.create_index(op.f(f"ix_{table}_user_start"), table, ["user", "start"])
    op.create_table(
        "stretch",
        *_whole("start", "device", *who),
        _text("container"),
        *_whole("begin", "end", "interval", *_USED),
        *_maybe(*_LARGEST),
        _pk("stretch", "start", "device", *who, "container", "begin"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session",
        _id(),
        *_whole("device", *who),
        _text("container"),
        *_whole("begin", "end", "interval", *_USED),
        *_maybe(*_LARGEST),
        _pk("session", "id"),
    )
    for columns in (["device", "end"], ["begin", "id"], ["user", "begin", "id"]):
        op.create_index(op.f(f"ix_session_{'_'.join(columns)}"), "session", columns)


def _finish_roll_ups() -> None:
    """Make the hours and days anew that waited for it; marks of five minutes stay."""
    bind = op.get_bind()
    for tier, below, width, above in (
        ("1h", "5m", 12, ("1d", 24 * 12)),
        ("1d", "1h", 24 * 12, None),
    ):
        table = sa.Table(f"sample_{tier}", sa.MetaData(), autoload_with=bind)
        lower = sa.Table(f"sample_{below}", sa.MetaData(), autoload_with=bind)
        dirty = sa.Table("dirty", sa.MetaData(), autoload_with=bind)
        for mark in bind.execute(sa.select(dirty).where(dirty.c.tier == tier)).all():
            where = {"node": mark.node, "gpu": mark.gpu}
            mine = sa.and_(
                *(table.c[name] == value for name, value in (where | {"start": mark.start}).items())
            )
            within = sa.and_(
                *(lower.c[name] == value for name, value in where.items()),
                lower.c.start >= mark.start,
                lower.c.start < mark.start + width * _SLOT,
            )
            own = bind.execute(sa.select(table).where(mine)).mappings().first()
            parts = list(bind.execute(sa.select(lower).where(within)).mappings())
            if own is not None and own["is_sealed"]:
                parts.append(own)
            if not parts:
                continue
            total: dict[str, Any] = where | {"start": mark.start}
            total["is_sealed"] = own is not None and bool(own["is_sealed"])
            for name in {*table.c.keys()} - total.keys():
                known = [part[name] for part in parts if part[name] is not None]
                ends = name.rpartition("_")[2]
                of = {"min": min, "max": max}.get(ends, sum)
                total[name] = of(known) if known else None
            bind.execute(sa.delete(table).where(mine))
            bind.execute(sa.insert(table).values(total))
            if above is not None:
                start = mark.start // (above[1] * _SLOT) * above[1] * _SLOT
                key = where | {"tier": above[0], "start": start}
                same = sa.and_(*(dirty.c[name] == value for name, value in key.items()))
                if bind.execute(sa.select(dirty).where(same)).first() is None:
                    bind.execute(sa.insert(dirty).values(key))


def _bring_names() -> None:
    named = ("event", "run", "stream", "gpu_sample", "sample_5m", "sample_1h", "sample_1d")
    used = ("use_1h", "use_1d", "stretch", "session")
    texts = [f"SELECT node AS text FROM old_{table}" for table in (*named, *used)]
    texts += ["SELECT boot_id FROM old_event", "SELECT ''"]
    texts += [f'SELECT "{who}" FROM old_{table}' for table in used for who in ("user", "entry")]
    op.execute(f"INSERT INTO name (text) {' UNION '.join(texts)}")
    with_gpus = ("gpu_sample", "sample_5m", "sample_1h", "sample_1d", *used)
    gpus = [f"SELECT node, gpu FROM old_{table}" for table in with_gpus]
    gpus.append("SELECT node, gpu FROM old_event WHERE gpu IS NOT NULL")
    day = "(SELECT {}(start) FROM old_sample_1d o WHERE o.node = g.node AND o.gpu = g.gpu)"
    now = int(datetime.now(UTC).timestamp()) * 1_000_000
    op.execute(
        "INSERT INTO device (node, gpu, first_at, last_at) "
        f"SELECT n.id, g.gpu, coalesce({day.format('min')}, {now}), "
        f"coalesce({day.format('max')}, {now}) "
        f"FROM ({' UNION '.join(gpus)}) g JOIN name n ON n.text = g.node"
    )
    op.execute(
        "INSERT INTO stream (node, stream, watermark, gaps, updated_at) "
        "SELECT n.id, o.stream, o.watermark, o.gaps, o.updated_at "
        "FROM old_stream o JOIN name n ON n.text = o.node"
    )


def _bring_events() -> None:
    wanted = (
        "SELECT e.id AS old, n.id AS node, s.id AS stream, e.sequence, e.kind, d.id AS device, "
        "e.at, b.id AS boot, e.received_at, e.data FROM old_event e JOIN name n ON n.text = e.node "
        "JOIN stream s ON s.node = n.id AND s.stream = e.stream JOIN name b ON b.text = e.boot_id "
        "LEFT JOIN device d ON d.node = n.id AND d.gpu = e.gpu "
        # Of samples an event said no more than that they came.
        "WHERE e.id > :after AND NOT (e.kind = 'samples' AND e.data = '{}') "
        "ORDER BY e.id LIMIT :batch"
    )
    insert = sa.text(
        "INSERT INTO event (node, stream, sequence, kind, device, at, boot, received_at, data) "
        "VALUES (:node, :stream, :sequence, :kind, :device, :at, :boot, :received_at, :data)"
    )
    for rows in _pages(wanted):
        op.get_bind().execute(insert, [{**row, "data": pack(row["data"])} for row in rows])


def _bring_runs() -> None:
    same = (
        'run, first_at, at, entry, gpus, "user", state, is_final, reason, started_at, ended_at, '
        "cause_kind, cause_text, exit_code, exit_signal, noticed_to_term_seconds, "
        "term_to_exit_seconds, exit_to_clear_seconds, noticed_to_clear_seconds, simulated"
    )
    op.execute(
        f"INSERT INTO run (node, {same}) "
        f"SELECT n.id, {same} FROM old_run o JOIN name n ON n.text = o.node"
    )


def _bring_samples() -> None:
    """Bring over samples that their five minutes can be made of again; the others were counted."""
    bind = op.get_bind()
    sealed = bind.execute(sa.text("SELECT max(start) FROM old_sample_5m WHERE is_sealed")).scalar()
    until = 0 if sealed is None else int(sealed) // _SLOT + 1
    if until:
        op.execute(f"INSERT INTO sealed (until) VALUES ({until})")
    # What came late for five minutes that are sealed is all new. Where they are not, though later
    # ones are, old and new cannot be told apart: there the row stays as it is.
    open_ = (
        "(at - 1) / 300000000 >= :until OR (EXISTS (SELECT 1 FROM old_dirty d WHERE d.tier = '5m' "
        "AND d.node = s.node AND d.gpu = s.gpu AND d.start = (s.at - 1) / 300000000 * 300000000) "
        "AND NOT EXISTS (SELECT 1 FROM old_sample_5m o WHERE NOT o.is_sealed AND o.node = s.node "
        "AND o.gpu = s.gpu AND o.start = (s.at - 1) / 300000000 * 300000000))"
    )
    nodes = list(bind.execute(sa.text("SELECT id, text FROM name")))
    for number, node in nodes:
        found = bind.execute(
            sa.text(
                f"SELECT * FROM old_gpu_sample s WHERE node = :node AND ({open_}) ORDER BY gpu, at"
            ),
            {"node": node, "until": until},
        ).mappings()
        rows = [
            dict(row)
            | {
                "index": None,
                "at": from_microseconds(row["at"]),
                "users": None if row["users"] is None else json.loads(row["users"]),
            }
            for row in found
        ]
        wanted = sa.text("SELECT gpu, id FROM device WHERE node = :node")
        gpus = {row.gpu: row.id for row in bind.execute(wanted, {"node": number})}
        chunks = [
            {
                "slot": int(slot.timestamp()) // 300,
                "node": number,
                # Of a stream that never was: they have no event of their own any more.
                "stream": 0,
                "sequence": 0,
                "data": pack(samples.written(mine, gpus)),
            }
            for slot, mine in samples.by_slot(rows).items()
        ]
        if chunks:
            bind.execute(
                sa.text(
                    "INSERT INTO sample (slot, node, stream, sequence, data) "
                    "VALUES (:slot, :node, :stream, :sequence, :data)"
                ),
                chunks,
            )
    op.execute(
        "INSERT INTO dirty (slot, node) SELECT DISTINCT s.slot, s.node FROM sample s "
        "JOIN name n ON n.id = s.node JOIN old_dirty o ON o.node = n.text "
        "AND o.start = s.slot * 300000000 WHERE o.tier = '5m'"
    )


def _bring_rolled(tier: str) -> None:
    seconds = _rounded("o.seconds * 1000")
    columns = {"samples": "o.samples"}
    columns |= {f"{state}_seconds": _rounded(f"o.{state}_seconds * 1000") for state in _STATES}
    columns["energy_joules"] = _rounded("o.energy_joules * 1000")
    columns["energy_seconds"] = f"nullif({_rounded('o.energy_seconds * 1000')}, {seconds})"
    for gauge, parts in _GAUGES.items():
        columns |= {
            f"{gauge}_{what}": _rounded(f"o.{gauge}_{what}{parts}")
            for what in ("sum", "min", "max")
        }
        known = _rounded(f"o.{gauge}_seconds * 1000")
        columns[f"{gauge}_seconds"] = f"nullif({known}, {seconds})"
    table = f"sample_{tier}"
    op.execute(
        f"INSERT INTO {table} (device, start, {', '.join(columns)}) "
        f"SELECT d.id, o.start / 300000000, {', '.join(columns.values())} "
        f"FROM old_{table} o JOIN name n ON n.text = o.node "
        "JOIN device d ON d.node = n.id AND d.gpu = o.gpu"
    )
    _add_up(table, table, "0", "start", "device > 0")


def _sum_months() -> None:
    first, last = (
        op.get_bind().execute(sa.text("SELECT min(start), max(start) FROM sample_1d")).one()
    )
    if first is None:
        return
    month = from_microseconds(first * _SLOT).replace(day=1)
    while (start := int(month.timestamp()) // 300) <= last:
        later = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        within = f"start >= {start} AND start < {int(later.timestamp()) // 300}"
        _add_up("sample_1d", "sample_1mo", "device", str(start), within)
        month = later


def _add_up(source: str, target: str, device: str, start: str, where: str) -> None:
    """Write the sums of rows of one roll-up by device and beginning."""
    seconds = " + ".join(f"{state}_seconds" for state in _STATES)
    columns = {
        name: f"sum({name})"
        for name in ("samples", *(f"{state}_seconds" for state in _STATES), "energy_joules")
    }
    for name in ("energy", *_GAUGES):
        known = f"sum(coalesce({name}_seconds, {seconds}))"
        columns[f"{name}_seconds"] = f"nullif({known}, sum({seconds}))"
    for gauge in _GAUGES:
        columns |= {f"{gauge}_{what}": f"{what}({gauge}_{what})" for what in ("sum", "min", "max")}
    key = ", ".join(name for name in ("device", "start") if name in (device, start))
    op.execute(
        f"INSERT INTO {target} (device, start, {', '.join(columns)}) "
        f"SELECT {device}, {start}, {', '.join(columns.values())} "
        f"FROM {source} WHERE {where} GROUP BY {key}"
    )


def _bring_use() -> None:
    names = (
        "JOIN name n ON n.text = o.node JOIN device d ON d.node = n.id AND d.gpu = o.gpu "
        'JOIN name u ON u.text = o."user" JOIN name e ON e.text = o.entry'
    )
    used = {name: _rounded(f"o.{name}{parts}") for name, parts in (_USED | _LARGEST).items()}
    summed = {name: f"{'sum' if name in _USED else 'max'}({value})" for name, value in used.items()}
    for table, key in (
        ("use_1h", {"start": "o.start / 300000000"}),
        ("use_1d", {"device": "d.id", "start": "o.start / 300000000"}),
        ("use_1d", {"device": None, "start": "o.start / 300000000"}),
    ):
        by = key | {'"user"': "u.id", "entry": "e.id"}
        values = ", ".join(value or "0" for value in by.values())
        op.execute(
            f"INSERT INTO {table} ({', '.join([*by, *summed])}) "
            f"SELECT {values}, {', '.join(summed.values())} FROM old_{table} o {names} "
            f"GROUP BY {', '.join(value for value in by.values() if value)}"
        )
    columns = {"device": "d.id", '"user"': "u.id", "entry": "e.id", "container": "o.container"}
    columns |= {"begin": "o.begin", '"end"': 'o."end"', "interval": _rounded("o.interval * 1000")}
    for table, more in (("session", {}), ("stretch", {"start": "o.start / 300000000"})):
        every = columns | more | used
        order = " ORDER BY o.id" if table == "session" else ""
        op.execute(
            f"INSERT INTO {table} ({', '.join(_quoted(name) for name in every)}) "
            f"SELECT {', '.join(every.values())} FROM old_{table} o {names}{order}"
        )
    op.execute("DELETE FROM stretch WHERE start < (SELECT until FROM sealed)")


def _pages(statement: str) -> Iterator[list[Any]]:
    after = 0
    while True:
        found = op.get_bind().execute(sa.text(statement), {"after": after, "batch": _BATCH})
        rows = [dict(row) for row in found.mappings()]
        if not rows:
            return
        after = rows[-1]["old"]
        yield rows


def _rounded(value: str) -> str:
    return f"CAST(round({value}) AS BIGINT)"


def _quoted(name: str) -> str:
    return '"interval"' if name == "interval" else name


def _id() -> sa.Column[int]:
    return sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        autoincrement=True,
        nullable=False,
    )


def _whole(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False) for name in names]


def _maybe(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger()) for name in names]


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _pk(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _uq(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))
