"""Sessions in the database: lengthened by new use, joined where it connects them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.schema.tables import session
from services.recorder.values import use

_Whose = tuple[int, use.Who]
_CHANGING = ("begin", "end", "interval", *use.SUMS, *use.LIMITS)

_CHANGE = (
    update(session)
    .where(session.c.id == bindparam("of_id"))
    .values({name: bindparam(name) for name in _CHANGING})
)


async def add(connection: AsyncConnection, used: Iterable[tuple[int, use.Who, use.Totals]]) -> None:
    """Lengthen the sessions that new use touches, join those it connects, begin the others."""
    joint: dict[_Whose, list[use.Totals]] = {}
    for device, who, new in sorted(used, key=lambda one: one[2]["begin"]):
        mine = joint.setdefault((device, who), [])
        if mine and not use.is_gap(mine[-1], new):
            mine[-1] = use.together(mine[-1], new)
        else:
            mine.append(new)
    if not joint:
        return
    near = await _near(connection, joint)
    begun, changed, gone = list[dict[str, Any]](), list[dict[str, Any]](), list[int]()
    for whose, stretches in joint.items():
        for new in stretches:
            known = near.setdefault(whose, [])
            touched = [one for one in known if not use.is_gap(one, new)]
            if not touched:
                # What comes after it in this batch is more than a gap away.
                begun.append({"device": whose[0]} | whose[1]._asdict() | _values(new))
                continue
            total = new
            for one in touched:
                total = use.together(total, one)
            kept, *joined = (one["id"] for one in touched)
            near[whose] = [one for one in known if one not in touched] + [total | {"id": kept}]
            changed = [one for one in changed if one["of_id"] not in (kept, *joined)]
            changed.append({"of_id": kept} | _values(total))
            gone += joined
    if begun:
        await connection.execute(session.insert(), begun)
    if changed:
        await connection.execute(_CHANGE, changed)
    if gone:
        await connection.execute(delete(session).where(session.c.id.in_(gone)))


async def _near(
    connection: AsyncConnection, joint: dict[_Whose, list[use.Totals]]
) -> dict[_Whose, list[dict[str, Any]]]:
    """Return the sessions that new use may touch, by whose they are."""
    stretches = [one for mine in joint.values() for one in mine]
    longest = max(one["interval"] for one in stretches)
    slack = timedelta(seconds=use.GAP_INTERVALS * longest)
    found: dict[_Whose, list[dict[str, Any]]] = {}
    rows = await connection.execute(
        select(session)
        .where(
            session.c.device.in_({device for device, _ in joint}),
            session.c.end >= min(one["begin"] for one in stretches) - slack,
            session.c.begin <= max(one["end"] for one in stretches) + slack,
        )
        .order_by(session.c.id)
    )
    for row in rows:
        whose = (row.device, use.Who(row.user, row.entry, row.container))
        found.setdefault(whose, []).append(row._asdict())
    return found


def _values(total: use.Totals) -> dict[str, Any]:
    return {name: total[name] for name in _CHANGING}
