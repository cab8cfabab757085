"""Who uses GPUs now, added up over all nodes; kept up to date node by node.

One for each process and GPU that counts: a process on two GPUs counts twice, our own runs and
ignored programs do not. A node that is not online has no holders, so its processes are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gleaner import names
from services.web.shown.view import Node, User

NODES = 6
"""So many nodes are listed of each user."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """What one user has on one node."""

    name: str
    """The node's."""
    memory_used_bytes: int | None
    memory_is_complete: bool
    n_procs: int
    indices: frozenset[int]
    """-1: nobody said which index the GPU has."""


class Users:
    """Adds up what each user has; tells who changed since it was asked last."""

    def __init__(self) -> None:
        self._by_node: dict[str, Mapping[str, Use]] = {}
        self._by_user: dict[str, dict[str, Use]] = {}
        self._shown: dict[str, User] = {}
        self._touched: set[str] = set()

    def take(self, node: Node) -> None:
        """Take in a node as it is now."""
        self._put(node.node, uses(node))

    def forget(self, node: str) -> None:
        """Take out a node that is gone."""
        self._put(node, {})

    def changes(self) -> tuple[tuple[User, ...], tuple[str, ...]]:
        """Return who changed, and who uses nothing any more."""
        touched, self._touched = self._touched, set()
        changed, gone = [], []
        for user in sorted(touched):
            of = self._by_user.get(user)
            if of is None:
                if self._shown.pop(user, None):
                    gone.append(user)
                continue
            shown = _user(user, of)
            if shown != self._shown.get(user):
                self._shown[user] = shown
                changed.append(shown)
        return tuple(changed), tuple(gone)

    def everybody(self) -> tuple[User, ...]:
        """Return everybody as told last, by memory and then by processes, most first."""
        return tuple(
            sorted(
                self._shown.values(),
                key=lambda one: (-(one.memory_used_bytes or 0), -one.n_procs, one.user),
            )
        )

    def _put(self, node: str, now: Mapping[str, Use]) -> None:
        before = self._by_node.get(node, {})
        for user in before.keys() | now.keys():
            if before.get(user) == now.get(user):
                continue
            self._touched.add(user)
            of = self._by_user.setdefault(user, {})
            if user in now:
                of[node] = now[user]
            else:
                del of[node]
            if not of:
                del self._by_user[user]
        if now:
            self._by_node[node] = now
        else:
            self._by_node.pop(node, None)


def uses(node: Node) -> dict[str, Use]:
    """Return what each user has on a node."""
    rows: dict[str, list[tuple[int, int | None]]] = {}
    for gpu in node.gpus:
        for holder in gpu.holders if gpu.schedulable else ():
            if holder.run is None and holder.ignored is None:
                index = -1 if gpu.index is None else gpu.index
                rows.setdefault(names.user(holder), []).append((index, holder.memory_used_bytes))
    return {user: _use(node.name, found) for user, found in rows.items()}


def _use(name: str, rows: list[tuple[int, int | None]]) -> Use:
    known = [memory for _, memory in rows if memory is not None]
    return Use(
        name=name,
        memory_used_bytes=sum(known) if known else None,
        memory_is_complete=len(known) == len(rows),
        n_procs=len(rows),
        indices=frozenset(index for index, _ in rows),
    )


def _user(user: str, of: Mapping[str, Use]) -> User:
    found = sorted(of.values(), key=lambda use: use.name)
    known = [use.memory_used_bytes for use in found if use.memory_used_bytes is not None]
    return User(
        user=user,
        memory_used_bytes=sum(known) if known else None,
        memory_is_complete=all(use.memory_is_complete for use in found),
        n_procs=sum(use.n_procs for use in found),
        n_gpus=sum(len(use.indices) for use in found),
        gpus=tuple(f"{use.name}-{_indices(use)}" for use in found[:NODES]),
        more_nodes=max(0, len(found) - NODES),
    )


def _indices(use: Use) -> str:
    return ",".join("?" if index < 0 else str(index) for index in sorted(use.indices))
