"""Ask the systemd that runs this machine, or that of an ordinary user, by its own commands."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

BOOTED = Path("/run/systemd/system")
"""Is there if systemd runs the machine; see sd_booted(3)."""


class Refused(Exception):
    """systemd did not do what it was asked for; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a unit is."""

    state: str
    """active, activating, failed, inactive…"""
    active_since: float
    """By the clock of `time.monotonic`."""
    is_enabled: bool
    exit_code: int
    restarts: int


@dataclass(frozen=True, kw_only=True)
class Systemd:
    """One manager: the system's, or the one of the user who asks."""

    is_user: bool

    @property
    def directory(self) -> Path:
        """Where an administrator's units lie."""
        if not self.is_user:
            return Path("/etc/systemd/system")
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return home / "systemd" / "user"

    def why_not(self) -> str | None:
        """Return why it cannot be asked, or None."""
        if not BOOTED.is_dir():
            return (
                f"systemd is not what runs this machine ({BOOTED} is not there); "
                "`gleaner up` and the services run in the foreground, below any supervisor"
            )
        try:
            self.tell("show-environment")
        except Refused as error:
            why = "; log in at the machine or by ssh, su does not do" if self.is_user else ""
            return f"systemd does not answer ({error}){why}"
        return None

    def tell(self, *arguments: str) -> str:
        """Run systemctl; return what it said."""
        done = self._run("systemctl", "--quiet", *arguments)
        if done.returncode:
            reason = done.stderr.strip() or f"status {done.returncode}"
            raise Refused(f"systemctl {' '.join(arguments)}: {reason}")
        return done.stdout

    def condition(self, unit: str) -> Condition:
        """Return how a unit is; one that is not there is inactive."""
        keys = "ActiveState,ActiveEnterTimestampMonotonic,UnitFileState,ExecMainStatus,NRestarts"
        said = dict(
            line.split("=", 1)
            for line in self.tell("show", "--property", keys, unit).splitlines()
            if "=" in line
        )
        return Condition(
            state=said.get("ActiveState", "inactive"),
            active_since=int(said.get("ActiveEnterTimestampMonotonic") or 0) / 1e6,
            is_enabled=said.get("UnitFileState") == "enabled",
            exit_code=int(said.get("ExecMainStatus") or 0),
            restarts=int(said.get("NRestarts") or 0),
        )

    def log(self, name: str) -> str:
        """Return the command that shows a unit's log."""
        return f"journalctl {'--user ' if self.is_user else ''}-u {name}"

    def last_words(self, unit: str, since: float) -> tuple[str, ...]:
        """Return what a unit said last."""
        arguments = ("--no-pager", "--output=cat", "--lines=8", f"--since=@{since:.0f}")
        done = self._run("journalctl", *arguments, f"--unit={unit}")
        own = (unit, "Start", "Stopp", "Failed to start")  # systemd's, which only say that it ended
        return tuple(line for line in done.stdout.splitlines() if not line.startswith(own))[-4:]

    def lingers(self) -> bool:
        """Whether a user's services run without a login."""
        if not self.is_user:
            return True
        done = subprocess.run(
            ["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"],
            capture_output=True,
            text=True,
        )
        return done.stdout.strip() == "yes"

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        scope = ("--user",) if self.is_user else ()
        environment = dict(os.environ)
        if self.is_user:
            environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        try:
            return subprocess.run(
                [program, *scope, *arguments],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise Refused(f"{program}: {error.strerror}") from error
