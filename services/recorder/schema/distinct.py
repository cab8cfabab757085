"""The values of a column, each once, by going from one to the next in an index that begins with it.

To go through all rows takes long where each value has many.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CTE, Column, Select, func, select


def each_value(column: Column[Any]) -> CTE:
    """Return the values with the column's name, and a NULL, to be used within a SELECT."""
    values = select(func.min(column).label(column.name)).cte(
        f"each_{column.name}", recursive=True, nesting=True
    )
    last = values.c[column.name]
    following = select(func.min(column)).where(column > last).scalar_subquery()
    return values.union_all(select(following).where(last.is_not(None)))


def values_of(column: Column[Any]) -> Select[Any]:
    """Return the SELECT of the values."""
    value = each_value(column).c[column.name]
    return select(value).where(value.is_not(None))
