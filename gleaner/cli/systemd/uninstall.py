"""Take our services away again: no process and no unit is left; data and configuration are."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from gleaner.cli.systemd.systemctl import Refused, Systemd
from gleaner.cli.systemd.units import file_of
from services.runner.pids import open_pidfd

RUNS_SECONDS = 40.0
"""A run that nobody watches any more ends within 33 s."""


def uninstall(service: str, data: Path, systemd: Systemd) -> None:
    """Stop a service and remove its unit; return when nothing of it runs any more."""
    file = file_of(service)
    systemd.tell("disable", "--now", file)
    with contextlib.suppress(Refused):
        # What outlived the service, where that had just died; mostly there is nobody.
        systemd.tell("kill", "--kill-who=all", "--signal=KILL", file)
    (systemd.directory / file).unlink()
    systemd.tell("daemon-reload")
    with contextlib.suppress(Refused):
        systemd.tell("reset-failed", file)
    deadline = time.monotonic() + RUNS_SECONDS
    while _are_there_runs(data / "node" / "runs") and time.monotonic() < deadline:
        time.sleep(0.1)


def _are_there_runs(directory: Path) -> bool:
    for file in directory.glob("*/status.json"):
        try:
            said = json.loads(file.read_text())
            handle = open_pidfd(said["supervisor_pid"], said["supervisor_started"])
        except (OSError, ValueError, KeyError):
            continue
        if handle is not None:
            os.close(handle)
            return True
    return False
