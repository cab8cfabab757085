"""Record what NVML answered to a file: a driver that surprised us, kept; `replay` plays it back.

One JSON object per line, `{"seconds": since the start, "answer": …}`, with the child's raw
answers. They hold no user and no host name; the GPUs' UUIDs are masked, pids stay numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from gleaner.settings import GpuSettings
from services.collector.nvml.answers import Answer
from services.collector.nvml.driver import NvmlSource


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
