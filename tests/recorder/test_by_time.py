"""The sums of one day lie together: those of a database of before come over, and are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.recorder.schema import tables
from services.recorder.schema.migrate import upgrade
from services.recorder.storage.connect import url_of, writing
from services.recorder.store import Store
from tests.recorder.builders import url

BY_TIME = (
    tables.sample_1h,
    tables.sample_1d,
    tables.sample_1mo,
    tables.host_1h,
    tables.host_1d,
    tables.use_1d,
)
Rows = dict[str, list[dict[str, Any]]]


def fill(connection: sa.Connection) -> Rows:
    """Make the layout before, and in it a row for each of two owners and three times."""
    upgrade(connection, "0006")
    written: Rows = {}
    for table in BY_TIME:
        there = sa.Table(table.name, sa.MetaData(), autoload_with=connection)
        owner = table.c[0].name
        rows = [
            {column.name: number * place for number, column in enumerate(there.c, 1)}
            | {owner: place % 2, "start": 300 + place // 2}
            | ({"data": bytes([place])} if "data" in there.c else {})
            for place in range(6)
        ]
        connection.execute(sa.insert(there), rows)
        written[table.name] = rows
    return written


def read(connection: sa.Connection) -> Rows:
    return {
        table.name: [
            dict(row)
            for row in connection.execute(
                sa.select(sa.Table(table.name, sa.MetaData(), autoload_with=connection))
            ).mappings()
        ]
        for table in BY_TIME
    }


async def test_what_lay_by_gpu_and_host_comes_over_whole(tmp_path: Path) -> None:
    where = url(tmp_path, with_tables=False)
    Path(tmp_path / "recorder").mkdir(exist_ok=True)
    engine = writing(url_of(where))
    async with engine.begin() as connection:
        written = await connection.run_sync(fill)

    async with engine.begin() as connection:
        await connection.run_sync(upgrade, "head")
        found = await connection.run_sync(read)
    await engine.dispose()

    def in_order(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["start"], *row.values()

    for name, rows in written.items():
        assert sorted(found[name], key=in_order) == sorted(rows, key=in_order)


@pytest.mark.sqlite
async def test_who_asks_about_one_reads_no_others(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        for table in BY_TIME:
            owner, start = table.c[0], sa.type_coerce(table.c.start, sa.BigInteger)
            one = sa.select(table).where(owner.in_([7]), start >= 100, start < 900)
            text = str(one.compile(compile_kwargs={"literal_binds": True}))
            plan = [row.detail for row in await store.read(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
            assert len(plan) == 1
            assert f"ix_{table.name}_{owner.name}_start" in plan[0]

            everybody = sa.select(table).where(owner != 0, start >= 100, start < 900)
            text = str(everybody.compile(compile_kwargs={"literal_binds": True}))
            plan = [row.detail for row in await store.read(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
            assert plan == [f"SEARCH {table.name} USING PRIMARY KEY (start>? AND start<?)"]
