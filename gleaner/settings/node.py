"""Section `node`: this machine, the people at it, and the fleet that is simulated instead of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gleaner.bus.message import safe_level
from gleaner.settings.fields import Label, Name, Section, Words, strip
from gleaner.settings.gpu import GpuSettings


def default_data_directory() -> Path:
    """Return `/var/lib/gleaner` for root, a folder below the user's state directory otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/gleaner")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "gleaner"


class PeopleSettings(Section):
    """Whether and how people at the machine count."""

    enabled: bool = Field(True, description="False: nobody is watched, and nobody stops a run.")
    whitelist: Words = Field((), description="Users who are shown, but never a reason to leave.")
    idle_seconds: Annotated[float, Field(ge=0)] = Field(
        300, description="How long after their last input somebody counts as gone."
    )
    device_directory: Path = Field(
        Path("/dev"), description="Where `pts/N` and `ttyN` lie; elsewhere in some containers."
    )
    seats: bool = Field(True, description="Ask logind about graphical seats, where D-Bus is there.")


class SimulatedSettings(Section):
    """The simulated back end: for a first look, for tests of scale, for demonstrations."""

    nodes: Annotated[int, Field(ge=1, le=10_000)] = Field(1, description="How many nodes.")
    gpus: Annotated[int, Field(ge=0, le=64)] = Field(4, description="GPUs on each.")
    model: str = Field("Simulated H100", description="What their GPUs are called.")
    script: Path | None = Field(
        None, description="A TOML file with people and processes; a lively day if missing."
    )
    speed: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="How much faster than the clock the script is played."
    )
    capture: Path | None = Field(
        None,
        description="A file of `gleaner capture`: its readings are replayed, one each check, "
        "instead of a script.",
    )


class NodeSettings(Section):
    """This machine."""

    id: Name = Field(
        default_factory=lambda: safe_level(socket.gethostname()),
        description="Its name on the bus (`[a-z0-9_-]`); the host's name by default.",
    )
    labels: Annotated[tuple[Label, ...], BeforeValidator(strip)] = Field(
        (), description="Words to find it by on the page: `nvlink`, `lab-a`."
    )
    data_directory: Path = Field(
        default_factory=default_data_directory,
        description="Where everything that must survive a restart lies. "
        "`/var/lib/gleaner` for root, below the user's state folder otherwise.",
    )
    scheduler_keys: Words = Field(
        (),
        description="Public keys (`<id>:<base64>`) of the schedulers this node obeys; "
        "`gleaner up` fills in its own. Without any, nothing is launched.",
    )
    pause_file: Path | None = Field(
        None,
        description="While this file exists nothing runs here; any user of the node may touch it. "
        "Default: `pause/pause` in the data directory, in a folder made for that; a folder that "
        "you choose is yours to make, and to open to whom you trust.",
    )
    notices: Literal["auto", "fanotify", "inotify", "check"] = Field(
        "auto",
        description="How opens and keys are noticed: `auto` takes the best the kernel allows; "
        "`check` hears nothing and relies on the check each `gpu.check_seconds`.",
    )
    gpu: GpuSettings = Field(GpuSettings(), description="")
    people: PeopleSettings = Field(PeopleSettings(), description="")
    simulated: SimulatedSettings = Field(SimulatedSettings(), description="")
