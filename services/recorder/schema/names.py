"""The numbers that names have in the database; new ones are given in the transaction at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gleaner.bus.messages import Inventory
from services.recorder.schema import tables
from services.recorder.schema.upsert import insert_into


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU, as people know it."""

    node: str
    gpu: str
    index: int | None
    model: str | None


class Names:
    """What is known of them, as read from the database; `load` again after a failed transaction."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}
        self.text: dict[int, str] = {}
        self.devices: dict[tuple[str, str], int] = {}
        self.device: dict[int, Device] = {}
        self._parents: dict[int, tuple[str, str]] = {}
        """Node and GPU that an instance belongs to."""
        self.streams: dict[tuple[str, str], int] = {}

    async def load(self, connection: AsyncConnection) -> None:
        """Read all of them."""
        self.__init__()  # type: ignore[misc]
        for row in await connection.execute(select(tables.name)):
            self._take_name(row)
        for row in await connection.execute(select(tables.device)):
            self._take_device(row)
        await self.know_streams(connection)

    async def know_streams(self, connection: AsyncConnection) -> None:
        """Read the numbers of the streams that are new; a node that cannot start begins many."""
        own = tables.stream.c
        is_new = own.id > max(self.streams.values(), default=0)
        for row in await connection.execute(select(own.id, own.node, own.stream).where(is_new)):
            self.streams[self.text[row.node], row.stream] = row.id

    @property
    def nodes(self) -> set[str]:
        """All nodes of which anything is there."""
        return {node for known in (self.devices, self.streams) for node, _ in known}

    @property
    def parents(self) -> dict[int, int]:
        """The GPUs that MIG instances belong to, by the instances' numbers."""
        return {
            number: self.devices[of] for number, of in self._parents.items() if of in self.devices
        }

    def devices_of(self, node: str | None, gpu: str | None) -> list[int]:
        """Return the numbers of a node's GPUs, or of those with an id; both may be left open."""
        return [
            number
            for (of_node, own), number in self.devices.items()
            if node in (None, of_node) and gpu in (None, own)
        ]

    async def know(self, connection: AsyncConnection, texts: Iterable[str]) -> None:
        """Give numbers to names that have none."""
        # Not `- keys()`: that goes through all that are known.
        new = sorted({*texts}.difference(self.number))
        if new:
            await _add(connection, tables.name, [{"text": text} for text in new])
            for row in await _find(connection, tables.name, tables.name.c.text, new):
                self._take_name(row)

    async def know_devices(
        self, connection: AsyncConnection, wanted: Iterable[tuple[str, str]], now: datetime
    ) -> None:
        """Give numbers to GPUs that have none."""
        new = sorted({*wanted}.difference(self.devices))
        if not new:
            return
        await self.know(connection, (node for node, _ in new))
        await _add(
            connection,
            tables.device,
            [
                {"node": self.number[node], "gpu": gpu, "first_at": now, "last_at": now}
                for node, gpu in new
            ],
        )
        for row in await _find(connection, tables.device, tables.device.c.gpu, {g for _, g in new}):
            self._take_device(row)

    async def hear(self, connection: AsyncConnection, inventory: Inventory, now: datetime) -> None:
        """Take in what a node says of its GPUs."""
        node = inventory.node
        await self.know_devices(connection, ((node, one.gpu) for one in inventory.gpus), now)
        await self.know(connection, (one.name for one in inventory.gpus if one.name))
        own = tables.device
        for one in inventory.gpus:
            changed = {
                "index": one.index,
                "model": self.number[one.name] if one.name else None,
                "parent": one.parent,
                "last_at": now,
            }
            number = self.devices[node, one.gpu]
            await connection.execute(update(own).where(own.c.id == number).values(changed))
            self.device[number] = Device(node=node, gpu=one.gpu, index=one.index, model=one.name)
            if one.parent:
                self._parents[number] = (node, one.parent)

    def _take_name(self, row: Any) -> None:
        self.number[row.text] = row.id
        self.text[row.id] = row.text

    def _take_device(self, row: Any) -> None:
        node = self.text[row.node]
        self.devices[node, row.gpu] = row.id
        model = None if row.model is None else self.text[row.model]
        if row.parent:
            self._parents[row.id] = (node, row.parent)
        self.device[row.id] = Device(node=node, gpu=row.gpu, index=row.index, model=model)


async def _add(connection: AsyncConnection, table: Table, values: list[dict[str, Any]]) -> None:
    statement = insert_into(connection.dialect.name, table).on_conflict_do_nothing()
    await connection.execute(statement, values)


async def _find(
    connection: AsyncConnection, table: Table, column: Any, texts: Iterable[str]
) -> list[Any]:
    found: list[Any] = []
    wanted = list(texts)
    # A statement takes only so many values.
    for place in range(0, len(wanted), 1000):
        some = column.in_(wanted[place : place + 1000])
        found += await connection.execute(select(table).where(some))
    return found
