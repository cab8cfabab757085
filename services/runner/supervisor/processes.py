"""The process table, read without anything but the standard library."""

from __future__ import annotations

import os


def read_stat(pid: int | str) -> list[str] | None:
    """Return /proc/PID/stat from the state on (parent second, start ticks twentieth), or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def start_ticks(pid: int | str) -> int | None:
    """Return when a process started, in clock ticks since boot; with its pid, an identity."""
    fields = read_stat(pid)
    return int(fields[19]) if fields else None


def descendants(ancestor: int) -> list[int]:
    """Return all living processes below one, by one look at the process table."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        fields = read_stat(name) if name.isdigit() else None
        if fields and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(name))
    found, parents = [], [ancestor]
    while parents:
        below = children.pop(parents.pop(), [])
        found += below
        parents += below
    return found
