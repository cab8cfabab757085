"""Make Gleaner a service of this machine, or of an ordinary user."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gleaner import __version__
from gleaner.cli.machine import plan
from gleaner.cli.machine.health import health
from gleaner.cli.settings import Settings
from gleaner.cli.systemd.systemctl import Refused, Systemd
from gleaner.cli.systemd.units import NAMES, UP, Unit, Written, file_of, text_of, written

WELL_SECONDS = 30.0
"""How long we wait for a service to have the bus."""
LASTING_SECONDS = 2.0
"""A service that fails at its start has done so by then."""
RESTARTS = 5
"""After so many in a row nothing is to be waited for."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What came of installing one service."""

    service: str
    is_new: bool
    """Whether it was started or restarted for this."""
    problem: str | None = None
    said: tuple[str, ...] = ()
    """What its log says last, where there is a problem."""
    is_misconfigured: bool = False


def program() -> tuple[str, ...]:
    """Return the command `gleaner` that runs us, as somebody else can run it elsewhere."""
    ours = Path(sys.argv[0]).absolute()
    if ours.name == "gleaner" and os.access(ours, os.X_OK):
        return (str(ours),)
    return (sys.executable, "-m", "gleaner.cli")


def unit(service: str, settings: Settings, config: Path | None, *, is_user: bool) -> Unit:
    """Return the unit of a service."""
    return Unit(
        service=service,
        program=program(),
        config=config,
        data=settings.node.data_directory.absolute(),
        writes=tuple(_writes(service, settings)),
        stop_seconds=_stop_seconds(service, settings),
        is_user=is_user,
        state_home=os.environ.get("XDG_STATE_HOME") if is_user else None,
        version=__version__,
    )


def installed(systemd: Systemd) -> dict[str, Written]:
    """Return the services whose units we wrote; raise Refused for a unit of ours by another."""
    found = {}
    for service in (UP, *NAMES):
        file = systemd.directory / file_of(service)
        try:
            text = file.read_text()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Refused(f"{file}: {error.strerror}") from error
        said = written(text)
        if said is None:
            raise Refused(f"{file} was not written by `gleaner install`: move it out of the way")
        found[service] = said
    return found


def install(units: list[Unit], systemd: Systemd, *, anew: bool) -> Iterator[Installed]:
    """Write what changed, start what is new or changed, and wait until each service is well.

    `anew`: restart what is unchanged, too.
    """
    changed = {one.file for one in units if _place(systemd.directory / one.file, text_of(one))}
    if changed:
        systemd.tell("daemon-reload")
    since = time.time()
    started = set()
    for one in units:
        for folder in (one.data, *one.writes):
            folder.mkdir(parents=True, exist_ok=True)
        condition = systemd.condition(one.file)
        if not condition.is_enabled:
            systemd.tell("enable", one.file)
        if anew or one.file in changed or condition.state not in ("active", "activating"):
            systemd.tell("restart", one.file)
            started.add(one.file)
    for one in units:
        is_new = one.file in started
        yield _wait(one, systemd, since if is_new else 0.0, is_new=is_new)


def distrusted(unit: Unit) -> Iterator[str]:
    """Yield why others could make the system run anything by what the unit names."""
    from services.runner.catalogue import distrust

    for path in (Path(unit.program[0]), unit.config):
        problem = None if path is None or unit.is_user else distrust(path)
        if problem is not None:
            yield problem


def _writes(service: str, settings: Settings) -> Iterator[Path]:
    if service == "recorder":
        url = settings.database.url or ""
        if url.startswith("sqlite:///"):
            yield Path(url.removeprefix("sqlite:///")).absolute().parent
        if settings.accounting.csv_directory is not None:
            yield settings.accounting.csv_directory.absolute()
    if service == "scheduler" and settings.scheduler.key_file is not None:
        yield settings.scheduler.key_file.absolute().parent


def _stop_seconds(service: str, settings: Settings) -> float:
    spare = 5.0
    match service:
        case "up":
            # The nodes, then the services, then the broker.
            return plan.node_grace_seconds(settings) + 2 * plan.CLEANING_UP_SECONDS + spare
        case "node" | "runner":
            return plan.node_grace_seconds(settings) + spare
        case _:
            return plan.CLEANING_UP_SECONDS + spare


def _place(file: Path, text: str) -> bool:
    """Write a unit; return whether that changes anything."""
    with contextlib.suppress(FileNotFoundError):
        if file.read_text() == text:
            return False
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(file)
    return True


def _wait(one: Unit, systemd: Systemd, since: float, *, is_new: bool) -> Installed:
    """Wait until a service has the bus, and has lasted; say what stands against it."""
    awaited = ("node", *plan.SERVICES) if one.service == UP else (one.service,)
    deadline = time.monotonic() + WELL_SECONDS
    before = now = systemd.condition(one.file)
    problem = ""
    while now.state != "failed" and now.restarts - before.restarts < RESTARTS:
        found = [health(one.data, service, since) for service in awaited]
        problem = next((text for is_well, text in found if not is_well), "")
        lasts = time.monotonic() - now.active_since > LASTING_SECONDS
        if now.state == "active" and not problem and lasts:
            return Installed(service=one.service, is_new=is_new)
        if time.monotonic() > deadline:
            problem = f"is not well after {WELL_SECONDS:.0f} s: {problem}"
            break
        time.sleep(0.1)
        now = systemd.condition(one.file)
    else:
        ended = f"ended with status {now.exit_code}, and is not started again"
        problem = ended if now.state == "failed" else "ends again and again"
    return Installed(
        service=one.service,
        is_new=is_new,
        problem=problem,
        said=systemd.last_words(one.file, since),
        is_misconfigured=now.state == "failed" and now.exit_code == 2,
    )
