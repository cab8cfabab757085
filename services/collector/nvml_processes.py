"""Ask the driver for processes: who is there, what share each has, and who has been there.

Part of the NVML child, which imports nothing else of ours.
"""

from __future__ import annotations

import time
from typing import Any

from services.collector.nvml_questions import FATAL, FUNCTION_NOT_FOUND, NOT_FOUND, SENTINELS

PROCESS_LISTS = (
    ("compute", "nvmlDeviceGetComputeRunningProcesses"),
    ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
    ("mps", "nvmlDeviceGetMPSComputeRunningProcesses"),
)
_ENABLED = 1
Share = tuple[int, int, int, int]


def listed(nvml: Any, handle: Any, function: str) -> list[Any]:
    """Return one of the driver's lists."""
    try:
        # The function without a version raises no NVMLError where an old driver lacks it.
        return list(getattr(nvml, function + "_v3")(handle))
    except nvml.NVMLError as error:
        if error.value != FUNCTION_NOT_FOUND:
            raise
        # Drivers before 510 have only the second version.
        return list(getattr(nvml, function + "_v2")(handle))


def shares(nvml: Any, handle: Any, seconds: float) -> dict[int, Share]:
    """Return pid to its latest share of SM, memory, encoder and decoder, in percent.

    Whoever did nothing for so many seconds is left out.
    """
    since = int((time.time() - seconds) * 1e6)
    try:
        samples = nvml.nvmlDeviceGetProcessUtilization(handle, since)
    except nvml.NVMLError as error:
        # The binding raises 0 where the driver has no samples and says that this is fine.
        if error.value in (0, NOT_FOUND):
            return {}
        raise
    found: dict[int, Share] = {}
    for one in sorted(samples, key=lambda sample: int(sample.timeStamp)):
        share = (one.smUtil, one.memUtil, one.encUtil, one.decUtil)
        # With zombies about, some drivers answer with numbers that are none.
        if one.timeStamp and max(share) <= 100:
            found[one.pid] = share
    return found


class Accounts:
    """The driver's own accounting of one GPU's processes, which it keeps after they have ended."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Switch it on; raise NVMLError where that is not possible or not allowed."""
        self._nvml, self._handle = nvml, handle
        if nvml.nvmlDeviceGetAccountingMode(handle) != _ENABLED:
            nvml.nvmlDeviceSetAccountingMode(handle, _ENABLED)
        self._told: set[tuple[int, int]] = set()
        # Who ended before we came was perhaps told by whoever was here before us.
        self.ended()

    def ended(self) -> list[dict[str, Any]]:
        """Return who has ended since the last time."""
        found, there = [], set()
        for pid in self._nvml.nvmlDeviceGetAccountingPids(self._handle):
            stats = self._stats(pid)
            if stats is None or stats.isRunning:
                continue
            key = (pid, stats.startTime)
            there.add(key)
            if key not in self._told:
                found.append(_account(pid, stats))
        # What the driver has forgotten, we may forget.
        self._told = there
        return found

    def _stats(self, pid: int) -> Any:
        try:
            return self._nvml.nvmlDeviceGetAccountingStats(self._handle, pid)
        except TypeError:
            # The binding (13.615) stumbles over memory that NVML says is not available.
            return None
        except self._nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            return None


def _account(pid: int, stats: Any) -> dict[str, Any]:
    return {
        "pid": pid,
        "started_at": stats.startTime / 1e6,
        "active_seconds": stats.time / 1e3,
        "memory": stats.maxMemoryUsage,
        "utilization": known(stats.gpuUtilization),
        "memory_utilization": known(stats.memoryUtilization),
    }


def known(value: int | None) -> int | None:
    """Return a value; None where NVML says that it has none."""
    return None if value in SENTINELS else value
