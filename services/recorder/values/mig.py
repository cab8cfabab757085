"""A GPU in MIG mode is not one that can be used, its instances are: it counts no time; pure.

A node says so with each sample. An older one does not: there a GPU is known to be divided where an
instance of it has samples. The driver tells power, temperature and clocks of the whole GPU only, so
these are counted there. Everything else would be counted twice: time, memory, the people on it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

_OF_INSTANCES: dict[str, Any] = {
    "utilization_percent": None,
    "memory_utilization_percent": None,
    "memory_used_bytes": None,
    "users": None,
    "is_usable": False,
}


def divided(devices: Iterable[int], parents: Mapping[int, int]) -> set[int]:
    """Return the GPUs that are divided: an instance of theirs has samples of the same time."""
    return {parents[device] for device in devices if device in parents}


def without_doubles(samples: Iterable[Row], divided: Container[int]) -> list[Row]:
    """Return samples in which a GPU in MIG mode has only what its instances do not have."""
    return [
        {**one, **_OF_INSTANCES} if one["device"] in divided or not one["schedulable"] else one
        for one in samples
    ]
