"""`gleaner usage` and `gleaner history`: who used what, and how a GPU fared, from the recorder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from gleaner import names
from gleaner.bus.messages import GpuCondition
from gleaner.cli.comma import comma_separated
from gleaner.cli.connect import connected
from gleaner.cli.history.past import simulated
from gleaner.cli.meant import Meant, meant
from gleaner.cli.now.status import heard, now_of
from gleaner.cli.settings import Settings
from gleaner.cli.words import percent
from gleaner.client import Client, NeverRecorded, RequestFailed
from gleaner.figures import By
from gleaner.fleet import DIVIDED, Fleet, follow
from gleaner.keeping import zone_of

Row = Mapping[str, Any]
_KEYS = (
    "user", "group", "entry", "node", "gpu", "model",
    "weekday", "hour", "day", "week", "month", "start",
)  # fmt: skip
_WATT_HOURS = 3600
_PERIODS = ("weekday_hour", "hour", "day", "week", "month")
_RECEIVED, _SENT = "network_received_bytes_per_second", "network_sent_bytes_per_second"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was recorded, and what of it never really happened."""

    rows: Sequence[Row]
    simulated: str | None
    counted: str | None = None
    """In which time zone hours and days are counted, where that matters."""


async def usage(
    settings: Settings,
    *,
    by: By,
    since: datetime | None,
    until: datetime | None,
    node: str | None,
    user: str | None,
) -> Found:
    """Return GPU-hours of some time."""
    asked: dict[str, Any] = {"by": by, "since": since, "until": until, "node": node, "user": user}
    async with connected(settings) as client:
        fleet = _followed(client)
        rows = [row async for row in client.history(what="usage", **asked)]
        view = now_of(fleet)
        counted = f"counted in {zone_of(view.recorder)}" if by in _PERIODS else None
        return Found(rows=rows, simulated=simulated(view, node), counted=counted)


async def history(
    settings: Settings,
    target: str,
    *,
    since: datetime | None,
    until: datetime | None,
    points: int,
    of_host: bool = False,
) -> Found:
    """Return readings of a GPU, else of the GPUs of a node of that name, oldest first.

    Of the host, what is named is a node.
    """
    asked: dict[str, Any] = {
        "what": "series",
        "points": points,
        "since": since,
        "until": until or datetime.now(UTC),
    }
    displayed = settings.web.display_names
    async with connected(settings) as client:
        fleet = _followed(client)
        rows: list[Row]
        try:
            if of_host:
                rows = [row async for row in client.history(node=target, of="host", **asked)]
            else:
                rows = await _of_gpu_or_node(client, target, asked)
        except NeverRecorded:
            await heard(fleet)
            found = meant(now_of(fleet), target, displayed)
            about = the_one(found, of_host=of_host)
            if about is None:
                if why := no_such_gpu(found, target, now_of(fleet).at):
                    raise RequestFailed(why) from None
                raise
            rows = [row async for row in client.history(**about, **asked)]
        view = now_of(fleet)
        nodes = [node.node for node, _ in meant(view, target, displayed).gpus]
        return Found(rows=rows[::-1], simulated=simulated(view, nodes[0] if nodes else target))


def _followed(client: Client) -> Fleet:
    """Return what retained facts say: they come before the answer to what is asked then."""
    fleet = Fleet()
    follow(client.bus, fleet)
    return fleet


async def _of_gpu_or_node(client: Client, target: str, asked: Mapping[str, Any]) -> list[Row]:
    try:
        return [row async for row in client.history(gpu=target, **asked)]
    except NeverRecorded:
        if target.startswith(("GPU-", "MIG-")):
            raise
        # It may be the name of a node.
        return [row async for row in client.history(node=target, **asked)]


def the_one(found: Meant, *, of_host: bool) -> dict[str, Any] | None:
    """Return the one node or GPU that is meant, as the recorder is asked for it; None: not one."""
    if found.indices is None and len(found.nodes) == 1:
        return {"node": found.nodes[0].node, **({"of": "host"} if of_host else {})}
    if len(found.gpus) == 1 and not of_host:
        return {"gpu": found.gpus[0][1].gpu}
    return None


def no_such_gpu(found: Meant, target: str, now: datetime) -> str | None:
    """Say which GPUs a node has if somebody asks for others, or several; None: it is no node's."""
    if not found.nodes or found.indices is None:
        return None
    node = found.nodes[0]
    if found.gpus:
        some = ", ".join(names.gpu(node.node, gpu.index) for node, gpu in found.gpus)
        return f"{target} is not one GPU, but {some}: ask for one of them"
    known = [str(gpu.index) for gpu in node.gpus(now) if gpu.index is not None]
    return f"node {node.node} has no GPU {found.indices}; it has {', '.join(known) or 'none'}"


def usage_table(rows: Sequence[Row]) -> Table:
    """Return GPU-hours for people to read."""
    states = [name for name in ("idle", "busy", "held", "ours", "shared") if _has(rows, name)]
    columns: dict[str, Callable[[Row], str]] = {
        "GPU-hours": lambda row: f"{row['gpu_hours']:.1f}",
        **{name: _hours_of(name) for name in states},
        "utilization": lambda row: percent(row["utilization_percent"]),
        **({"GiB·h": _memory} if any(row.get("memory_byte_hours") for row in rows) else {}),
        "kWh": lambda row: f"{row['energy_joules'] / _WATT_HOURS / 1000:.2f}",
    }
    return _table(rows, columns)


def history_table(rows: Sequence[Row]) -> Table:
    """Return a series for people to read; times are UTC."""
    columns: dict[str, Callable[[Row], str]] = {
        "utilization": lambda row: percent(row["utilization_percent"]),
        "at most": lambda row: percent(row["utilization_percent_max"]),
        "memory": lambda row: _number(row["memory_used_bytes"], 2**30, " GiB"),
        "temperature": lambda row: _number(row["temperature_celsius"], 1, " °C"),
        "power": lambda row: _number(row["power_watts"], 1, " W"),
        "idle": _idle,
    }
    return _table(rows, columns)


def host_table(rows: Sequence[Row]) -> Table:
    """Return the series of a host for people to read; times are UTC."""
    columns: dict[str, Callable[[Row], str]] = {
        "CPU": lambda row: percent(row.get("cpu_percent")),
        "at most": lambda row: percent(row.get("cpu_percent_max")),
        "load": lambda row: _number(row.get("load_1_minute"), 1, "", digits=1),
        "memory": lambda row: _number(row.get("memory_used_bytes"), 2**30, " GiB", digits=1),
        "in": lambda row: _number(row.get(_RECEIVED), 1e6, " MB/s", digits=2),
        "out": lambda row: _number(row.get(_SENT), 1e6, " MB/s", digits=2),
        "fullest disk": lambda row: percent(row.get("disk_used_percent")),
    }
    return _table(rows, columns)


def as_csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return rows for spreadsheets, each column in its own unit; the heading always."""
    return comma_separated(columns, ([row.get(name) for name in columns] for row in rows))


def as_json(rows: Sequence[Row]) -> str:
    """Return rows for programs."""
    return json.dumps(list(rows), indent=2)


def _table(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> Table:
    keys = [name for name in _KEYS if any(row.get(name) is not None for row in rows)]
    table = Table(box=None, pad_edge=False)
    for name in keys:
        table.add_column(name)
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        values = (tell(row) for tell in columns.values())
        table.add_row(*(_key(name, row) for name in keys), *values)
    return table


def _key(name: str, row: Row) -> str:
    value = row.get(name)
    if value is None:
        # Ours have an entry and no user; of the rest nobody knows the name.
        return "unknown" if name == "user" and row.get("entry") is None else "–"
    return str(value)[:16].replace("T", " ") if name == "start" else str(value)


def _idle(row: Row) -> str:
    """Say how much of the time it was idle; nobody can use a GPU in MIG mode as a whole."""
    if not any(row.get(f"{state.value}_seconds") for state in GpuCondition):
        return DIVIDED
    return percent(100 * row["idle_seconds"] / row["seconds"])


def _has(rows: Sequence[Row], state: str) -> bool:
    return any(row.get(f"{state}_hours") is not None for row in rows)


def _hours_of(state: str) -> Callable[[Row], str]:
    return lambda row: f"{row[f'{state}_hours']:.1f}"


def _memory(row: Row) -> str:
    hours = row.get("memory_byte_hours")
    return "–" if hours is None else f"{hours / 2**30:.1f}"


def _number(value: float | None, unit: float, name: str, *, digits: int = 0) -> str:
    return "–" if value is None else f"{value / unit:.{digits}f}{name}"
