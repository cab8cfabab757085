"""`gleaner doctor`: look at this machine without changing it, and say what each finding costs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gleaner.bus.connection import Connection
from gleaner.bus.signature import parse_public_key
from gleaner.cli.broker import Address, find_mosquitto, is_answered
from gleaner.cli.connect import enrolled_node, where
from gleaner.cli.settings import Settings
from gleaner.runtime import Fatal
from gleaner.settings.enrolled import KEPT

Verdict = Literal["ok", "warn", "fail"]

_FAN_CLASS_NOTIF, _FAN_CLOEXEC, _FAN_REPORT_FID = 0, 1, 0x200
_SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    text: str
    """What is; for what is not well also what it costs."""
    remedy: str = ""


def examine(settings: Settings, config: Path | None) -> Iterator[Finding]:
    """Look at everything, one finding after the other; nothing is changed anywhere."""
    yield Finding(
        name="configuration",
        verdict="ok",
        text=f"{config or 'none, so all defaults hold'}; node id {settings.node.id}",
    )
    yield _data_directory(settings.node.data_directory)
    yield from _broker(settings)
    yield _clock()
    if settings.node.gpu.source == "simulated":
        yield Finding(name="GPUs", verdict="ok", text="simulated, as configured")
    else:
        yield _driver()
        yield _devices(settings.node.gpu.device_directory)
    yield _fanotify()
    yield _people(settings)
    yield _cgroup()
    yield _workloads(settings)
    yield _keys(settings)
    yield _private_files(settings)


def _data_directory(directory: Path) -> Finding:
    name = "data directory"
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        text = str(directory) if nearest == directory else f"{directory} can be made"
        return Finding(name=name, verdict="ok", text=text)
    return Finding(
        name=name,
        verdict="fail",
        text=f"{nearest} may not be written: nothing can be kept, so nothing starts",
        remedy="set node.data_directory, or give us that folder",
    )


def _broker(settings: Settings) -> Iterator[Finding]:
    try:
        to: Connection = where(settings)
    except Fatal as error:
        yield Finding(
            name="credentials",
            verdict="fail",
            text=str(error),
            remedy="set bus.password_file to a file that we may read",
        )
        return
    if is_answered(Address(*to.address)):
        yield Finding(name="broker", verdict="ok", text=f"{to.url} answers")
    elif find_mosquitto() is not None:
        yield Finding(
            name="broker",
            verdict="warn",
            text=f"{to.url} does not answer; `gleaner up` starts one, other services wait for it",
            remedy="start the broker, or `gleaner up`",
        )
    else:
        yield Finding(
            name="broker",
            verdict="fail",
            text=f"{to.url} does not answer and mosquitto is not installed: nobody hears anybody",
            remedy="apt install mosquitto, or set bus.url",
        )
    who = f"as {to.user}" if to.user else "without an account: we may look, but ask for nothing"
    if enrolled_node(settings):
        who += f", enrolled as the node {enrolled_node(settings)}"
    yield Finding(name="credentials", verdict="ok" if to.user else "warn", text=who)


def _clock() -> Finding:
    now = datetime.now(UTC)
    name = "clock"
    if now < EARLIEST:
        return Finding(
            name=name,
            verdict="fail",
            text=f"it is {now:%Y-%m-%d}, says this machine: history would be wrong",
            remedy="set the clock, and run a time service",
        )
    state = _clock_error()
    if state is not None:
        return Finding(
            name=name,
            verdict="warn",
            text=f"{state}: times of this node may be off",
            remedy="run a time service such as chrony or systemd-timesyncd",
        )
    return Finding(name=name, verdict="ok", text=f"{now:%Y-%m-%d %H:%M:%S} UTC, synchronized")


def _clock_error() -> str | None:
    """Ask the kernel whether a time service keeps the clock (adjtimex, STA_UNSYNC)."""
    buffer = ctypes.create_string_buffer(256)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        return "the kernel does not say whether the clock is kept"
    return "no time service keeps the clock" if state == 5 else None  # TIME_ERROR


def _driver() -> Finding:
    version = Path("/proc/driver/nvidia/version")
    name = "NVIDIA driver"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        if version.exists():
            return Finding(
                name=name,
                verdict="warn",
                text="loaded, but libnvidia-ml.so.1 is not found: only who holds a device is seen",
                remedy="install the driver's libraries (in a container: its NVIDIA runtime)",
            )
        return Finding(
            name=name,
            verdict="warn",
            text="none: no NVIDIA GPU can be seen here",
            remedy="install the driver, if this machine has a GPU",
        )
    try:
        words = version.read_text().split("\n")[0].partition(":")[2].split()
    except OSError:
        words = []
    number = next((word for word in words if word[0].isdigit() and "." in word), None)
    return Finding(name=name, verdict="ok", text=f"NVML is there, driver {number or 'unknown'}")


def _devices(directory: Path) -> Finding:
    found = sorted(
        path.name
        for path in directory.glob("nvidia*")
        if path.name.removeprefix("nvidia").isdigit()
    )
    if found:
        return Finding(name="device files", verdict="ok", text=", ".join(found))
    return Finding(
        name="device files",
        verdict="warn",
        text=f"no nvidiaN in {directory}: opens of a device cannot be noticed",
        remedy="none needed without a GPU; in a container, pass the devices in",
    )


def _fanotify() -> Finding:
    name = "noticing"
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.fanotify_init(_FAN_CLASS_NOTIF | _FAN_CLOEXEC | _FAN_REPORT_FID, os.O_RDONLY)
    if handle >= 0:
        os.close(handle)
        if os.geteuid() == 0:
            return Finding(
                name=name, verdict="ok", text="fanotify: opens and input are noticed at once"
            )
    reason = os.strerror(ctypes.get_errno()) if handle < 0 else "not root"
    return Finding(
        name=name,
        verdict="warn",
        text=f"fanotify is not permitted ({reason}): who opened a device is found by the next "
        "check (up to a second later), and other users' terminals only by their access times",
        remedy="run the node as root (CAP_SYS_ADMIN)",
    )


def _people(settings: Settings) -> Finding:
    name = "people"
    if not settings.node.people.enabled:
        return Finding(
            name=name,
            verdict="warn",
            text="not watched, as configured: nobody at a keyboard stops a run",
            remedy="set node.people.enabled = true",
        )
    directory = settings.node.people.device_directory / "pts"
    if not directory.is_dir():
        return Finding(
            name=name,
            verdict="warn",
            text=f"{directory} is not there: nobody at a terminal is seen",
            remedy="in a container, pass the host's /dev/pts in",
        )
    count = sum(1 for path in directory.iterdir() if path.name.isdigit())
    if not _SYSTEM_BUS.exists():
        return Finding(
            name=name,
            verdict="warn",
            text=f"{count} pseudo-terminals; {_SYSTEM_BUS} is not there: "
            "nobody at a graphical seat is seen",
            remedy="none needed without desktops; in a container, pass the host's bus in",
        )
    return Finding(name=name, verdict="ok", text=f"{count} pseudo-terminals, and seats by logind")


def _cgroup() -> Finding:
    name = "cgroup v2"
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if not controllers.is_file():
        return Finding(
            name=name,
            verdict="warn",
            text="not mounted: runs have no limits of memory and CPU, only low priority",
            remedy="boot with systemd.unified_cgroup_hierarchy=1",
        )
    if not os.access(controllers.parent, os.W_OK):
        return Finding(
            name=name,
            verdict="warn",
            text="may not be written: runs have no limits of memory and CPU, only low priority",
            remedy="run the node as root, or by systemd with Delegate=yes",
        )
    missing = {"cpu", "memory", "pids"} - set(controllers.read_text().split())
    if missing:
        return Finding(
            name=name,
            verdict="warn",
            text=f"without {', '.join(sorted(missing))}: such limits of a run are not set",
            remedy="enable these controllers in version 2",
        )
    return Finding(name=name, verdict="ok", text="runs get their own group with weights and limits")


def _workloads(settings: Settings) -> Finding:
    if settings.workload:
        names = ", ".join(workload.name for workload in settings.workload)
        return Finding(name="workloads", verdict="ok", text=names)
    return Finding(
        name="workloads",
        verdict="warn",
        text="none: idle GPUs stay idle",
        remedy="add a [[workload]] to the configuration",
    )


def _keys(settings: Settings) -> Finding:
    name = "scheduler keys"
    for key in settings.node.scheduler_keys:
        try:
            parse_public_key(key)
        except ValueError as error:
            return Finding(
                name=name,
                verdict="fail",
                text=f"node.scheduler_keys: {error}: this scheduler is not obeyed",
                remedy="copy the line from keys/scheduler.pub of the scheduler",
            )
    if settings.node.scheduler_keys:
        count = len(settings.node.scheduler_keys)
        return Finding(name=name, verdict="ok", text=f"{count} pinned")
    file = settings.scheduler.key_file or settings.node.data_directory / "keys" / "scheduler.key"
    try:
        mode = file.stat().st_mode
    except OSError:
        return Finding(
            name=name, verdict="ok", text="none pinned; `gleaner up` makes and pins its own"
        )
    if mode & 0o077:
        return Finding(
            name=name,
            verdict="fail",
            text=f"{file} can be read by others, who can then start runs",
            remedy=f"chmod 600 {file}, and make a new key if others had access",
        )
    return Finding(name=name, verdict="ok", text=f"{file}, ours alone")


def _private_files(settings: Settings) -> Finding:
    directory = settings.node.data_directory
    private = (
        settings.bus.password_file,
        settings.bus.enrolment_file,
        directory / KEPT,
        settings.bus.key_file,
        settings.web.control_token_file,
        directory / "up.lock",
        directory / "scheduler" / "lock",
        directory / "node" / "outbox.sqlite",
        directory / "recorder" / "gleaner.sqlite",
    )
    files = " ".join(str(file) for file in private if file is not None and _is_open(file))
    if not files:
        return Finding(name="private files", verdict="ok", text="are read by nobody else")
    return Finding(
        name="private files",
        verdict="warn",
        text=f"can be read by everybody, and a lock or database also held: {files}",
        remedy=f"chmod o= {files}",
    )


def _is_open(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & 0o007)
    except OSError:
        return False
