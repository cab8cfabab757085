"""Ask NVML in a process of its own: a driver call may hang for ever or take its process down.

Run by `services.collector.nvml` as `python -I -S nvml_child.py DIRECTORY PARENT`, where DIRECTORY
holds `pynvml` and PARENT is the caller's pid. It imports next to nothing, so that it stays below
20 MB and starts at once. The first line it writes says what hardware there is, or why the driver
cannot be asked; then each line read (`sweep`, or `hardware` for the first line anew) is answered
with one line of JSON. It ends when its input does, or with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
UNSUPPORTED_SECONDS = 300.0
"""What a GPU does not support is asked again after this; a driver may learn it."""
SENTINELS = (0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF)
"""NVML's "value not available"; printed as it is, it is 17179869184 GiB."""

NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND = 3, 4, 13
LIBRARY_NOT_FOUND = 12
FATAL = (1, 9, 18)
"""Uninitialized, driver not loaded, library and kernel module differ: only a new process helps."""
LOST = (15, 16)
"""GPU is lost, GPU requires a reset: nothing works on it any more."""

THROTTLE_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}

Values = dict[str, Any]


class Question(NamedTuple):
    """One call, the readings it answers and how long an answer is good for."""

    names: tuple[str, ...]
    ask: Callable[[Any, Any], tuple[Any, ...]]
    seconds: float = 0.0


def _utilization(nvml: Any, handle: Any) -> tuple[Any, ...]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu, rates.memory


def _memory(nvml: Any, handle: Any) -> tuple[Any, ...]:
    # Version 1 counts what the driver reserves for itself as used.
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND, 25):
            raise
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return memory.used, memory.total


def _throttle_reasons(nvml: Any, handle: Any) -> tuple[Any, ...]:
    bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return ([name for bit, name in THROTTLE_REASONS.items() if bits & bit],)


QUESTIONS = (
    Question(("utilization_percent", "memory_utilization_percent"), _utilization),
    Question(("memory_used_bytes", "memory_total_bytes"), _memory),
    Question(("temperature_celsius",), lambda n, h: (n.nvmlDeviceGetTemperature(h, 0),)),
    Question(("power_watts",), lambda n, h: (_scaled(n.nvmlDeviceGetPowerUsage(h)),)),
    Question(("sm_clock_mhz",), lambda n, h: (n.nvmlDeviceGetClockInfo(h, 1),)),
    Question(("memory_clock_mhz",), lambda n, h: (n.nvmlDeviceGetClockInfo(h, 2),)),
    Question(("performance_state",), lambda n, h: (n.nvmlDeviceGetPerformanceState(h),)),
    Question(("energy_joules",), lambda n, h: (_scaled(n.nvmlDeviceGetTotalEnergyConsumption(h)),)),
    Question(("throttle_reasons",), _throttle_reasons),
    # A fan costs 0.1 ms to ask, error counters more.
    Question(("fan_percent",), lambda n, h: (n.nvmlDeviceGetFanSpeed(h),), 10),
    Question(
        ("power_limit_watts",), lambda n, h: (_scaled(n.nvmlDeviceGetEnforcedPowerLimit(h)),), 60
    ),
    Question(
        ("ecc_uncorrected_errors",), lambda n, h: (n.nvmlDeviceGetTotalEccErrors(h, 1, 0),), 60
    ),
)

PROCESS_LISTS = (
    ("compute", "nvmlDeviceGetComputeRunningProcesses"),
    ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
    ("mps", "nvmlDeviceGetMPSComputeRunningProcesses"),
)


def _scaled(thousandths: int) -> float | int:
    """Milliwatts to watts, millijoules to joules; a sentinel stays what it is."""
    return thousandths if thousandths in SENTINELS else thousandths / 1000


def _text(error: Any) -> str:
    known = {
        NOT_SUPPORTED: "unsupported",
        FUNCTION_NOT_FOUND: "unsupported",
        NO_PERMISSION: "no permission",
    }
    return known.get(error.value) or str(error)


class Gpu:
    """One GPU or MIG device; what it does not support is remembered."""

    def __init__(self, nvml: Any, handle: Any, facts: Values) -> None:
        self._nvml = nvml
        self.handle = handle
        self.facts = facts
        self.gpu: str = facts["gpu"]
        self._values: Values = {}
        self._problems: dict[str, str] = {}
        self._due: dict[str, float] = {}

    def sweep(self, now: float) -> Values:
        """Return everything about it; raise NVMLError only for what ends the whole process."""
        try:
            for question in QUESTIONS:
                self._ask(question, now)
            processes = self._processes(now)
            lost = None
        except self._nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            processes, lost = None, str(error)
            self._values, self._problems, self._due = {}, {}, {}
        return {
            "gpu": self.gpu,
            "index": self.facts["index"],
            "values": self._values,
            "problems": self._problems,
            "processes": processes,
            "lost": lost,
        }

    def _ask(self, question: Question, now: float) -> None:
        first = question.names[0]
        if self._due.get(first, 0.0) > now:
            return
        try:
            answers = question.ask(self._nvml, self.handle)
        except self._nvml.NVMLError as error:
            self._fail(question.names, error, now)
            return
        self._due[first] = now + question.seconds
        for name, value in zip(question.names, answers, strict=True):
            if value in SENTINELS:
                self._values.pop(name, None)
                self._problems[name] = "not available"
            else:
                self._values[name] = value
                self._problems.pop(name, None)

    def _fail(self, names: tuple[str, ...], error: Any, now: float) -> bool:
        """Note what went wrong; return whether the GPU just does not support it."""
        if error.value in FATAL + LOST:
            raise error
        for name in names:
            self._values.pop(name, None)
            self._problems[name] = _text(error)
        unsupported = error.value in (NOT_SUPPORTED, FUNCTION_NOT_FOUND)
        if unsupported:
            self._due[names[0]] = now + UNSUPPORTED_SECONDS
        return unsupported

    def _processes(self, now: float) -> list[Values] | None:
        """Return who the driver lists, each pid once; None if it does not say."""
        found: dict[int, Values] = {}
        answered = False
        for kind, function in PROCESS_LISTS:
            if self._due.get(kind, 0.0) > now:
                continue
            try:
                listed = self._list(function)
            except self._nvml.NVMLError as error:
                if not self._fail((kind,), error, now):
                    return None
                continue
            answered = True
            self._problems.pop(kind, None)
            for one in listed:
                # NVML lists a process twice when it uses both graphics and compute.
                entry = found.setdefault(one.pid, {"pid": one.pid, "kinds": [], "memory": None})
                entry["kinds"].append(kind)
                memory = None if one.usedGpuMemory in SENTINELS else one.usedGpuMemory
                if memory is not None:
                    entry["memory"] = max(memory, entry["memory"] or 0)
        return list(found.values()) if answered else None

    def _list(self, function: str) -> list[Any]:
        try:
            # The function without a version raises no NVMLError where an old driver lacks it.
            return list(getattr(self._nvml, function + "_v3")(self.handle))
        except self._nvml.NVMLError as error:
            if error.value != FUNCTION_NOT_FOUND:
                raise
            # Drivers before 510 have only the second version.
            return list(getattr(self._nvml, function + "_v2")(self.handle))


class Driver:
    """NVML, opened once; a new process is the only way to open it anew."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
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
                self._parents.append(Gpu(nvml, handle, self._facts(handle, index)))
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
        return {"sweep": [gpu.sweep(now) for gpu in self.gpus]}

    def _facts(self, handle: Any, index: int, parent: str | None = None) -> Values:
        nvml = self._nvml
        pci = None if parent else self._try(nvml.nvmlDeviceGetPciInfo, handle)
        memory = self._try(_memory, nvml, handle)
        limit = None if parent else self._try(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        return {
            "gpu": _string(nvml.nvmlDeviceGetUUID(handle)),
            "index": index,
            "minor": None if parent else self._try(nvml.nvmlDeviceGetMinorNumber, handle),
            "name": _string(self._try(nvml.nvmlDeviceGetName, handle)),
            "memory_total_bytes": memory[1] if memory else None,
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
                found.append(Gpu(nvml, handle, self._facts(handle, index, parent.gpu)))
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
    driver = Driver(pynvml)
    try:
        say(driver.open())
        for line in sys.stdin:
            say(driver.hardware() if line == "hardware\n" else driver.sweep())
    except pynvml.NVMLError as error:
        say({"problem": str(error), "code": error.value})


if __name__ == "__main__":
    main()
