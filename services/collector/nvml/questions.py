"""What is asked about a GPU: one question is one call, what it answers and how long that is good.

Part of the NVML child, which imports nothing else of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 2, 3, 4, 6
FUNCTION_NOT_FOUND = 13
FATAL = (1, 9, 18)
"""Uninitialized, driver not loaded, library and kernel module differ: only a new process helps."""
LOST = (15, 16)
"""GPU is lost, GPU requires a reset: nothing works on it any more."""
SENTINELS = (0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF)
"""NVML's "value not available"; printed as it is, it is 17179869184 GiB."""
_VERSION_MISMATCH = 25

_FIELD_MEMORY_TEMPERATURE = 82
_FIELD_RECOVERY_ACTION = 230
_RECOVERY_ACTIONS = {
    0: "none",
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}
_THROTTLE_REASONS = {
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
_CORRECTED, _UNCORRECTED = 0, 1
_VOLATILE, _AGGREGATE = 0, 1
_SENT, _RECEIVED = 0, 1
_MINUTE = 60.0


class Question(NamedTuple):
    """One call, the readings it answers and how many seconds an answer is good for."""

    names: tuple[str, ...]
    ask: Callable[[Any, Any], tuple[Any, ...]]
    seconds: float = 0.0


def memory(nvml: Any, handle: Any) -> tuple[Any, ...]:
    """Return bytes used, in all, and reserved (None from an old driver)."""
    # Version 1 counts what the driver reserves for itself as used.
    try:
        found = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND, _VERSION_MISMATCH):
            raise
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
    return found.used, found.total, getattr(found, "reserved", None)


def text_of(error: Any) -> str:
    """Return why there is no answer, in the words of the contract."""
    known = {
        NOT_SUPPORTED: "unsupported",
        FUNCTION_NOT_FOUND: "unsupported",
        NO_PERMISSION: "no permission",
    }
    return known.get(error.value) or str(error)


def _utilization(nvml: Any, handle: Any) -> tuple[Any, ...]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu, rates.memory


def _throttle_reasons(nvml: Any, handle: Any) -> tuple[Any, ...]:
    bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return ([name for bit, name in _THROTTLE_REASONS.items() if bits & bit],)


def _retired_pages(nvml: Any, handle: Any) -> tuple[Any, ...]:
    pages = sum(len(nvml.nvmlDeviceGetRetiredPages(handle, cause)) for cause in (0, 1))
    return pages, bool(nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle))


def _remapped_rows(nvml: Any, handle: Any) -> tuple[Any, ...]:
    correctable, uncorrectable, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    return correctable, uncorrectable, bool(pending), bool(failed)


def _pcie_link(nvml: Any, handle: Any) -> tuple[Any, ...]:
    generation = nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
    return generation, nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)


def _pcie_link_max(nvml: Any, handle: Any) -> tuple[Any, ...]:
    generation = nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)
    return generation, nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)


def _recovery_action(nvml: Any, handle: Any) -> tuple[Any, ...]:
    number = _field(nvml, handle, _FIELD_RECOVERY_ACTION)
    return (_RECOVERY_ACTIONS.get(number, f"action {number}"),)


def _field(nvml: Any, handle: Any, number: int) -> int:
    (found,) = nvml.nvmlDeviceGetFieldValues(handle, [number])
    if found.nvmlReturn:
        raise nvml.NVMLError(found.nvmlReturn)
    return int(found.value.uiVal)


def _ecc(kind: int, counter: int) -> Callable[[Any, Any], tuple[Any, ...]]:
    return lambda nvml, handle: (nvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter),)


def _clock(kind: int) -> Callable[[Any, Any], tuple[Any, ...]]:
    return lambda nvml, handle: (nvml.nvmlDeviceGetClockInfo(handle, kind),)


def _pcie_throughput(direction: int) -> Callable[[Any, Any], tuple[Any, ...]]:
    # NVML's KB are 1024 bytes.
    return lambda nvml, handle: (_times(nvml.nvmlDeviceGetPcieThroughput(handle, direction), 1024),)


def _times(value: int, factor: float) -> float | int:
    """Return another unit of a value; a sentinel stays what it is."""
    return value if value in SENTINELS else value * factor


def _thousandths(value: int) -> float | int:
    """Milliwatts to watts, millijoules to joules; a sentinel stays what it is."""
    return value if value in SENTINELS else value / 1000


QUESTIONS = (
    Question(("utilization_percent", "memory_utilization_percent"), _utilization),
    Question(("memory_used_bytes", "memory_total_bytes", "memory_reserved_bytes"), memory),
    Question(("temperature_celsius",), lambda n, h: (n.nvmlDeviceGetTemperature(h, 0),)),
    Question(("power_watts",), lambda n, h: (_thousandths(n.nvmlDeviceGetPowerUsage(h)),)),
    Question(("sm_clock_mhz",), _clock(1)),
    Question(("memory_clock_mhz",), _clock(2)),
    Question(("performance_state",), lambda n, h: (n.nvmlDeviceGetPerformanceState(h),)),
    Question(
        ("energy_joules",), lambda n, h: (_thousandths(n.nvmlDeviceGetTotalEnergyConsumption(h)),)
    ),
    Question(("throttle_reasons",), _throttle_reasons),
    # A fan costs 0.1 ms to ask, error counters more.
    Question(("fan_percent",), lambda n, h: (n.nvmlDeviceGetFanSpeed(h),), 10),
    Question(
        ("memory_temperature_celsius",), lambda n, h: (_field(n, h, _FIELD_MEMORY_TEMPERATURE),), 10
    ),
    Question(("graphics_clock_mhz",), _clock(0), 10),
    Question(("video_clock_mhz",), _clock(3), 10),
    Question(("encoder_percent",), lambda n, h: (n.nvmlDeviceGetEncoderUtilization(h)[0],), 10),
    Question(("decoder_percent",), lambda n, h: (n.nvmlDeviceGetDecoderUtilization(h)[0],), 10),
    Question(("pcie_generation", "pcie_width"), _pcie_link, 10),
    Question(
        ("power_limit_watts",),
        lambda n, h: (_thousandths(n.nvmlDeviceGetEnforcedPowerLimit(h)),),
        _MINUTE,
    ),
    Question(("ecc_corrected_errors",), _ecc(_CORRECTED, _VOLATILE), _MINUTE),
    Question(("ecc_uncorrected_errors",), _ecc(_UNCORRECTED, _VOLATILE), _MINUTE),
    Question(("recovery_action",), _recovery_action, _MINUTE),
    Question(
        (
            "remapped_rows_correctable",
            "remapped_rows_uncorrectable",
            "remapping_pending",
            "remapping_failed",
        ),
        _remapped_rows,
        _MINUTE,
    ),
    Question(("pcie_generation_max", "pcie_width_max"), _pcie_link_max, 60 * _MINUTE),
    Question(("ecc_aggregate_uncorrected_errors",), _ecc(_UNCORRECTED, _AGGREGATE), 10 * _MINUTE),
    Question(("ecc_aggregate_corrected_errors",), _ecc(_CORRECTED, _AGGREGATE), 10 * _MINUTE),
)
"""What is asked of every GPU in the sweep in which it is due."""

DEAR_QUESTIONS = (
    Question(("retired_pages", "retired_pages_pending"), _retired_pages, 10 * _MINUTE),
    # The driver counts for 20 ms and lets us wait for so long.
    Question(("pcie_sent_bytes_per_second",), _pcie_throughput(_SENT), _MINUTE),
    Question(("pcie_received_bytes_per_second",), _pcie_throughput(_RECEIVED), _MINUTE),
)
"""One of these of one GPU in a sweep, at most: a check must not wait for all of them at once."""
