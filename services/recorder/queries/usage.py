"""Use by whatever is asked: GPU-hours of GPUs by their states, of people and entries by their own.

Who used a GPU is kept by hours for all GPUs together, and by days for each. The hours of one node
or GPU, also those before the first and after the last whole day, are those of its sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Table,
    func,
    select,
    type_coerce,
    union_all,
)

from services.recorder.accounts import hour_rows
from services.recorder.queries import hour_usage, presence
from services.recorder.queries.history import people
from services.recorder.queries.questions import Known, Question, Shown
from services.recorder.schema import tables
from services.recorder.schema.reading import Read
from services.recorder.values import use
from services.recorder.values.columns import Slot
from services.recorder.values.rollup import DAY, FIVE_MINUTES, HOUR, MONTH, STATES, Tier
from services.recorder.values.spans import Part, of_one_offset, parts
from services.recorder.values.units import parts_of

_HOUR = 3600.0
_STATE_SUMS = (
    "seconds",
    *(f"{state}_seconds" for state in STATES),
    "energy_joules",
    "utilization_percent_sum",
    "utilization_percent_seconds",
    "memory_used_bytes_sum",
)
_STATE_LIMITS = ("utilization_percent_max", "memory_used_bytes_max")
_OF_DEVICE = ("node", "gpu", "model")
_OF_CLOCK = ("hour", "weekday_hour")
_slot = Slot()
_Totals = dict[str, Any]


async def rows(read: Read, question: Question, known: Known) -> list[Shown]:
    """Return who or what used how much."""
    query = question.query
    by = query.by or "user"
    of_people = by in ("user", "group") or query.user is not None
    found = await (_of_people if of_people else _of_states)(read, question, known, by)
    sums: dict[tuple[Any, ...], _Totals] = {}
    shown: dict[tuple[Any, ...], Shown] = {}
    if by == "group":
        users = {known.names.text.get(total["user"], "") for total in found}
        await known.groups.learn(users | {known.shown(user) for user in users})
    for total in found:
        name = _name(by, total, known)
        key = tuple(name.values())
        shown[key] = name
        sums[key] = _together(sums[key], total) if key in sums else total
    scaled = {key: _scaled(total) for key, total in sums.items()}
    return [shown[key] | _hours(scaled[key]) for key in _in_order(by, scaled)]


async def _of_states(read: Read, question: Question, known: Known, by: str) -> list[_Totals]:
    query = question.query
    devices = known.names.devices_of(query.node, query.gpu)
    is_all = query.node is None and query.gpu is None
    finer = {"day": (HOUR, DAY), "week": (HOUR, DAY), "hour": (HOUR,), "weekday_hour": (HOUR,)}
    wanted = [tables.EVERY] if is_all and by not in _OF_DEVICE else devices
    pieces, found = list[Any](), list[_Totals]()
    for part, offset in _parts(question, known, by, finer.get(by, (HOUR, DAY, MONTH))):
        if part.tier is HOUR:
            mine = await hour_rows.between(read, tables.GPUS, wanted, part.begin, part.end)
            found += _of_hours(mine, by, offset)
            continue
        table = tables.GPUS.rows[part.tier]
        keys = {"device": table.c.device} if by in _OF_DEVICE else _start(by, table, offset)
        total = {name: table.c[name] for name in _STATE_SUMS if name in table.c}
        total |= {
            name: tables.seconds_of(table, name)
            for name in ("seconds", "utilization_percent_seconds")
        }
        statement = _summed(part, table, keys, total, _STATE_LIMITS)
        pieces.append(statement.where(_is_one_of(table, wanted, is_all=is_all)))
    return found + await _read_all(read, pieces)


def _of_hours(found: Iterable[hour_rows.Stretch], by: str, offset: timedelta) -> list[_Totals]:
    """Return what packed hours come to, as they are stored."""
    if by in _OF_DEVICE:
        return hour_usage.by_device(found)
    if by in _OF_CLOCK:
        return hour_usage.by_clock(found, lambda start: int(_clock(start, offset)))
    return hour_usage.by_start(found)


async def _of_people(read: Read, question: Question, known: Known, by: str) -> list[_Totals]:
    query = question.query
    of_some = by in _OF_DEVICE or query.node is not None or query.gpu is not None
    users = _numbers(query.user, known)
    pieces, found = [], list[_Totals]()
    for part, offset in _parts(question, known, by, (HOUR,) if by in _OF_CLOCK else (HOUR, DAY)):
        if of_some and part.tier is HOUR:
            found += await _of_sessions(read, question, known, by, part, offset)
            continue
        table = tables.use_1h if part.tier is HOUR else tables.use_1d
        keys = {"user": table.c.user, "entry": table.c.entry}
        if by in _OF_DEVICE:
            keys = {"device": tables.use_1d.c.device}
        elif by not in ("user", "group"):
            keys = _start(by, table, offset)
        total = {name: table.c[name] for name in use.SUMS}
        statement = _summed(part, table, keys, total, use.LIMITS)
        if users is not None:
            statement = statement.where(table.c.user.in_(users))
        if table is tables.use_1d:
            some = known.names.devices_of(query.node, query.gpu) if of_some else [tables.EVERY]
            is_all = query.node is None and query.gpu is None
            statement = statement.where(_is_one_of(table, some, is_all=is_all))
        pieces.append(statement)
    return found + await _read_all(read, pieces)


async def _of_sessions(
    read: Read, question: Question, known: Known, by: str, part: Part, offset: timedelta
) -> list[_Totals]:
    """Return what the sessions of some GPUs have within a part."""
    query = question.query
    is_all = query.node is None and query.gpu is None
    devices = None if is_all else known.names.devices_of(query.node, query.gpu)
    statement = presence.sessions_of(part, devices, _numbers(query.user, known))
    sessions = [row._asdict() for row in await read(statement)]
    if by in _OF_DEVICE or by in ("user", "group"):
        keys = ("device",) if by in _OF_DEVICE else ("user", "entry")
        return list(presence.spread(sessions, part, keys))
    name = "clock" if by in _OF_CLOCK else "start"

    def key_of(start: int) -> _Totals:
        return {name: _clock(start, offset) if by in _OF_CLOCK else start}

    return list(presence.spread_by_hour(sessions, part, known.local.hour_of, key_of))


def _numbers(user: str | None, known: Known) -> list[int] | None:
    if user is None:
        return None
    return [known.names.number.get(one, -1) for one in people(user, known.aliases)]


def _parts(
    question: Question, known: Known, by: str, tiers: tuple[Tier, ...]
) -> list[tuple[Part, timedelta]]:
    if tiers[0] is HOUR and question.now - question.since > known.retention.hours:
        # The hours at its beginning are gone.
        tiers = tiers[1:] or tiers
    found = parts(question.since, question.until, known.local, tiers)
    if by not in _OF_CLOCK:
        return [(part, timedelta()) for part in found]
    return [piece for part in found for piece in of_one_offset(part, known.local)]


def _start(by: str, table: Any, offset: timedelta) -> dict[str, Any]:
    """Return what rows are added up by: their beginning, or its hour of the local week."""
    start = type_coerce(table.c.start, BigInteger)
    if by not in _OF_CLOCK:
        return {"start": start}
    return {"clock": _clock(start, offset)}


def _clock(start: Any, offset: timedelta) -> Any:
    # Five minutes since a Monday; 1970 began on a Thursday.
    local = start + (offset // FIVE_MINUTES.width + 3 * 24 * 12)
    return local // 12 % (7 * 24)


def _summed(
    part: Part, table: Any, keys: dict[str, Any], total: dict[str, Any], limits: Sequence[str]
) -> Any:
    # As they are stored: what is read row by row is converted once it is added up.
    columns = [
        *(type_coerce(key, BigInteger).label(name) for name, key in keys.items()),
        *(
            type_coerce(func.sum(type_coerce(value, BigInteger)), BigInteger).label(name)
            for name, value in total.items()
        ),
        *(type_coerce(func.max(table.c[name]), BigInteger).label(name) for name in limits),
    ]
    statement = select(*columns)
    return statement.where(table.c.start >= part.begin, table.c.start < part.end).group_by(
        *keys.values()
    )


async def _read_all(read: Read, pieces: list[Any]) -> list[_Totals]:
    return [row._asdict() for row in await read(_union(pieces))] if pieces else []


def _is_one_of(table: Table, devices: list[int], *, is_all: bool) -> ColumnElement[bool]:
    device: Column[int] = table.c.device
    if is_all and devices != [tables.EVERY]:
        # As they lie, in the order of time; not one after the other.
        return device != tables.EVERY
    return device.in_(devices)


def _union(pieces: list[Any]) -> Any:
    return pieces[0] if len(pieces) == 1 else union_all(*pieces)


def _name(by: str, row: _Totals, known: Known) -> Shown:
    """Return what a row is of, by the words of the answer; its key is taken out of it."""
    if "user" in row:
        user = known.names.text.get(row.pop("user"), "")
        entry = known.names.text.get(row.pop("entry"), "") or None
        if by == "group":
            # Of the person, then: another account of theirs may be in a group of its own.
            group = known.groups.of(known.shown(user)) or known.groups.of(user)
            return {"group": group, "entry": entry}
        return {"user": known.shown(user) or None, "entry": entry}
    if "device" in row:
        device = known.names.device[row.pop("device")]
        if by == "model":
            return {"model": device.model}
        return {"node": device.node, "gpu": device.gpu} if by == "gpu" else {"node": device.node}
    if "clock" in row:
        weekday, hour = divmod(int(row.pop("clock")), 24)
        of_day: Shown = {"hour": f"{hour:02d}"}
        return of_day if by == "hour" else {"weekday": weekday + 1} | of_day
    start = _slot.process_result_value(row.pop("start"), None)  # type: ignore[arg-type]
    assert start is not None
    local = known.local.at(start)
    match by:
        case "month":
            return {"month": f"{local:%Y-%m}"}
        case "week":
            return {"week": f"{local:%G-W%V}"}
        case _:
            return {"day": f"{local:%Y-%m-%d}"}


def _in_order(by: str, sums: dict[tuple[Any, ...], _Totals]) -> Iterable[tuple[Any, ...]]:
    in_order = sorted(sums, key=lambda key: [str(part or "") for part in key])
    if by in ("user", "group", *_OF_DEVICE):
        in_order.sort(key=lambda key: -_used(sums[key]))
    elif by not in _OF_CLOCK:
        in_order.reverse()
    return in_order


def _together(one: _Totals, other: _Totals) -> _Totals:
    return {
        name: _larger(value, other[name]) if "max" in name else value + other[name]
        for name, value in one.items()
    }


def _larger(one: Any, other: Any) -> Any:
    return max((value for value in (one, other) if value is not None), default=None)


def _scaled(total: _Totals) -> _Totals:
    return {
        name: None if value is None else int(value) / parts_of(name)
        for name, value in total.items()
    }


def _used(row: _Totals) -> float:
    if "idle_seconds" not in row:
        return float(row["seconds"])
    return float(row["busy_seconds"] + row["held_seconds"] + row["ours_seconds"])


def _hours(row: _Totals) -> Shown:
    gauge = "utilization_percent" if "utilization_percent_sum" in row else "utilization"
    used = _used(row)
    told: Shown = {"gpu_hours": used / _HOUR}
    if "idle_seconds" in row:
        # Nobody knows what was used of a GPU that is lost or unknown.
        known = row["seconds"] - row["unknown_seconds"] - row["lost_seconds"]
        told["share_used"] = used / known if known else None
    for name, value in row.items():
        if name.endswith("_seconds") and not name.startswith(("utilization", "memory")):
            told[name.replace("_seconds", "_hours")] = value / _HOUR
    weighed, known_for = row[f"{gauge}_sum"], row[f"{gauge}_seconds"]
    told["utilization_percent"] = weighed / known_for if known_for else None
    told["utilization_percent_max"] = row[f"{gauge}_max"]
    # What was computed: 0.6 hours at 60 % for an hour.
    told["utilized_hours"] = weighed / 100 / _HOUR
    told["energy_joules"] = row["energy_joules"]
    told["memory_byte_hours"] = _memory_byte_hours(row)
    return told


def _memory_byte_hours(row: _Totals) -> float | None:
    """Return memory times time, of what is known of it; None where nobody ever knew."""
    of_gpus = "memory_used_bytes_sum" in row
    total = row["memory_used_bytes_sum" if of_gpus else "memory_byte_seconds"]
    most = row["memory_used_bytes_max" if of_gpus else "memory_max_bytes"]
    return None if most is None else total / _HOUR
