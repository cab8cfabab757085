"""Ask NVML in a process of its own: a driver call may hang for ever or take its process down.

Run by `driver.py` as `python -I -S nvml_child.py DIRECTORY PARENT [accounting]`, where DIRECTORY
holds `pynvml` and PARENT is the caller's pid. It imports next to nothing, so that it stays below
20 MB and starts at once. The first line it writes says what hardware there is, or
why the driver cannot be asked; then each line read (`sweep`, or `hardware` for the first line anew)
is answered with one line of JSON. It ends when its input does, or with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

# Where `services` is: nothing else says where we are installed.
sys.path.append(os.path.abspath(os.path.join(__file__, *[os.pardir] * 4)))
from services.collector.nvml.gpu import Gpu, Values
from services.collector.nvml.questions import FATAL, SENTINELS, memory

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15


class Driver:
    """NVML, opened once; a new process is the only way to open it anew."""

    def __init__(self, nvml: Any, *, accounting: bool) -> None:
        self._nvml = nvml
        self._accounting = accounting
        self.missing: dict[str, str] = {}
        self._count = 0
        self._parents: list[Gpu] = []
        self._instances: list[Gpu] = []

    @property
    def gpus(self) -> list[Gpu]:
        """All GPUs, and then all MIG devices."""
        return self._parents + self._instances

    def open(self) -> Values:
        """Open NVML and return what hardware there is."""
        nvml = self._nvml
        nvml.nvmlInit()
        self._count = nvml.nvmlDeviceGetCount()
        for index in range(self._count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                self._parents.append(self._gpu(handle, self._facts(handle, index)))
            except nvml.NVMLError as error:
                if error.value in FATAL:
                    raise
                self.missing[str(index)] = str(error)
        return self.hardware()

    def hardware(self) -> Values:
        """Return what hardware there is; MIG devices come and go by the administrator's will."""
        instances: list[Gpu] = []
        for parent in self._parents:
            instances += self._mig_devices(parent, {*self._instances, *instances})
        self._instances = instances
        return {
            "driver_version": self._try(self._nvml.nvmlSystemGetDriverVersion),
            "gpus": [gpu.facts for gpu in self.gpus],
            "missing": self.missing,
        }

    def sweep(self) -> Values:
        """Return everything about every GPU."""
        now = time.monotonic()
        dear = [(*gpu.next_dear(), gpu) for gpu in self.gpus]
        if dear:
            due, question, gpu = min(dear, key=lambda one: one[0])
            if due <= now:
                gpu.ask_dear(question, now)
        return {"sweep": [gpu.sweep(now) for gpu in self.gpus]}

    def _gpu(self, handle: Any, facts: Values) -> Gpu:
        return Gpu(self._nvml, handle, facts, accounting=self._accounting)

    def _facts(self, handle: Any, index: int, parent: str | None = None) -> Values:
        nvml = self._nvml
        pci = None if parent else self._try(nvml.nvmlDeviceGetPciInfo, handle)
        found = self._try(memory, nvml, handle)
        limit = None if parent else self._try(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        return {
            "gpu": _string(nvml.nvmlDeviceGetUUID(handle)),
            "index": index,
            "minor": None if parent else self._try(nvml.nvmlDeviceGetMinorNumber, handle),
            "name": _string(self._try(nvml.nvmlDeviceGetName, handle)),
            "memory_total_bytes": found[1] if found else None,
            "power_limit_watts": None if limit in (None, *SENTINELS) else limit / 1000,
            "pci_bus_id": _string(pci.busId) if pci else None,
            "parent": parent,
            "schedulable": True,
        }

    def _mig_devices(self, parent: Gpu, others: set[Gpu]) -> list[Gpu]:
        """Return the MIG devices of a GPU; those that are known keep their index."""
        nvml = self._nvml
        known = {one.gpu: one for one in self._instances if one.facts["parent"] == parent.gpu}
        try:
            mode, _ = nvml.nvmlDeviceGetMigMode(parent.handle)
        except nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            # It has no such mode, or cannot be asked just now: then nothing is known to be new.
            return list(known.values())
        parent.facts["schedulable"] = mode != 1
        if mode != 1:
            return []
        found: list[Gpu] = []
        for number in range(self._try(nvml.nvmlDeviceGetMaxMigDeviceCount, parent.handle) or 0):
            handle = self._try(nvml.nvmlDeviceGetMigDeviceHandleByIndex, parent.handle, number)
            gpu = handle and _string(self._try(nvml.nvmlDeviceGetUUID, handle))
            if gpu in known:
                known[gpu].handle = handle
                found.append(known[gpu])
            elif gpu:
                index = _free(self._count, {one.facts["index"] for one in (*others, *found)})
                found.append(self._gpu(handle, self._facts(handle, index, parent.gpu)))
        return found

    def _try(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            return None


def _free(first: int, used: set[int]) -> int:
    return first if first not in used else _free(first + 1, used)


def _string(value: Any) -> str | None:
    """Older bindings answer with bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    """Answer until the input ends."""
    directory, parent = sys.argv[1], int(sys.argv[2])
    _die_with(parent)
    # So that it is known as what it is, and not as some Python: a collector beside us (or
    # `gleaner capture`) must not take it for a stranger.
    ctypes.CDLL(None).prctl(PR_SET_NAME, os.path.basename(__file__).encode(), 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A library that prints must not print into our answers.
    answers = os.dup(1)
    os.dup2(2, 1)

    def say(answer: Values) -> None:
        line = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(answers, line) :]

    sys.path.append(directory)
    try:
        import pynvml
    except ImportError as error:
        say({"problem": f"the Python module pynvml cannot be loaded: {error}", "code": 12})
        return
    driver = Driver(pynvml, accounting="accounting" in sys.argv[3:])
    try:
        say(driver.open())
        for line in sys.stdin:
            say(driver.hardware() if line == "hardware\n" else driver.sweep())
    except pynvml.NVMLError as error:
        say({"problem": str(error), "code": error.value})


if __name__ == "__main__":
    main()
