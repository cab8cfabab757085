"""Section `node.gpu`: how the GPUs of a machine are looked at, and what makes one busy.

Its limits follow from the 5 s after which a node without a check counts as out of sight.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gleaner.settings.fields import Seconds, Section, Words

_BUSY_WORDS = ("compute_process", "graphics_process", "device_open")
_BUSY_READING = re.compile(r"(utilization_percent|memory_used_bytes)\s*>=\s*(\d+)")

HANG_SECONDS = 4.5
"""From a check that was answered to the end of the next, unanswered one; 5 s without one make every
run leave, and the rest of a check takes its time too."""


def _check_busy_when(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if word not in _BUSY_WORDS and not _BUSY_READING.fullmatch(word):
            expected = ", ".join(_BUSY_WORDS)
            raise ValueError(
                f"{word!r} is not one of {expected}, "
                "`utilization_percent >= N` or `memory_used_bytes >= N`"
            )
    return words


def _check_deadline(seconds: float) -> float:
    if seconds > 3.5:
        raise ValueError(
            "a driver may take 3.5 s at most: after 5 s without a check every run leaves"
        )
    return seconds


class GpuSettings(Section):
    """What is looked at, and what makes a GPU busy."""

    source: Literal["auto", "nvml", "device-files", "simulated"] = Field(
        "auto",
        description="`auto`: NVML where it works, else the device files alone, until it does.",
    )
    check_seconds: Annotated[float, Field(ge=0.05, le=4)] = Field(
        1.0,
        description="The backstop: a full check this often, whatever events say. "
        "At most 4, because 5 s without a check make every run leave; where a driver is asked, "
        "at most 4.5 together with `deadline_seconds`.",
    )
    busy_when: Annotated[Words, AfterValidator(_check_busy_when)] = Field(
        _BUSY_WORDS,
        description="Any of these makes a GPU busy: `compute_process`, `graphics_process`, "
        "`device_open`, `utilization_percent >= N`, `memory_used_bytes >= N`.",
    )
    ignore_programs: Words = Field(
        (
            "nvidia-smi",
            "nvidia-persistenced",
            "dcgm-exporter",
            "nv-hostengine",
            "nv-fabricmanager",
            "nvidia-powerd",
            "nvtop",
        ),
        description="Programs that never make a GPU busy, since they only watch or keep it: "
        "by name, as the kernel shortens it.",
    )
    ignore_users: Words = Field((), description="Users whose processes never make a GPU busy.")
    held_after_seconds: Seconds = Field(
        1800, description="A process that has used its GPU for nothing this long holds it (`held`)."
    )
    telemetry_seconds: Seconds = Field(10, description="How often readings are published.")
    sample_seconds: Seconds = Field(10, description="How often a sample is kept for history.")
    deadline_seconds: Annotated[float, Field(gt=0), AfterValidator(_check_deadline)] = Field(
        3,
        description="How long one sweep over the driver may take before it counts as hung. "
        "At most 3.5, because 5 s without a check make every run leave.",
    )
    accounting: bool = Field(
        False,
        description="Switch on the driver's own accounting (needs root; it stays on until the "
        "driver is unloaded), so that processes which end between two samples are recorded too.",
    )
    command_lines: Literal["program", "full"] = Field(
        "program",
        description="What is shown of a process: program and script only, or all arguments "
        "(which may hold secrets).",
    )
    device_directory: Path = Field(
        Path("/dev"), description="Where `nvidia0`… lie; elsewhere in some containers."
    )

    @model_validator(mode="after")
    def _notices_a_driver_that_hangs(self) -> Self:
        """Refuse what would leave a hung driver's last answer standing for more than 5 s."""
        left = HANG_SECONDS - self.check_seconds
        if self.source in ("auto", "nvml") and self.deadline_seconds > left:
            raise ValueError(
                f"check_seconds {self.check_seconds:g} and deadline_seconds "
                f"{self.deadline_seconds:g} may be {HANG_SECONDS:g} s together, because a driver "
                "that hangs must be noticed within 5 s: set deadline_seconds to "
                f"{left:g} or less, or check more often"
            )
        return self
