"""Record what NVML answered to a file, and play it back: a driver that surprised us, kept.

One JSON object per line, `{"seconds": since the start, "answer": …}`, with the child's raw
answers. They hold no user and no host name; the GPUs' UUIDs are masked, pids stay numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from gleaner.bus.messages import HostReading
from gleaner.settings import GpuSettings
from services.collector import answers
from services.collector.answers import Answer
from services.collector.interface import Hardware, SourceName, Sweep
from services.collector.nvml import NvmlSource


async def capture(path: Path, seconds: float, settings: GpuSettings) -> int:
    """Record the driver's answers for some seconds; return how many sweeps there are."""
    started = time.monotonic()
    sweeps = 0
    with path.open("w") as file:

        def keep(answer: Answer) -> None:
            nonlocal sweeps
            sweeps += "sweep" in answer
            line = {"seconds": round(time.monotonic() - started, 3), "answer": masked(answer)}
            file.write(json.dumps(line) + "\n")
            file.flush()

        source = NvmlSource(settings.deadline_seconds, settings.device_directory, keep)
        try:
            while time.monotonic() - started < seconds:
                await source.sweep()
                await asyncio.sleep(settings.check_seconds)
        finally:
            await source.close()
    return sweeps


def masked(value: Any) -> Any:
    """Return an answer with each GPU's UUID replaced by one that means nothing elsewhere."""
    match value:
        case dict():
            return {
                key: _mask(one) if key in ("gpu", "parent") and one else masked(one)
                for key, one in value.items()
            }
        case list():
            return [masked(one) for one in value]
        case _:
            return value


def _mask(uuid: str) -> str:
    kind = uuid.partition("-")[0]
    return f"{kind}-{hashlib.sha256(uuid.encode()).hexdigest()[:32]}"


class CaptureSource:
    """A `Source` that answers what was recorded; the last answer stays."""

    name: SourceName = "nvml"

    def __init__(self, path: Path, device_directory: Path) -> None:
        self._directory = device_directory
        self._answers: list[Answer] = [
            json.loads(line)["answer"] for line in path.read_text().splitlines()
        ]
        self._hardware = Hardware(
            gpus=(),
            driver_version=None,
            problem=None,
            limitations=("these are recorded readings",),
            devices={},
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
            limitations = (*found.limitations, "these are recorded readings")
            self._hardware = replace(found, limitations=limitations)
        return self._hardware

    async def sweep(self) -> Sweep:
        """See `Source`."""
        hardware = await self.hardware()
        if hardware.problem is not None or not self._answers:
            return Sweep(gpus=(), problem=hardware.problem or "nothing was recorded")
        if self._next < len(self._answers):
            self._next += 1
        return answers.sweep(self._answers[self._next - 1], hardware.gpus)

    async def host(self) -> HostReading:
        """See `Source`; the host was not recorded."""
        return HostReading()

    async def close(self) -> None:
        """See `Source`."""
