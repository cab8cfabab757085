"""The simulated node that `gleaner up` adds where there is no GPU to look at."""

from __future__ import annotations

from pathlib import Path

NODE = "simulated"
GPU_IDLE_SECONDS = 10
"""A first look is short; a real fleet waits a minute."""


def configuration(data_directory: Path) -> str:
    """Return the configuration file of the simulated node."""
    return f"""\
# Written by `gleaner up` at every start, because this machine has no NVIDIA GPU.
[node]
id = "{NODE}"
data_directory = {_quote(data_directory)}
[node.gpu]
source = "simulated"
[node.simulated]
speed = 10
[node.people]
idle_seconds = 10
[[workload]]
name = "demo-fold"
command = "sleep 86400"
gpus = "each"
"""


def has_nvidia(device_directory: Path) -> bool:
    """Whether this machine has an NVIDIA GPU or its driver, as far as a glance can tell."""
    return (
        any(path.name.removeprefix("nvidia").isdigit() for path in device_directory.glob("nvidia*"))
        or Path("/proc/driver/nvidia").exists()
        or Path("/dev/dxg").exists()  # WSL
    )


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
