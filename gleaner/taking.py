"""The line that somebody copies to take free GPUs of a node."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gleaner import names

_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9_./-]+")


def ssh(host: str) -> str | None:
    """Return the line that leads to a host; None if its name must not stand in a shell's line."""
    return f"ssh {host}" if names.is_plain(host) else None


def visible_devices(gpus: Sequence[tuple[str, int | None]]) -> str | None:
    """Return the assignment that picks GPUs, given by UUID and index; None if nothing can."""
    if all(_UUID.fullmatch(gpu) for gpu, _ in gpus):
        # By UUID: CUDA numbers GPUs by speed, nvidia-smi by bus.
        return f"CUDA_VISIBLE_DEVICES={','.join(gpu for gpu, _ in gpus)}"
    if any(index is None for _, index in gpus):
        return None
    indices = ",".join(str(index) for _, index in gpus)
    return f"CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={indices}"


def command(host: str, gpus: Sequence[tuple[str, int | None]]) -> str:
    """Return one line that opens a shell on a node with these GPUs picked."""
    devices = visible_devices(gpus)
    # Single quotes: the login shell of there is meant, not the one of here.
    return f"ssh -t {host} '{devices} exec $SHELL -l'" if devices else f"ssh {host}"
