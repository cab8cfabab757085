"""One way to be started, logged, kept healthy and stopped: the shell around every service."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO, TypeVar

from gleaner.bus.connection import Connection
from gleaner.bus.mqtt import MqttBus
from gleaner.settings import BusSettings, ServiceSettings, SettingsError, load
from gleaner.settings.enrolled import KEPT

logger = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_SETTINGS = 2
FIRST = -10
"""The nice value of who stands between a person and a GPU."""

S = TypeVar("S", bound=ServiceSettings)
_speaker: ContextVar[str] = ContextVar("speaker")


def run(
    name: str,
    settings_type: type[S],
    serve: Callable[[S], Awaitable[None]],
    *,
    node: Callable[[S], str] | None = None,
) -> None:
    """Run a service until SIGTERM or SIGINT; end with 0, 1 (failed) or 2 (settings).

    `node` tells which node it is for, or which nodes, where there is one of its kind for each: a
    log that several write to says who wrote a line.
    """
    parser = argparse.ArgumentParser(
        prog=f"gleaner {name}",
        description=f"Run the {name} until SIGTERM or Ctrl-C; it logs to standard error.",
        epilog=f"Example: gleaner {name} --config /etc/gleaner/gleaner.toml",
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="the configuration file; else $GLEANER_CONFIG, ./gleaner.toml, the user's, "
        "/etc/gleaner/gleaner.toml",
    )
    arguments = parser.parse_args()
    try:
        settings = load(settings_type, arguments.config)
    except SettingsError as error:
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)  # noqa: T201 - before there is a log
        sys.exit(EXIT_SETTINGS)
    set_up_log(f"{name} {node(settings)}" if node else name, settings.log.level)
    keep_from_others()
    sys.exit(asyncio.run(_until_stopped(serve(settings))))


def set_up_log(name: str, level: str) -> None:
    """Log to standard error, one line per record, with who says it."""
    logging.basicConfig(level=level.upper(), handlers=[log_to(sys.stderr, name)])


def log_to(stream: TextIO, name: str) -> logging.Handler:
    """Return what writes log lines in our way; where nobody spoke as another, `name` says them."""

    def name_the_speaker(record: logging.LogRecord) -> bool:
        record.speaker = _speaker.get(name)
        return True

    handler = logging.StreamHandler(stream)
    handler.addFilter(name_the_speaker)
    line = "%(asctime)s %(levelname)-7s %(speaker)s: %(message)s"
    handler.setFormatter(logging.Formatter(line, datefmt="%H:%M:%S"))
    return handler


def speak_as(name: str) -> None:
    """Have this task, and all that it starts, log under a name of its own."""
    _speaker.set(name)


def keep_from_others() -> None:
    """Let nobody else write to what we make, however careless whoever started us is."""
    os.umask(os.umask(0o022) | 0o022)


def go_first(gpu_source: str) -> None:
    """Come before whoever else wants a processor, as far as we may: somebody waits for a GPU.

    Signals wake those who are told to leave, and else they are in the way of the next signal. What
    this thread starts is as urgent as it, unless it says otherwise.
    """
    if gpu_source != "simulated" and os.getpriority(os.PRIO_PROCESS, 0) > FIRST:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, FIRST)


async def _until_stopped(service: Awaitable[None]) -> int:
    task = asyncio.ensure_future(service)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logger.info("stopped")
    except Fatal as error:
        logger.error("%s", error)
        return _exit_code(error)
    except BaseExceptionGroup as group:
        fatal, bugs = group.split(Fatal)
        if bugs is not None:
            raise
        leaves = _leaves(fatal)
        for leaf in leaves:
            logger.error("%s", leaf)
        return max(map(_exit_code, leaves))
    return 0


def _exit_code(error: BaseException) -> int:
    return EXIT_SETTINGS if isinstance(error, Misconfigured) else EXIT_FAILED


def _leaves(group: BaseExceptionGroup[BaseException] | None) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions if group else ():
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


class Fatal(Exception):
    """The service cannot go on; the text is for the operator and names the thing."""


class Misconfigured(Fatal):
    """Only another configuration would help; whoever restarts us need not try again."""


def connection(settings: BusSettings) -> Connection:
    """Return how to reach the broker; raise Fatal if the password file cannot be read."""
    password = settings.password
    if settings.password_file is not None:
        try:
            lines = settings.password_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Fatal(f"bus.password_file {settings.password_file}: {error}") from error
        if not lines or not lines[0]:
            raise Fatal(f"bus.password_file {settings.password_file}: its first line is empty")
        password = lines[0]
    return Connection(
        url=settings.url,
        user=settings.user,
        password=password,
        client_id=settings.client_id,
        protocol=settings.protocol,
        ca_file=_text(settings.ca_file),
        ca=settings.ca,
        certificate_file=_text(settings.certificate_file),
        key_file=_text(settings.key_file),
    )


def keep_enrolment(bus: BusSettings, directory: Path) -> None:
    """Keep the enrolment that this host was started with once; it is used from then on."""
    if bus.user is None and bus.certificate_file is None:
        logger.warning(
            "this host has no account at a broker: run `gleaner enroll` with its name on the "
            "server, and start this with what it prints (bus.enrolment)"
        )
    if not bus.enrolment:
        return
    try:
        write_enrolment(bus.enrolment, directory)
    except OSError as error:
        logger.warning(
            "bus.enrolment cannot be kept in %s (%s): it is needed at the next start too",
            directory / KEPT,
            error.strerror,
        )


def write_enrolment(text: str, directory: Path) -> bool:
    """Write an enrolment where services look for it; return whether it is a new one."""
    kept = directory / KEPT
    if kept.is_file() and kept.read_text() == text:
        return False
    kept.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    write_atomically(kept, text)
    return True


async def keep_healthy(directory: Path, name: str, bus: MqttBus) -> None:
    """Touch `health/NAME` each second while the bus is there; `gleaner health` reads its age."""
    path = directory / "health" / name
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        if bus.connected:
            with contextlib.suppress(OSError):
                path.touch()
        await asyncio.sleep(1)


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boot_seconds() -> float:
    """Return how long this machine is up, suspension included: no setting of the clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file so that a reader, or a crash, sees the old or the new one, never half.

    An OSError names the file, and a full disk is left no fuller than it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
