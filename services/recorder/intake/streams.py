"""How far each stream of each node is recorded: as committed, and as a batch will leave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.intake.progress import Gap, Progress
from services.recorder.schema import tables
from services.recorder.schema.names import Names

STREAMS_PER_NODE = 100
"""Named at most in one `Recorded`; each start of a node begins a stream."""

Key = tuple[str, str]
"""Node and stream."""


class Streams:
    """What is committed; the stream of a node that was heard last stands last."""

    def __init__(self, progress: dict[str, dict[str, Progress]] | None = None) -> None:
        self._progress = progress or {}

    def recorded(self, node: str) -> dict[str, int]:
        """Return how far the streams of a node are that were heard last."""
        streams = list(self._progress.get(node, {}).items())
        return {stream: progress.watermark for stream, progress in streams[-STREAMS_PER_NODE:]}

    def nodes(self) -> set[str]:
        """Return the nodes that anything is known of."""
        return set(self._progress)

    def knows(self, key: Key) -> bool:
        """Tell whether anything was ever heard of a stream."""
        node, stream = key
        return stream in self._progress.get(node, {})

    def has(self, node: str, stream: str, sequence: int) -> bool:
        """Tell whether an event, or the fact that it is lost, is recorded for certain."""
        known = self._progress.get(node, {}).get(stream)
        return known is not None and sequence <= known.watermark

    def with_numbers(
        self, key: Key, numbers: Sequence[int], oldest: int
    ) -> tuple[Progress, tuple[Gap, ...]]:
        """Return how far a stream will be with these numbers, and the gaps that show by it."""
        node, stream = key
        before = self._progress.get(node, {}).get(stream, Progress())
        return before.recorded(numbers, oldest)

    def keep(self, reached: Mapping[Key, Progress]) -> None:
        """Take in what was committed."""
        for (node, stream), progress in reached.items():
            streams = self._progress.setdefault(node, {})
            streams.pop(stream, None)
            streams[stream] = progress


async def read_streams(connection: AsyncConnection, names: Names) -> Streams:
    """Return how far each stream is, from the database."""
    stream = tables.stream.c
    beyond: dict[int, set[int]] = {}
    for table in (tables.event, tables.sample):
        ahead = and_(table.c.stream == stream.id, table.c.sequence > stream.watermark)
        for row in await connection.execute(
            select(stream.id, table.c.sequence).select_from(tables.stream.join(table, ahead))
        ):
            beyond.setdefault(row.id, set()).add(row.sequence)
    progress: dict[str, dict[str, Progress]] = {}
    for row in await connection.execute(select(tables.stream).order_by(stream.updated_at)):
        progress.setdefault(names.text[row.node], {})[row.stream] = Progress(
            watermark=row.watermark, gaps=row.gaps, beyond=frozenset(beyond.get(row.id, ()))
        )
    return Streams(progress)
