"""Ask the driver for processes: who is there, what share each has, and who has been there.

Part of the NVML child, which imports nothing else of ours.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from services.collector.nvml.questions import FATAL, FUNCTION_NOT_FOUND, NOT_FOUND, SENTINELS

PROCESS_LISTS = (
    ("compute", "nvmlDeviceGetComputeRunningProcesses"),
    ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
    ("mps", "nvmlDeviceGetMPSComputeRunningProcesses"),
)
_ENABLED = 1
_AT_ONCE = 200
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

    def __init__(self, nvml: Any, handle: Any, running: Collection[int]) -> None:
        """Switch it on; raise NVMLError where that is not possible or not allowed.

        Who ended before we came was perhaps told by whoever was here before us.
        """
        self._nvml, self._handle = nvml, handle
        if nvml.nvmlDeviceGetAccountingMode(handle) != _ENABLED:
            nvml.nvmlDeviceSetAccountingMode(handle, _ENABLED)
        self._told = set(nvml.nvmlDeviceGetAccountingPids(handle)).difference(running)

    def ended(self, running: Collection[int]) -> list[dict[str, Any]]:
        """Return who has ended since the last time; `running` are those on the driver's lists."""
        pids = self._nvml.nvmlDeviceGetAccountingPids(self._handle)
        # What the driver has forgotten, we may forget; a pid that runs is one that begins anew.
        self._told.intersection_update(pids)
        self._told.difference_update(running)
        found = []
        # The driver keeps thousands, so nobody is asked about twice, and not all are at once.
        for pid in [one for one in pids if one not in self._told and one not in running][:_AT_ONCE]:
            stats = self._stats(pid)
            if stats is not None and stats.isRunning:
                continue
            self._told.add(pid)
            if stats is not None:
                found.append(_account(pid, stats))
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
