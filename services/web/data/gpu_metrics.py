"""What `/metrics` says of the readings of GPUs and hosts; pure.

Base units as Prometheus wants them: ratios instead of percent, hertz, joules. Which reading
becomes what stands in tables, so that a new one is a line here.
"""

from __future__ import annotations

from gleaner.bus.messages import GpuReading, HostReading
from services.web.data.exposition import Exposition, Family, labels

PERCENT = 0.01
MEGAHERTZ = 1_000_000


def _gauge(name: str, text: str) -> Family:
    return Family(name=name, text=text)


def _counter(name: str, text: str) -> Family:
    return Family(name=name, text=text, kind="counter")


GPU = (
    ("utilization_percent", PERCENT, _gauge(
        "gleaner_gpu_utilization_ratio", "Share of time in which a kernel ran.")),
    ("memory_utilization_percent", PERCENT, _gauge(
        "gleaner_gpu_memory_controller_utilization_ratio",
        "Activity of the memory controller; not memory in use.")),
    ("encoder_percent", PERCENT, _gauge(
        "gleaner_gpu_encoder_utilization_ratio", "Activity of the video encoder.")),
    ("decoder_percent", PERCENT, _gauge(
        "gleaner_gpu_decoder_utilization_ratio", "Activity of the video decoder.")),
    ("memory_used_bytes", 1, _gauge("gleaner_gpu_memory_used_bytes", "Memory in use.")),
    ("memory_reserved_bytes", 1, _gauge(
        "gleaner_gpu_memory_reserved_bytes", "Memory that the driver keeps for itself.")),
    ("unattributed_memory_bytes", 1, _gauge(
        "gleaner_gpu_memory_unattributed_bytes", "Memory in use by no process we can name.")),
    ("temperature_celsius", 1, _gauge("gleaner_gpu_temperature_celsius", "Temperature.")),
    ("memory_temperature_celsius", 1, _gauge(
        "gleaner_gpu_memory_temperature_celsius", "Temperature of the memory.")),
    ("power_watts", 1, _gauge("gleaner_gpu_power_watts", "Power drawn.")),
    ("power_limit_watts", 1, _gauge("gleaner_gpu_power_limit_watts", "Power limit in force.")),
    ("energy_joules", 1, _counter(
        "gleaner_gpu_energy_joules_total", "Energy since the driver was loaded.")),
    ("fan_percent", PERCENT, _gauge(
        "gleaner_gpu_fan_speed_ratio", "Speed of the fan, of its fastest.")),
    ("performance_state", 1, _gauge(
        "gleaner_gpu_performance_state", "Performance state; 0 is the fastest.")),
    ("pcie_generation", 1, _gauge(
        "gleaner_gpu_pcie_link_generation", "Generation of the PCIe link as it is.")),
    ("pcie_generation_max", 1, _gauge(
        "gleaner_gpu_pcie_link_generation_max", "The best that GPU and slot can do.")),
    ("pcie_width", 1, _gauge("gleaner_gpu_pcie_link_width", "PCIe lanes in use.")),
    ("pcie_width_max", 1, _gauge("gleaner_gpu_pcie_link_width_max", "PCIe lanes there are.")),
    ("pcie_sent_bytes_per_second", 1, _gauge(
        "gleaner_gpu_pcie_sent_bytes_per_second", "From the GPU, over 20 ms once a minute.")),
    ("pcie_received_bytes_per_second", 1, _gauge(
        "gleaner_gpu_pcie_received_bytes_per_second", "To the GPU, over 20 ms once a minute.")),
    ("remapping_pending", 1, _gauge(
        "gleaner_gpu_row_remapping_pending", "Whether a row is replaced with the next reset.")),
    ("remapping_failed", 1, _gauge(
        "gleaner_gpu_row_remapping_failed", "Whether there was no spare row left.")),
    ("retired_pages", 1, _gauge(
        "gleaner_gpu_retired_pages", "Pages of memory that are used no more.")),
    ("retired_pages_pending", 1, _gauge(
        "gleaner_gpu_retired_pages_pending", "Whether pages are retired with the next reset.")),
)  # fmt: skip
"""A reading, what it is multiplied by, and the family it goes to."""

_ECC = _counter("gleaner_gpu_ecc_errors_total", "Since the driver was loaded or the GPU reset.")
_ECC_LIFE = _counter("gleaner_gpu_ecc_lifetime_errors_total", "Of the card's whole life.")
_ROWS = _gauge("gleaner_gpu_remapped_rows", "Rows of memory replaced by spare ones, by cause.")
_CLOCK = _gauge("gleaner_gpu_clock_hertz", "Clock of a part of the GPU.")
GPU_BY_LABEL = (
    ("ecc_corrected_errors", 1, _ECC, 'error="corrected"'),
    ("ecc_uncorrected_errors", 1, _ECC, 'error="uncorrected"'),
    ("ecc_aggregate_corrected_errors", 1, _ECC_LIFE, 'error="corrected"'),
    ("ecc_aggregate_uncorrected_errors", 1, _ECC_LIFE, 'error="uncorrected"'),
    ("remapped_rows_correctable", 1, _ROWS, 'error="corrected"'),
    ("remapped_rows_uncorrectable", 1, _ROWS, 'error="uncorrected"'),
    ("sm_clock_mhz", MEGAHERTZ, _CLOCK, 'clock="sm"'),
    ("memory_clock_mhz", MEGAHERTZ, _CLOCK, 'clock="memory"'),
    ("graphics_clock_mhz", MEGAHERTZ, _CLOCK, 'clock="graphics"'),
    ("video_clock_mhz", MEGAHERTZ, _CLOCK, 'clock="video"'),
)
"""As above, for several readings of one family."""

THROTTLED = _gauge(
    "gleaner_gpu_throttled", "Whether anything but a lack of work holds the clocks back."
)
THROTTLE_REASON = _gauge(
    "gleaner_gpu_throttle_reason", "1 for each reason why clocks are held back; absent otherwise."
)
RECOVERY = _gauge("gleaner_gpu_recovery_action", "1 for what the driver asks for; `none` is well.")
XIDS = _counter(
    "gleaner_gpu_xid_errors_total", "XID errors since the collector began to listen, by number."
)

HOST = (
    ("cpu_percent", PERCENT, _gauge("gleaner_node_cpu_utilization_ratio", "Of all CPUs.")),
    ("cpu_count", 1, _gauge("gleaner_node_cpus", "Logical CPUs.")),
    ("load_1_minute", 1, _gauge("gleaner_node_load1", "Load, mean of a minute.")),
    ("load_5_minutes", 1, _gauge("gleaner_node_load5", "Load, mean of five minutes.")),
    ("load_15_minutes", 1, _gauge("gleaner_node_load15", "Load, mean of a quarter of an hour.")),
    ("memory_total_bytes", 1, _gauge("gleaner_node_memory_total_bytes", "RAM there is.")),
    ("memory_used_bytes", 1, _gauge("gleaner_node_memory_used_bytes", "RAM in use.")),
    ("network_received_bytes_per_second", 1, _gauge(
        "gleaner_node_network_received_bytes_per_second", "By all real interfaces.")),
    ("network_sent_bytes_per_second", 1, _gauge(
        "gleaner_node_network_sent_bytes_per_second", "By all real interfaces.")),
    ("uptime_seconds", 1, _gauge("gleaner_node_uptime_seconds", "Since the host was started.")),
)  # fmt: skip
DISK_TOTAL = _gauge("gleaner_node_filesystem_size_bytes", "Size of a local file system.")
DISK_USED = _gauge("gleaner_node_filesystem_used_bytes", "Its part in use.")


def add_gpu(page: Exposition, who: str, reading: GpuReading) -> None:
    """Add all readings of a GPU, `who` in labels."""
    for field, scale, family in GPU:
        page.add(family, who, getattr(reading, field), scale=scale)
    for field, scale, family, which in GPU_BY_LABEL:
        page.add(family, f"{who},{which}", getattr(reading, field), scale=scale)
    if reading.throttle_reasons is not None:
        page.add(THROTTLED, who, any(one != "gpu_idle" for one in reading.throttle_reasons))
        for reason in reading.throttle_reasons:
            page.add(THROTTLE_REASON, f"{who},{labels(reason=reason)}", 1)
    if reading.recovery_action is not None:
        page.add(RECOVERY, f"{who},{labels(action=reading.recovery_action)}", 1)
    for xid in reading.xids or ():
        which = labels(xid=xid.number, severity=xid.severity)
        page.add(XIDS, f"{who},{which}", xid.count)


def add_host(page: Exposition, who: str, reading: HostReading) -> None:
    """Add all readings of a host."""
    for field, scale, family in HOST:
        page.add(family, who, getattr(reading, field), scale=scale)
    for disk in reading.disks:
        mount = f"{who},{labels(mountpoint=disk.mount)}"
        page.add(DISK_TOTAL, mount, disk.total_bytes)
        page.add(DISK_USED, mount, disk.used_bytes)
