"""The daily table of who uses which GPU, in the format of the GPU Stats Service; pure.

One row per process and GPU at each point of a grid of the clock. A node has rows only while it is
heard: `-,-,-,0` says that nothing runs, so it takes a node that knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, tzinfo

from gleaner.bus.messages import GpuCondition, Holder
from gleaner.fleet import GpuView, NodeView, Presence

HEADER = ("timestamp", "user", "pid", "gpu", "usage")
NOTHING = "-"
LATE = timedelta(seconds=30)
"""A node that is not heard by then has no row; the stamp tells minutes."""
_NODE = re.compile(r"[a-z0-9_-]{1,63}")

Row = tuple[str, ...]


def point_before(now: datetime, minutes: int, zone: tzinfo | None) -> datetime:
    """Return the last point of the grid that is not after now; it starts at each local midnight."""
    day = now.astimezone(zone).date()
    # Without a zone a time of day is the machine's.
    midnight = datetime.combine(day, time(), zone).astimezone(UTC)
    return midnight + (now - midnight) // timedelta(minutes=minutes) * timedelta(minutes=minutes)


def is_due(now: datetime, point: datetime) -> bool:
    """Tell whether a point of the grid can still be written down as what is now."""
    return point <= now < point + LATE


def file_name(at: datetime, zone: tzinfo | None) -> str:
    """Return the name of the file of a local day."""
    return f"{at.astimezone(zone):%Y%m%d}_gpu_stats.csv"


def stamp(at: datetime) -> int:
    """Return the epoch seconds of the minute."""
    return int(at.timestamp()) // 60 * 60


def has_folder(node: str) -> bool:
    """Tell whether a node's id is one: a level of a topic may also be `..`."""
    return _NODE.fullmatch(node) is not None


def rows(
    node: NodeView, at: datetime, now: datetime, *, with_idle: bool = False
) -> tuple[Row, ...] | None:
    """Return the rows of a node at a point of the grid; None while it is not known what runs.

    With idle GPUs each has a row on which nothing runs, not only one for all where none has any.
    """
    if node.presence(now) is not Presence.ONLINE:
        return None
    gpus = node.gpus(now)
    if not gpus:
        return None
    found = tuple(row for gpu in gpus for row in _rows(gpu, str(stamp(at)), with_idle=with_idle))
    if found:
        return found
    if any(gpu.condition is GpuCondition.UNKNOWN for gpu in gpus):
        return None
    return ((str(stamp(at)), NOTHING, NOTHING, NOTHING, "0"),)


def _rows(gpu: GpuView, when: str, *, with_idle: bool) -> Iterator[Row]:
    if gpu.condition is GpuCondition.UNKNOWN or gpu.state is None:
        return
    where, usage = str(gpu.state.index), _usage(gpu)
    holders = [one for one in gpu.state.holders if one.ignored is None]
    for holder in holders:
        yield when, _user(holder), str(holder.pid), where, usage
    # On a dirty one something is there, but nobody can name it; of a lost one nobody knows.
    is_told = with_idle and gpu.condition is not GpuCondition.LOST
    if not holders and (is_told or gpu.condition is GpuCondition.DIRTY):
        yield when, NOTHING, NOTHING, where, usage


def _user(holder: Holder) -> str:
    if holder.user:
        return holder.user
    return NOTHING if holder.user_id is None else f"uid {holder.user_id}"


def _usage(gpu: GpuView) -> str:
    """The whole GPU's utilization, as in the model; empty where the driver does not say."""
    percent = gpu.reading.utilization_percent if gpu.reading else None
    return "" if percent is None else str(round(percent))
