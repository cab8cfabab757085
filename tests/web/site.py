"""A whole web service on a real port, fed by a bus in memory, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Self

from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Message
from gleaner.bus.messages import HistoryAnswer, HistoryQuery, Request, Response
from gleaner.names import Called
from gleaner.settings import WebSettings
from services.web.access.security import Rules
from services.web.app import make_app
from services.web.questions import Questions
from services.web.service import listen, make_server, serve_http
from services.web.streaming.live import Live
from tests.web.example import Example
from tests.web.large import LargeFleet


class Site:
    """Runs the service; `with Site() as site: … site.url`."""

    def __init__(
        self,
        listen: str = "127.0.0.1:0",
        rules: Rules | None = None,
        large: LargeFleet | None = None,
        recorder: Callable[[MemoryBus], AbstractAsyncContextManager[object]] | None = None,
    ) -> None:
        """With a large fleet instead of the example's; `recorder` answers about the past."""
        self.settings = WebSettings(listen=listen)
        self.large = large
        self._recorder = recorder or self._without_history
        self.rules = rules or Rules(hosts=frozenset({"localhost"}), users=frozenset({os.geteuid()}))
        self.url = ""
        self.asked: list[Request] = []
        self.draco_is_silent = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60), "the service did not come up"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop as a service does; twice does no harm."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def call(self, what: Callable[[], object]) -> None:
        """Do something in the service's thread, and wait until it is done."""
        done = threading.Event()

        def do() -> None:
            what()
            self._loop.call_soon(done.set)

        self._loop.call_soon_threadsafe(do)
        assert done.wait(10)

    def say(self, *messages: Message) -> None:
        """Publish as the nodes and the scheduler would."""
        self.call(lambda: self._publish(messages))

    def questions_from_now(self) -> list[HistoryQuery]:
        """Return what the recorder is asked, as it is asked."""
        asked: list[HistoryQuery] = []

        def hear(delivery: Delivery) -> None:
            if isinstance(delivery.message, HistoryQuery):
                asked.append(delivery.message)

        self.call(lambda: self._fleet.subscribe(HistoryQuery, hear))
        return asked

    def lose_broker(self) -> None:
        """Cut the web service off."""
        self.call(self.bus.disconnect)

    def lose_recorder(self) -> None:
        """Kill the recorder."""
        self.call(self.recorder_bus.disconnect)

    def bring_back_recorder(self) -> None:
        """Have it started again."""
        self.call(self.recorder_bus.connect)

    def stop_streams(self) -> None:
        """End all open streams, as a restart would."""
        self.call(self.live.close)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        broker = MemoryBroker()
        self.bus = MemoryBus(broker, "web", "main")
        self._fleet = MemoryBus(broker, "test", "fleet")
        self._fleet.subscribe(Request, self._answer)
        self.recorder_bus = MemoryBus(broker, "recorder", "main")
        self.live = Live(self.bus, {"boreas": "Boreas"})
        names = Called(nodes={"boreas": "Boreas"}, models={"NVIDIA H100 80GB HBM3": "H100"})
        app = make_app(self.live, Questions(self.bus, 1.0), self.rules, names)
        async with self._fleet, self.bus, self.recorder_bus, self._recorder(self.recorder_bus):
            with listen(self.settings) as listener:
                self.url = self._url(listener)
                await self._introduce()
                server = make_server(app)
                tasks = [
                    asyncio.create_task(self.live.run()),
                    asyncio.create_task(self._beats()),
                    asyncio.create_task(serve_http(server, listener, self.live)),
                ]
                while not server.started:
                    await asyncio.sleep(0.005)
                self._ready.set()
                await self._stop.wait()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _introduce(self) -> None:
        if self.large is None:
            self._publish(Example(datetime.now(UTC)).messages())
            return
        for number, message in enumerate(self.large.facts()):
            self._fleet.publish(message)
            if number % 100 == 0:
                await asyncio.sleep(0)

    async def _beats(self) -> None:
        while self.large is not None:
            self._publish([self.large.scheduler_beat(), *self.large.beats(self.large.nodes)])
            await asyncio.sleep(1)
        while True:
            example = Example(datetime.now(UTC))
            self._publish(example.beats())
            if not self.draco_is_silent:
                self._fleet.publish(example.beat("draco"))
            await asyncio.sleep(1)

    def _publish(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._fleet.publish(message)

    def _answer(self, delivery: Delivery) -> None:
        """Do as the scheduler does for the kinds that the page has."""
        request = delivery.message
        if not isinstance(request, Request):
            return
        self.asked.append(request)
        if request.reason == "nobody answers":
            return
        now = datetime.now(UTC)
        is_ok = request.reason != "refuse me"
        is_pause = request.kind.value == "pause"
        if is_ok and request.kind.value in ("pause", "resume"):
            example = Example(now)
            paused = example.paused(request.reason, request.node)
            self._fleet.publish(paused if is_pause else paused.model_copy(update={"pauses": ()}))
        where = request.node or "the fleet"
        self._fleet.publish(
            Response(
                client=request.client,
                id=request.id,
                ok=is_ok,
                text=f"{request.kind.value}: {where}",
                at=now,
            )
        )

    @asynccontextmanager
    async def _without_history(self, bus: MemoryBus) -> AsyncIterator[None]:
        """Do as a recorder without history does."""

        def tell(delivery: Delivery) -> None:
            if isinstance(query := delivery.message, HistoryQuery):
                bus.publish(HistoryAnswer(client=query.client, id=query.id))

        bus.subscribe(HistoryQuery, tell)
        yield

    def _url(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        return f"http://{host}:{port}/"
