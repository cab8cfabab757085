"""Play back what `gleaner capture` recorded: a simulated node with a real driver's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gleaner.bus.messages import HostReading
from services.collector.interface import Hardware, Process, SourceName, Sweep
from services.collector.nvml import answers
from services.collector.nvml.answers import Answer

_RECORDED = "this node is simulated: it replays recorded readings, and nobody is at it"


class CaptureSource:
    """A `Source` that answers what was recorded, a sweep each time; the last answer stays."""

    name: SourceName = "simulated"

    def __init__(self, path: Path, device_directory: Path) -> None:
        """Read the file; one that is no capture is a ValueError that names it."""
        self._directory = device_directory
        self._answers = _read(path)
        self._hardware = Hardware(
            gpus=(), driver_version=None, problem=None, limitations=(_RECORDED,), devices={}
        )
        self._next = 0

    async def hardware(self) -> Hardware:
        """See `Source`."""
        while self._next < len(self._answers) and "sweep" not in self._answers[self._next]:
            answer = self._answers[self._next]
            self._next += 1
            refused = answers.refusal(answer)
            if refused is not None:
                self._hardware = replace(self._hardware, problem=refused.text)
                break
            found = answers.hardware(answer, self._directory)
            self._hardware = replace(found, limitations=(*found.limitations, _RECORDED))
        return self._hardware

    async def sweep(self) -> Sweep:
        """See `Source`."""
        hardware = await self.hardware()
        if hardware.problem is not None:
            return Sweep(gpus=(), problem=hardware.problem)
        is_over = self._next >= len(self._answers)
        if not is_over:
            self._next += 1
        found = replace(answers.sweep(self._answers[self._next - 1], hardware.gpus), session=1)
        if is_over:
            # The readings stay, but what happened does not happen again.
            gpus = tuple(replace(gpu, events=(), ended=()) for gpu in found.gpus)
            found = replace(found, gpus=gpus)
        return found

    async def host(self) -> HostReading:
        """See `Source`; the host was not recorded."""
        return HostReading()

    async def close(self) -> None:
        """See `Source`."""


class RecordedProcesses:
    """A `Processes` in which whoever a capture lists is somebody of whom nothing is kept."""

    sees_others = True
    is_new = False

    def __init__(self) -> None:
        self._began = datetime.now(UTC)

    def identify(self, pid: int) -> Process | None:
        """See `Processes.identify`."""
        return Process(
            pid=pid,
            started_ticks=pid,
            started_at=self._began,
            parent_pid=1,
            user_id=0,
            user="somebody",
            program="recorded",
            command="recorded",
            cgroup=None,
            token=None,
        )

    def holds(self, pid: int) -> frozenset[str]:  # noqa: ARG002
        """See `Processes.holds`; open devices are not recorded."""
        return frozenset()

    def holders(self) -> dict[str, frozenset[int]]:
        """See `Processes.holders`."""
        return {}

    def scan(
        self,
        budget_seconds: float,  # noqa: ARG002
        is_enough: Callable[[int, frozenset[str]], bool] | None = None,  # noqa: ARG002
        *,
        hurry: bool = False,  # noqa: ARG002
    ) -> bool:
        """See `Processes.scan`; a capture tells of no open devices."""
        return True


def _read(path: Path) -> list[Answer]:
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found = [line["answer"] for line in lines]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: this is no file of `gleaner capture`") from error
    if not found or not all(isinstance(answer, dict) for answer in found):
        raise ValueError(f"{path}: this is no file of `gleaner capture`")
    return found
