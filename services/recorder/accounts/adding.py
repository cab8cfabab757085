"""Add rows to those that are in the database already."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Select, Table, case, func, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.schema import tables
from services.recorder.schema.upsert import insert_into
from services.recorder.values import use


async def add(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Add sums to sums; a minimum or maximum becomes that of both."""
    if rows:
        await connection.execute(_addition(connection.dialect.name, table), rows)


@cache
def totals_of(table: Table) -> Select[Any]:
    """Return the SELECT of a roll-up with all its seconds."""
    known = _known(table)
    return select(
        *(column for column in table.c if column.name not in known),
        *(tables.seconds_of(table, name).label(name) for name in ("seconds", *known)),
    )


def _known(table: Table) -> tuple[str, ...]:
    """Return the columns that say how long what was known; NULL where it was all the time."""
    kind = tables.kind_of(table)
    return kind.known if kind else ()


# To build it takes longer than to carry it out.
@cache
def _addition(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    statement = insert_into(dialect, table)
    old, new = table.c, statement.excluded
    kind = tables.kind_of(table)
    states = kind.states if kind else ()
    total: Any = sum((new[f"{state}_seconds"] for state in states), start=literal(0))
    changed: dict[str, Any] = {}
    for column in table.c:
        name, mine, theirs = column.name, old[column.name], new[column.name]
        if column.primary_key:
            continue
        if name.endswith("_min"):
            changed[name] = case((or_(mine.is_(None), theirs < mine), theirs), else_=mine)
        elif name in use.LIMITS or name.endswith("_max"):
            changed[name] = case((or_(mine.is_(None), theirs > mine), theirs), else_=mine)
        elif name in _known(table):
            seconds = tables.seconds_of(table, name) + func.coalesce(theirs, total)
            is_all = mine.is_(None) & theirs.is_(None)
            changed[name] = case((is_all, mine), else_=seconds)
        else:
            changed[name] = mine + theirs
    key = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=key, set_=changed)
