"""What the machine itself has: clock, driver, devices, ways to notice people and to limit runs."""

from __future__ import annotations

import ctypes
import os
from datetime import UTC, datetime
from pathlib import Path

from gleaner.cli.doctor.finding import Finding, fail, ok, warn
from gleaner.settings import PeopleSettings

EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)
"""A clock that shows less was never set."""

_FAN_CLASS_NOTIF, _FAN_CLOEXEC, _FAN_REPORT_FID = 0, 1, 0x200
_TIME_ERROR = 5
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")
_SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
_CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")


def clock() -> Finding:
    """Look whether times can be right."""
    now = datetime.now(UTC)
    if now < EARLIEST:
        return fail(
            "clock",
            f"it is {now:%Y-%m-%d}, says this machine: history would be wrong",
            "set the clock, and run a time service",
        )
    problem = _clock_problem()
    if problem is not None:
        return warn(
            "clock",
            f"{problem}: times of this node may be off",
            "run a time service such as chrony or systemd-timesyncd",
        )
    return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, synchronized")


def _clock_problem() -> str | None:
    """Ask the kernel whether a time service keeps the clock (adjtimex, STA_UNSYNC)."""
    buffer = ctypes.create_string_buffer(256)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        return "the kernel does not say whether the clock is kept"
    return "no time service keeps the clock" if state == _TIME_ERROR else None


def driver() -> Finding:
    """Look whether NVML is there."""
    name = "NVIDIA driver"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        if _DRIVER_VERSION.exists():
            return warn(
                name,
                "loaded, but libnvidia-ml.so.1 is not found: only who holds a device is seen",
                "install the driver's libraries (in a container: its NVIDIA runtime)",
            )
        return warn(
            name,
            "none: no NVIDIA GPU can be seen here",
            "install the driver, if this machine has a GPU",
        )
    try:
        words = _DRIVER_VERSION.read_text().split("\n")[0].partition(":")[2].split()
    except OSError:
        words = []
    number = next((word for word in words if word[0].isdigit() and "." in word), None)
    return ok(name, f"NVML is there, driver {number or 'unknown'}")


def devices(directory: Path) -> Finding:
    """Look for the devices of GPUs."""
    found = sorted(
        path.name
        for path in directory.glob("nvidia*")
        if path.name.removeprefix("nvidia").isdigit()
    )
    if found:
        return ok("device files", ", ".join(found))
    return warn(
        "device files",
        f"no nvidiaN in {directory}: opens of a device cannot be noticed",
        "none needed without a GPU; in a container, pass the devices in",
    )


def noticing() -> Finding:
    """Look whether the kernel tells us who opened a device, at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.fanotify_init(_FAN_CLASS_NOTIF | _FAN_CLOEXEC | _FAN_REPORT_FID, os.O_RDONLY)
    reason = os.strerror(ctypes.get_errno()) if handle < 0 else "not root"
    if handle >= 0:
        os.close(handle)
        if os.geteuid() == 0:
            return ok("noticing", "fanotify: opens and input are noticed at once")
    return warn(
        "noticing",
        f"fanotify is not permitted ({reason}): who opened a device is found by the next "
        "check (up to a second later), and other users' terminals only by their access times",
        "run the node as root (CAP_SYS_ADMIN)",
    )


def people(settings: PeopleSettings) -> Finding:
    """Look whether people can be seen."""
    if not settings.enabled:
        return warn(
            "people",
            "not watched, as configured: nobody at a keyboard stops a run",
            "set node.people.enabled = true",
        )
    directory = settings.device_directory / "pts"
    if not directory.is_dir():
        return warn(
            "people",
            f"{directory} is not there: nobody at a terminal is seen",
            "in a container, pass the host's /dev/pts in",
        )
    count = sum(1 for path in directory.iterdir() if path.name.isdigit())
    if not _SYSTEM_BUS.exists():
        return warn(
            "people",
            f"{count} pseudo-terminals; {_SYSTEM_BUS} is not there: "
            "nobody at a graphical seat is seen",
            "none needed without desktops; in a container, pass the host's bus in",
        )
    return ok("people", f"{count} pseudo-terminals, and seats by logind")


def cgroups() -> Finding:
    """Look whether runs can be limited, and found, by groups of their own."""
    cost = "runs have no limits of memory and CPU, only low priority"
    if not _CONTROLLERS.is_file():
        return warn(
            "cgroup v2",
            f"not mounted: {cost}",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )
    if not os.access(_CONTROLLERS.parent, os.W_OK):
        return warn(
            "cgroup v2",
            f"may not be written: {cost}",
            "run the node as root, or by systemd with Delegate=yes",
        )
    missing = {"cpu", "memory", "pids"} - set(_CONTROLLERS.read_text().split())
    if missing:
        return warn(
            "cgroup v2",
            f"without {', '.join(sorted(missing))}: such limits of a run are not set",
            "enable these controllers in version 2",
        )
    return ok("cgroup v2", "runs get their own group with weights and limits")
