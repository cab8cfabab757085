"""Entries `workload`: the node's own catalogue, the only programs that Gleaner ever starts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from gleaner.settings.fields import Name, Section


class WorkloadSettings(Section):
    """One entry of the node's own catalogue; nothing else ever runs here."""

    name: Name = Field(description="Its name; unique on the node.")
    kind: Literal["filler"] = Field(
        "filler", description="`filler`: runs for ever, wherever it may."
    )
    command: str = Field(
        min_length=1, description="Split as a shell would, but no shell; relative to `directory`."
    )
    directory: Path = Field(Path("/"), description="Where it runs.")
    gpus: Literal["each", "all"] | tuple[Annotated[int, Field(ge=0)], ...] = Field(
        "each",
        description="`each`: one run per GPU; `all`: one run over all; "
        "`[0, 2]`: one run over these, when all of them are idle.",
    )
    log: Path | None = Field(
        None, description="Appended, output and errors; without it they go to the runner's output."
    )
    log_max_bytes: Annotated[int, Field(ge=4096)] = Field(
        100_000_000, description="A longer log is rotated to `.1`, `.2`…"
    )
    log_keep: Annotated[int, Field(ge=0, le=100)] = Field(3, description="Rotated logs kept.")
    user: str | None = Field(
        None,
        description="Who runs it; never root unless it says so. "
        "Default: `nobody` when Gleaner is root, else who runs Gleaner.",
    )
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        5, description="Between TERM and KILL."
    )
    environment: dict[str, str] = Field({}, description="Added to the full environment.")
    nice: Annotated[int, Field(ge=-20, le=19)] = Field(19, description="CPU priority; 19 yields.")
    io_class: Literal["idle", "best-effort"] = Field("idle", description="Disk priority.")
    cpu_weight: Annotated[int, Field(ge=1, le=10_000)] = Field(
        10, description="cgroup CPU weight; other people's is 100."
    )
    cpu_max_percent: Annotated[float, Field(gt=0)] | None = Field(
        None, description="cgroup CPU limit; 100 is one core."
    )
    memory_max_bytes: Annotated[int, Field(gt=0)] | None = Field(
        None, description="cgroup memory limit."
    )
    processes_max: Annotated[int, Field(gt=0)] | None = Field(
        None, description="cgroup limit of processes and threads."
    )

    @field_validator("command")
    @classmethod
    def _splits(cls, command: str) -> str:
        if not shlex.split(command):
            raise ValueError("no program in it")
        return command

    @field_validator("gpus")
    @classmethod
    def _names_gpus_once(cls, gpus: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(gpus, tuple) and (not gpus or len(set(gpus)) != len(gpus)):
            raise ValueError("name at least one GPU, and each only once")
        return gpus


def check_unique(workloads: tuple[WorkloadSettings, ...]) -> None:
    """Raise ValueError for two workloads of one name."""
    names = [workload.name for workload in workloads]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two workloads are called {', '.join(twice)}")
