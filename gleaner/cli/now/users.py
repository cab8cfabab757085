"""`gleaner users`: who uses GPUs now, added up over all hosts.

One row for each process and GPU that counts: a process on two GPUs counts twice, our own runs and
ignored programs do not. Processes of a node that is silent are told of, and not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gleaner import names
from gleaner.bus.messages import Holder
from gleaner.cli.words import duration
from gleaner.fleet import FleetView, GpuView, NodeView, Presence

COLUMNS = ("user", "memory_used_bytes", "n_procs", "gpus", "since", "longest_seconds")

NOTHING_ELSE = names.Called()
"""Everything has its own name."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of a person on one GPU."""

    user: str
    node: NodeView
    gpu: GpuView
    holder: Holder


@dataclass(frozen=True, kw_only=True)
class User:
    """One user's processes together."""

    user: str
    memory_used_bytes: int | None
    """Of the processes whose memory is known; None if that is none of them."""
    has_unknown_memory: bool
    n_procs: int
    gpus: str
    """`gpu1-0,1  gpu2-3`, as the GPU Monitor has it; `gleaner why` takes that as well."""
    since: datetime | None
    """When the oldest process started, by our clock."""
    longest_seconds: float | None

    @property
    def memory(self) -> str:
        """The memory for people."""
        at_least = "≥ " if self.has_unknown_memory and self.memory_used_bytes is not None else ""
        return at_least + amount(self.memory_used_bytes)


def amount(number: int | None) -> str:
    """Say an amount of memory: `900 MiB`, and from 1024 on `1.37 GiB`."""
    if number is None:
        return "–"
    mebibytes = number / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.2f} GiB"


def users(view: FleetView, called: names.Called = NOTHING_ELSE) -> list[User]:
    """Return everybody who uses a GPU now, by memory and then by processes, most first."""
    hosts = names.short_hosts(view.nodes.values(), called.nodes)
    of: dict[str, list[Process]] = {}
    for node in view.nodes.values():
        if node.presence(view.at) is Presence.ONLINE:
            for process in processes(view, node):
                of.setdefault(process.user, []).append(process)
    found = [_user(view, user, rows, hosts) for user, rows in of.items()]
    return sorted(found, key=lambda one: (-(one.memory_used_bytes or 0), -one.n_procs, one.user))


def processes(view: FleetView, node: NodeView) -> Iterator[Process]:
    """Yield the processes of people on a node's GPUs, as they were last told."""
    for gpu in node.gpus(view.at):
        for holder in gpu.state.holders if gpu.state and gpu.is_usable else ():
            if holder.run is None and holder.ignored is None:
                yield Process(user=names.user(holder), node=node, gpu=gpu, holder=holder)


def not_counted(view: FleetView) -> list[str]:
    """Say which processes are left out, because nobody knows whether they are still there."""
    lines = []
    for node in view.nodes.values():
        presence = node.presence(view.at)
        number = sum(1 for _ in processes(view, node))
        if presence is not Presence.ONLINE:
            what = f"{number} process{'es' if number != 1 else ''}"
            lines.append(f"{node.node} is {presence.value}: its last {what} not counted")
    return lines


def _user(view: FleetView, user: str, rows: Sequence[Process], hosts: Mapping[str, str]) -> User:
    memory = [row.holder.memory_used_bytes for row in rows]
    known = [number for number in memory if number is not None]
    ages = [
        # A node's clock may differ from ours: its instants are compared with its own time.
        (row.node.node_time(view.at) - row.holder.started_at)
        for row in rows
        if row.holder.started_at is not None
    ]
    longest = max(ages, default=None)
    return User(
        user=user,
        memory_used_bytes=sum(known) if known else None,
        has_unknown_memory=len(known) < len(memory),
        n_procs=len(rows),
        gpus=_gpus(rows, hosts),
        since=None if longest is None else view.at - longest,
        longest_seconds=None if longest is None else longest.total_seconds(),
    )


def _gpus(rows: Sequence[Process], hosts: Mapping[str, str]) -> str:
    on: dict[tuple[str, bool], set[int]] = {}
    for row in rows:
        # -1: nobody said which index it has.
        index = -1 if row.gpu.index is None else row.gpu.index
        on.setdefault((hosts[row.node.node], row.node.is_simulated), set()).add(index)
    return "  ".join(
        f"{name}-{','.join('?' if index < 0 else str(index) for index in sorted(indices))}"
        f"{' (simulated)' if is_simulated else ''}"
        for (name, is_simulated), indices in sorted(on.items())
    )


def table(view: FleetView) -> RenderableType:
    """Return the users for a terminal."""
    found = Table(box=None, pad_edge=False, header_style="dim")
    found.add_column("user", overflow="fold")
    for heading in ("memory", "n_procs", "longest"):
        found.add_column(heading, no_wrap=True, justify="right")
    found.add_column("gpus", overflow="fold")
    everybody = users(view)
    for one in everybody:
        found.add_row(
            Text(one.user),
            one.memory,
            str(one.n_procs),
            duration(one.longest_seconds),
            Text(one.gpus),
        )
    lines = [] if everybody else ["nobody uses a GPU"]
    return Group(found, *(Text(line, style="dim") for line in [*lines, *not_counted(view)]))


def as_json(view: FleetView) -> dict[str, Any]:
    """Return the users for programs."""
    return {
        "at": view.at.isoformat(),
        "users": [
            {
                "user": one.user,
                "memory_used_bytes": one.memory_used_bytes,
                "memory_is_complete": not one.has_unknown_memory,
                "n_procs": one.n_procs,
                "gpus": one.gpus,
                "since": one.since and one.since.isoformat(),
                "longest_seconds": one.longest_seconds,
            }
            for one in users(view)
        ],
        "not_counted": not_counted(view),
    }


def rows(view: FleetView) -> list[tuple[object, ...]]:
    """Return one row for each user, in the order of COLUMNS."""
    return [
        (
            one.user,
            one.memory_used_bytes,
            one.n_procs,
            one.gpus,
            one.since and one.since.isoformat(),
            one.longest_seconds,
        )
        for one in users(view)
    ]
