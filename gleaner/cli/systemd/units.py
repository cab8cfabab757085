"""What systemd is told of our services: the text of one unit each, and which go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

UP = "up"
"""The whole machine, as one service."""
NAMES = ("node", "collector", "runner", "scheduler", "recorder", "web")
AROUND_WORKLOADS = (UP, "node", "runner")
"""Those that start workloads, to which whatever is forbidden to them is forbidden, too."""

_MARK = "# Written by `gleaner install`"
_APART = ("collector", "runner")

_TEXTS = {
    UP: "everything on this machine",
    "node": "who uses the GPUs of this machine, and what runs there in between",
    "collector": "who uses the GPUs of this machine",
    "runner": "what runs on idle GPUs of this machine",
    "scheduler": "puts idle GPUs to work",
    "recorder": "history and accounting",
    "web": "the page",
}

_UNIT = """\
{mark}, anew each time. For changes: {systemctl} edit {name}
[Unit]
Description=Gleaner: {text}
{after}StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
Restart=always
RestartSec=500ms
# It says what is wrong with its configuration; trying again would not help.
RestartPreventExitStatus=2
TimeoutStopSec={stop_seconds:.0f}
UMask=0022
{environment}{special}
[Install]
WantedBy={target}

[X-Gleaner]
Version={version}
Data={data}
Configuration={config}
"""

_AROUND_WORKLOADS = """\
# Nothing is hidden or forbidden: whatever is, workloads would go without, too.
Delegate=yes
# A workload that takes too much memory is no reason to stop us.
OOMPolicy=continue
"""
# Runs live on when we are killed: who starts next adopts them.
_KEEPS_RUNS = "KillMode=process\n"
# When `gleaner up` is killed, so are its children, before it starts again.
_TAKES_ALL = "KillMode=mixed\n"

_COLLECTOR = """\
# It must see every process, device and terminal.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
"""
_CONFINED = """\
LimitNOFILE=65536
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
# What only the system's own manager can do.
_APART_FROM_THE_SYSTEM = """\
CapabilityBoundingSet={capabilities}
ProtectSystem=strict
ReadWritePaths={writable}
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
"""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One service as it is wanted."""

    service: str
    program: tuple[str, ...]
    """The command `gleaner`, absolute."""
    config: Path | None
    data: Path
    writes: tuple[Path, ...] = ()
    """Folders outside of the data directory that it writes to."""
    stop_seconds: float
    is_user: bool
    state_home: str | None = None
    """Where an ordinary user's data lie, if that is said by a variable, which systemd has not."""
    version: str

    @property
    def file(self) -> str:
        """The name of its file."""
        return file_of(self.service)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What an installed unit says of itself."""

    data: Path
    config: Path | None


def name_of(service: str) -> str:
    """Return what `systemctl` and `journalctl` call a service."""
    return "gleaner" if service == UP else f"gleaner-{service}"


def file_of(service: str) -> str:
    """Return the name of a service's unit."""
    return f"{name_of(service)}.service"


def text_of(unit: Unit) -> str:
    """Return the unit's file."""
    arguments = ("--config", str(unit.config)) if unit.config else ()
    return _UNIT.format(
        mark=_MARK,
        systemctl="systemctl --user" if unit.is_user else "systemctl",
        name=name_of(unit.service),
        text=_TEXTS[unit.service],
        # An ordinary user's systemd knows nothing of the network.
        after="" if unit.is_user else "Wants=network-online.target\nAfter=network-online.target\n",
        command=" ".join(map(_quoted, (*unit.program, unit.service, *arguments))),
        stop_seconds=unit.stop_seconds,
        environment=f"Environment={_quoted(f'XDG_STATE_HOME={unit.state_home}')}\n"
        if unit.state_home
        else "",
        special=_special(unit),
        target="default.target" if unit.is_user else "multi-user.target",
        version=unit.version,
        data=unit.data,
        config=unit.config or "",
    )


def written(text: str) -> Written | None:
    """Return what a unit says of itself, or None if `gleaner install` did not write it."""
    if not text.startswith(_MARK):
        return None
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    config = said.get("Configuration")
    return Written(data=Path(said.get("Data", "/")), config=Path(config) if config else None)


def conflicts(wanted: tuple[str, ...], there: tuple[str, ...]) -> tuple[str, ...]:
    """Return why services cannot be on one machine, with those that are there or each other."""
    every = {*wanted, *there}
    found = []
    if UP in every and len(every) > 1:
        others = ", ".join(sorted(every - {UP}))
        found.append(f"`gleaner up` runs the whole machine, and {others} would be there twice")
    if "node" in every and every & set(_APART):
        others = " and ".join(sorted(every & set(_APART)))
        found.append(f"node is collector and runner in one: {others} would be there twice")
    return tuple(found)


def _special(unit: Unit) -> str:
    match unit.service:
        case "up":
            return _AROUND_WORKLOADS + _TAKES_ALL
        case "node" | "runner":
            return _AROUND_WORKLOADS + _KEEPS_RUNS
        case "collector":
            return _COLLECTOR
        case _ if unit.is_user:
            return _CONFINED
        case _:
            writable = " ".join(_quoted(str(path)) for path in (unit.data, *unit.writes))
            # The page may be at port 80.
            capabilities = "CAP_NET_BIND_SERVICE" if unit.service == "web" else ""
            return _CONFINED + _APART_FROM_THE_SYSTEM.format(
                writable=writable, capabilities=capabilities
            )


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back: see systemd.service(5), command lines."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if any(character in word for character in " \t'\"\\;") else word
