"""The simulated node that `gleaner up` adds where there is no GPU to look at."""

from __future__ import annotations

from pathlib import Path

NODE = "simulated"
GPU_IDLE_SECONDS = 10
"""A first look is short; a real fleet waits a minute."""


SCRIPT = """\
# Written by `gleaner up` at every start: four minutes that show what Gleaner is for.
# Change a copy of it; docs/simulation.md tells how.
repeat_seconds = 240

[[work]]                        # a notebook that does nothing: held
at = 0
lasts = 230
user = "mary"
gpus = [3]
command = "jupyter notebook"
utilization_percent = 0
memory_percent = 12

[[work]]                        # one program: one run leaves, and comes back
at = 25
lasts = 20
user = "linus"
gpus = [0]
command = "python evaluate.py"

[[visit]]                       # somebody at a keyboard: all runs leave
at = 75
lasts = 70
user = "grace"
types_for = 20

[[work]]
at = 85
lasts = 60
user = "grace"
gpus = [0, 1]
memory_percent = 70

[[work]]
at = 175
lasts = 30
user = "ada"
gpus = [2]
command = "python infer.py"
utilization_percent = 40

[[fault]]                       # memory that nobody owns up to: dirty
at = 210
lasts = 15
gpu = 1
unattributed_memory_percent = 20
"""


def configuration(data_directory: Path, script: Path) -> str:
    """Return the configuration file of the simulated node."""
    return f"""\
# Written by `gleaner up` at every start, because this machine has no NVIDIA GPU.
[node]
id = "{NODE}"
data_directory = {_quote(data_directory)}
[node.gpu]
source = "simulated"
held_after_seconds = 20
[node.simulated]
script = {_quote(script)}
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
