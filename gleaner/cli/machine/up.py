"""`gleaner up`: the whole system on this machine, as child processes that are kept running."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gleaner.cli.machine.broker import Address, is_answered
from gleaner.cli.machine.child import Child, Program, tell
from gleaner.cli.machine.endpoint import remove_endpoint
from gleaner.cli.machine.found import say_found
from gleaner.cli.machine.system import System, prepare
from gleaner.cli.settings import Settings
from gleaner.runtime import EXIT_FAILED, Fatal, keep_from_others

BROKER_SECONDS = 5.0
PAGE_SECONDS = 30.0


async def up(settings: Settings, config: Path | None) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP; a second one hurries."""
    keep_from_others()
    stopping, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _set_next, stopping, hurry)
    # The services say it when the broker is lost, each for itself.
    logging.getLogger("gleaner.bus").setLevel(logging.ERROR)
    with _alone(settings.node.data_directory):
        try:
            system = prepare(settings, config)
            return await _run(system, stopping, hurry)
        finally:
            remove_endpoint(settings.node.data_directory)


async def _run(system: System, stopping: asyncio.Event, hurry: asyncio.Event) -> int:
    async with asyncio.TaskGroup() as keeping:

        def start(*programs: Program) -> list[Child]:
            children = [Child(program) for program in programs]
            for child in children:
                keeping.create_task(child.keep(), name=child.program.name)
            return children

        brokers = start(system.bus.program) if system.bus.program else []
        is_ready = await _answer(system.bus.listeners, BROKER_SECONDS, stopping)
        nodes, services = (start(*system.nodes), start(*system.services)) if is_ready else ([], [])
        if is_ready:
            async with asyncio.TaskGroup() as saying:
                telling = [
                    saying.create_task(_say_page(system.page, stopping), name="page"),
                    saying.create_task(say_found(system.bus.reader, system.node_ids), name="found"),
                ]
                await stopping.wait()
                for task in telling:
                    task.cancel()
            tell("stopping runs, then services, then the broker (once more: in a hurry)")
        for children in (nodes, services, brokers):
            await asyncio.gather(*(child.stop(hurry) for child in children))
    if is_ready or stopping.is_set():
        tell("stopped")
        return 0
    tell("the broker did not start, see above")
    return EXIT_FAILED


async def _say_page(page: Address, stopping: asyncio.Event) -> None:
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(page.host, page.host)  # noqa: S104
    page = replace(page, host=near)
    if await _answer((page,), PAGE_SECONDS, stopping):
        tell(f"the page is at http://{page}/")
    elif not stopping.is_set():
        tell(f"the page does not answer after {PAGE_SECONDS:g} s, see above")


async def _answer(addresses: tuple[Address, ...], seconds: float, stopping: asyncio.Event) -> bool:
    """Wait until all addresses answer; False when it takes too long or we are stopping."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    waiting = list(addresses)
    while waiting and not stopping.is_set() and loop.time() < deadline:
        if is_answered(waiting[0], 0.2):
            waiting.pop(0)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.02)
    return not waiting


@contextlib.contextmanager
def _alone(data_directory: Path) -> Iterator[None]:
    """Keep a second `gleaner up` away from our data; raise Fatal if we are the second."""
    path = data_directory / "up.lock"
    try:
        data_directory.mkdir(parents=True, exist_ok=True)
        # Private: whoever may open it may hold it, and keep us from starting.
        path.touch(mode=0o600)
        file = path.open("a+")
    except OSError as error:
        raise Fatal(f"node.data_directory {data_directory}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise Fatal(
                f"gleaner up runs already with {data_directory} (pid {file.read().strip()})"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _set_next(*events: asyncio.Event) -> None:
    next((event for event in events if not event.is_set()), events[-1]).set()
