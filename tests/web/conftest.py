"""A web service in the test's own loop, fed by a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

import httpx2
import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Message
from gleaner.bus.messages import HistoryAnswer, HistoryQuery, Request, Response
from gleaner.names import Called
from services.web.access.security import Rules
from services.web.app import make_app
from services.web.questions import Questions
from services.web.streaming.live import Live
from tests.builders import NOW
from tests.web.example import Example

ALICE, BOB = 1000, 1001


class Web:
    """The service, its clock, and those it talks to."""

    def __init__(self, token: str | None = None) -> None:
        self.now = NOW
        self.user = ALICE
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.broker, "web", "main")
        self.others = MemoryBus(self.broker, "test", "others")
        self.live = Live(self.bus, {"boreas": "Boreas"}, lambda: self.now)
        self.asked: list[Request] = []
        self.queried: list[HistoryQuery] = []
        rules = Rules(
            hosts=frozenset({"localhost"}),
            users=frozenset({ALICE}),
            token=token,
            # There is no connection here; on "this machine" it is Alice who runs Gleaner.
            user_of=lambda *_: self.user,
        )
        names = Called(nodes={"boreas": "Boreas"})
        self.app = make_app(self.live, Questions(self.bus, 0.3), rules, names)
        self.client = self.browser()

    def browser(self, peer: str = "127.0.0.1", host: str = "127.0.0.1:8080") -> httpx2.AsyncClient:
        """Return a client at another address, or by another name."""
        transport = httpx2.ASGITransport(app=self.app, client=(peer, 50000))
        return httpx2.AsyncClient(transport=transport, base_url=f"http://{host}")

    def example(self) -> Example:
        """Return the example fleet, now."""
        return Example(self.now)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    async def say(self, messages: Iterable[Message]) -> None:
        """Publish, and wait until it was heard."""
        for message in messages:
            self.others.publish(message)
        # A bus hands out what it took in the order of the loop's callbacks.
        taken = asyncio.Event()
        asyncio.get_running_loop().call_soon(taken.set)
        await taken.wait()

    def answer_requests(self, ok: bool = True) -> None:
        """Play the scheduler."""

        def answer(delivery: Delivery) -> None:
            request = delivery.message
            assert isinstance(request, Request)
            self.asked.append(request)
            text = f"{request.kind.value} done" if ok else "there is no such node"
            self.others.publish(
                Response(client=request.client, id=request.id, ok=ok, text=text, at=self.now)
            )

        self.others.subscribe(Request, answer)

    def answer_queries(self, answer: HistoryAnswer) -> None:
        """Play the recorder."""

        def reply(delivery: Delivery) -> None:
            query = delivery.message
            assert isinstance(query, HistoryQuery)
            self.queried.append(query)
            self.others.publish(answer.model_copy(update={"id": query.id}))

        self.others.subscribe(HistoryQuery, reply)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """The service without any fleet yet."""
    service = Web()
    async with service.others, service.bus, service.client:
        yield service
        service.live.close()


@pytest.fixture
async def busy(web: Web) -> Web:
    """The service with the example fleet; draco is stale and cygnus is offline."""
    example = web.example()
    await web.say([*example.messages(), example.beat("draco")])
    web.later(20)
    await web.say([*web.example().scheduler(), *web.example().beats()])
    return web
