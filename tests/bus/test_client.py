"""The client asks, waits no longer than it says, and tells clearly what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import (
    Beat,
    HistoryAnswer,
    HistoryQuery,
    Request,
    RequestKind,
    Response,
    RunnerState,
)
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.machine.broker import free_port
from gleaner.client import Client, NeverRecorded, RequestFailed
from gleaner.fleet import Presence
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto

NOWHERE = Connection(url="mqtt://127.0.0.1:1")


@contextlib.asynccontextmanager
async def asking(answers: Callable[[Bus, Delivery], None]) -> AsyncIterator[Client]:
    """A client on a bus with somebody who answers requests and queries."""
    broker = MemoryBroker()
    server, own = MemoryBus(broker, "scheduler", "main"), MemoryBus(broker, "client", "c")
    for kind in (Request, HistoryQuery):
        server.subscribe(kind, lambda delivery: answers(server, delivery))
    async with server, Client(NOWHERE, "tests", bus=own) as client, own:
        yield client


def agree(bus: Bus, delivery: Delivery) -> None:
    request = delivery.message
    assert isinstance(request, Request)
    text = f"{request.kind.value} {request.node} for {request.reason}"
    answer = Response(client=request.client, id=request.id, ok=True, text=text, at=NOW)
    bus.publish(answer)
    bus.publish(answer)


def ignore(bus: Bus, delivery: Delivery) -> None:
    return


async def test_a_request_is_answered_even_if_the_answer_comes_twice() -> None:
    async with asking(agree) as client:
        answer = await client.request(RequestKind.DRAIN, node="gpu1", reason="a new fan")

    assert answer.ok
    assert answer.text == "drain gpu1 for a new fan"


async def test_many_requests_at_once_get_their_own_answers() -> None:
    async with asking(agree) as client:
        answers = await asyncio.gather(
            *(client.request(RequestKind.DRAIN, node=f"n{number}") for number in range(20))
        )

    assert [answer.text.split()[1] for answer in answers] == [f"n{number}" for number in range(20)]


async def test_silence_is_said_with_who_was_silent() -> None:
    async with asking(ignore) as client:
        with pytest.raises(RequestFailed, match="the scheduler did not answer within"):
            await client.request(RequestKind.PAUSE, timeout=0.05)


async def test_a_request_expires_when_the_client_stops_waiting() -> None:
    heard = list[Request]()

    def keep(bus: Bus, delivery: Delivery) -> None:
        assert isinstance(delivery.message, Request)
        heard.append(delivery.message)

    async with asking(keep) as client:
        with pytest.raises(RequestFailed):
            await client.request(RequestKind.PAUSE, timeout=0.05)

    assert heard[0].expires_at - heard[0].at == timedelta(seconds=0.05)


async def test_history_is_read_page_by_page() -> None:
    def pages(bus: Bus, delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        page = int(query.cursor or 0)
        bus.publish(
            HistoryAnswer(
                client=query.client,
                id=query.id,
                rows=tuple({"n": page * 10 + number} for number in range(10)),
                cursor=str(page + 1) if page < 2 else None,
            )
        )

    async with asking(pages) as client:
        rows = [row["n"] async for row in client.history(what="events")]
        some = [row["n"] async for row in client.history(what="events", limit=10)]

    assert rows == list(range(30))
    assert some == list(range(10))


async def test_what_was_asked_while_the_recorder_was_away_is_asked_again_when_it_comes() -> None:
    broker = MemoryBroker()
    first, second, own = (
        MemoryBus(broker, "recorder", "main"),
        MemoryBus(broker, "recorder", "main"),
        MemoryBus(broker, "client", "c"),
    )
    asked: list[str] = []

    def answer(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        asked.append(query.id)
        second.publish(HistoryAnswer(client=query.client, id=query.id, rows=({"n": 1},)))

    first.subscribe(HistoryQuery, lambda delivery: asked.append(delivery.levels["id"]))
    second.subscribe(HistoryQuery, answer)
    async with own, Client(NOWHERE, "tests", bus=own) as client, first:
        rows = asyncio.create_task(anext(client.history(what="runs")))
        await until(lambda: len(asked) == 1)
        first.disconnect(will=True)
        second.connect()

        assert await rows == {"n": 1}
    assert asked == [asked[0]] * 2
    second.disconnect(will=False)


async def test_a_question_that_the_recorder_refuses_is_an_error() -> None:
    def refuse(bus: Bus, delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        bus.publish(HistoryAnswer(client=query.client, id=query.id, error="no such node"))

    async with asking(refuse) as client:
        with pytest.raises(RequestFailed, match="the recorder refused the question: no such node"):
            [row async for row in client.history(what="runs", node="gpu9")]


async def test_a_name_that_was_never_recorded_is_an_error_in_the_words_of_the_recorder() -> None:
    def refuse(bus: Bus, delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        refusal = HistoryAnswer(client=query.client, id=query.id, error="no gpu9", unknown="node")
        bus.publish(refusal)

    async with asking(refuse) as client:
        with pytest.raises(NeverRecorded, match="no gpu9"):
            [row async for row in client.history(what="runs", node="gpu9")]


@pytest.mark.broker
async def test_a_snapshot_tells_who_is_online_and_who_was(mosquitto: Mosquitto) -> None:
    mosquitto.forget()
    node = MqttBus(Connection(url=mosquitto.url), "node", "n1")
    running = asyncio.create_task(node.run())
    await until(lambda: node.connected)
    runner = RunnerState(
        node="n1", paused=False, watched=True, term=1, generation=1, lease="held", at=NOW
    )
    assert await node.deliver(runner) is None
    assert await node.deliver(runner.model_copy(update={"node": "n2"})) is None

    async def beat() -> None:
        while True:
            node.publish(Beat(node="n1", sequence=1, check_seconds=0.1, at=NOW))
            await asyncio.sleep(0.02)

    beating = asyncio.create_task(beat())
    async with Client(Connection(url=mosquitto.url), "tests") as client:
        fleet = await client.snapshot(5, enough=lambda fleet: heard(fleet.nodes, "n1"))

    assert fleet.nodes["n1"].presence(fleet.nodes["n1"].beat_received_at or NOW) is Presence.ONLINE
    assert fleet.nodes["n2"].presence(NOW) is Presence.UNHEARD
    beating.cancel()
    running.cancel()
    await asyncio.wait([running, beating])


def heard(nodes: object, name: str) -> bool:
    assert hasattr(nodes, "get")
    view = nodes.get(name)
    return view is not None and view.beat is not None


async def test_a_broker_that_is_away_is_named() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"

    async with Client(Connection(url=url), "tests") as client:
        with pytest.raises(RequestFailed, match=f"the broker at {url} cannot be reached"):
            await client.request(RequestKind.PAUSE, timeout=0.1)
