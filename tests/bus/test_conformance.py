"""What every bus must do, asked of the in-memory twin and of a real mosquitto alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import Availability, Beat, RunnerState
from gleaner.bus.mqtt import MqttBus
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto


class Client(Protocol):
    """A bus and the ways it can come and go."""

    bus: Bus

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def crash(self) -> None: ...


class MemoryClient:
    def __init__(self, broker: MemoryBroker, name: str) -> None:
        self.bus = MemoryBus(broker, "test", name)

    async def start(self) -> None:
        await self.bus.__aenter__()

    async def stop(self) -> None:
        await self.bus.__aexit__()

    async def crash(self) -> None:
        self.bus.disconnect(will=True)


class MqttClient:
    def __init__(self, url: str, name: str, protocol: str) -> None:
        self.bus = MqttBus(Connection(url=url, protocol=protocol), "test", name)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self.bus.run())
        await until(lambda: self.bus.connected)

    async def stop(self) -> None:
        assert self._task
        self._task.cancel()
        await asyncio.wait([self._task])

    async def crash(self) -> None:
        link = self.bus._link
        assert link
        assert self._task
        link.drop()
        self.bus._link = None
        await self.stop()


Make = Callable[[str], Client]


@pytest.fixture(
    params=[
        "memory",
        pytest.param("mqtt-5", marks=pytest.mark.broker),
        pytest.param("mqtt-3.1.1", marks=pytest.mark.broker),
    ]
)
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "memory":
        broker = MemoryBroker()
        return lambda name: MemoryClient(broker, name)
    mosquitto: Mosquitto = request.getfixturevalue("mosquitto")
    mosquitto.forget()
    return lambda name: MqttClient(mosquitto.url, name, request.param.removeprefix("mqtt-"))


def a_runner(node: str = "n1", term: int = 1) -> RunnerState:
    return RunnerState(
        node=node, paused=False, watched=True, term=term, generation=1, lease="held", at=NOW
    )


def a_beat(node: str = "n1") -> Beat:
    return Beat(node=node, sequence=1, check_seconds=0.001, at=NOW)


async def test_what_is_published_reaches_who_subscribed(make: Make) -> None:
    one, other, heard = make("one"), make("other"), list[Delivery]()
    other.bus.subscribe(Beat, heard.append)
    await one.start()
    await other.start()

    one.bus.publish(a_beat())

    await until(lambda: bool(heard))
    assert heard[0].message == a_beat()
    assert not heard[0].retained
    await one.stop()
    await other.stop()


async def test_a_fact_waits_for_who_comes_later_and_a_beat_does_not(make: Make) -> None:
    one, other, heard = make("one"), make("other"), list[Delivery]()
    await one.start()
    one.bus.publish(a_beat())
    assert await one.bus.deliver(a_runner()) is None
    other.bus.subscribe(RunnerState, heard.append)
    other.bus.subscribe(Beat, heard.append)

    await other.start()

    await until(lambda: bool(heard))
    assert [(type(one.message), one.retained) for one in heard] == [(RunnerState, True)]
    await one.stop()
    await other.stop()


async def test_only_the_wanted_node_is_heard(make: Make) -> None:
    one, other, heard = make("one"), make("other"), list[Delivery]()
    other.bus.subscribe(Beat, heard.append, node="n2")
    await one.start()
    await other.start()

    one.bus.publish(a_beat("n1"))
    one.bus.publish(a_beat("n2"))

    await until(lambda: bool(heard))
    assert [delivery.levels for delivery in heard] == [{"node": "n2"}]
    await one.stop()
    await other.stop()


async def test_a_cleared_fact_is_gone_and_said_so(make: Make) -> None:
    one, other, heard = make("one"), make("other"), list[Delivery]()
    other.bus.subscribe(RunnerState, heard.append)
    await one.start()
    await other.start()
    one.bus.publish(a_runner())

    one.bus.clear(RunnerState, node="n1")

    await until(lambda: len(heard) == 2)
    assert heard[1].message is None
    assert heard[1].levels == {"node": "n1"}
    await one.stop()
    await other.stop()


async def test_a_crash_is_followed_by_the_will_and_a_stop_by_a_farewell(make: Make) -> None:
    one, other, heard = make("one"), make("other"), list[Availability]()
    other.bus.subscribe(
        Availability,
        lambda delivery: heard.append(delivery.message),  # type: ignore[arg-type]
        instance="one",
    )
    await other.start()
    await one.start()
    await one.crash()
    await until(lambda: [said.state for said in heard] == ["online", "offline"])

    again = make("one")
    await again.start()
    await again.stop()

    await until(lambda: [said.state for said in heard[2:]] == ["online", "offline"])
    assert heard[0].connection == heard[1].connection != heard[2].connection
    await other.stop()


async def test_facts_said_offline_are_published_on_connect_and_beats_are_not(make: Make) -> None:
    one, other, heard = make("one"), make("other"), list[Delivery]()
    other.bus.subscribe(RunnerState, heard.append)
    other.bus.subscribe(Beat, heard.append)
    await other.start()
    one.bus.publish(a_beat())
    one.bus.publish(a_runner(term=1))
    one.bus.publish(a_runner(term=2))
    assert await one.bus.deliver(a_beat()) == "the broker cannot be reached"

    await one.start()

    await until(lambda: bool(heard))
    assert [delivery.message for delivery in heard] == [a_runner(term=2)]
    await one.stop()
    await other.stop()


async def test_a_subscription_made_online_gets_the_retained_facts(make: Make) -> None:
    one, heard = make("one"), list[Delivery]()
    await one.start()
    assert await one.bus.deliver(a_runner()) is None

    one.bus.subscribe(RunnerState, heard.append)

    await until(lambda: bool(heard))
    assert heard[0].message == a_runner()
    assert heard[0].retained
    await one.stop()


async def test_a_fact_that_was_delivered_stands_after_the_next_connect(make: Make) -> None:
    one, other, heard = make("one"), make("other"), list[Delivery]()
    other.bus.subscribe(RunnerState, heard.append)
    await other.start()
    one.bus.publish(a_runner(term=1))
    assert await one.bus.deliver(a_runner(term=2)) == "the broker cannot be reached"

    await one.start()

    await until(lambda: bool(heard))
    assert [delivery.message for delivery in heard] == [a_runner(term=2)]
    await one.stop()
    await other.stop()


async def test_a_fact_cleared_offline_is_cleared_on_connect(make: Make) -> None:
    one, again, other, heard = make("one"), make("one"), make("other"), list[Delivery]()
    other.bus.subscribe(RunnerState, heard.append)
    await other.start()
    await one.start()
    assert await one.bus.deliver(a_runner()) is None
    await one.stop()
    again.bus.clear(RunnerState, node="n1")

    await again.start()

    await until(lambda: [delivery.message for delivery in heard] == [a_runner(), None])
    await again.stop()
    await other.stop()


async def test_what_is_no_message_is_reported_with_its_topic(make: Make) -> None:
    one, heard, bad = make("one"), list[Delivery](), list[tuple[str, bytes, str]]()
    one.bus.subscribe(Beat, heard.append)
    one.bus.on_malformed(lambda topic, payload, why: bad.append((topic, payload, why)))
    await one.start()
    topic = a_beat().topic
    if isinstance(one.bus, MqttBus):
        assert one.bus._link
        one.bus._link.publish(topic, b"rubbish", 0, retain=False)
    else:
        assert isinstance(one.bus, MemoryBus)
        one.bus._broker.publish(topic, b"rubbish", retain=False)
    one.bus.publish(a_beat())

    await until(lambda: bool(heard))
    assert [(topic, payload) for topic, payload, _ in bad] == [(topic, b"rubbish")]
    assert bad[0][2].startswith(f"{topic}: not JSON")
    await one.stop()


async def test_handlers_learn_of_every_connect_and_loss(make: Make) -> None:
    one, said = make("one"), list[bool]()
    one.bus.on_connection(said.append)

    await one.start()
    if isinstance(one.bus, MqttBus):
        assert one.bus._link
        one.bus._link.drop()
        one.bus._link.lost.set()
    else:
        assert isinstance(one.bus, MemoryBus)
        one.bus.disconnect()
        one.bus.connect()

    await until(lambda: said == [True, False, True])
    await one.stop()


@pytest.mark.broker
async def test_who_merely_passes_by_leaves_nothing_at_the_broker(mosquitto: Mosquitto) -> None:
    mosquitto.forget()
    watching, heard = MqttClient(mosquitto.url, "watching", "auto"), list[Delivery]()
    watching.bus.subscribe(Availability, heard.append)
    await watching.start()
    await until(lambda: bool(heard))

    passing = MqttClient(mosquitto.url, "passing", "auto")
    passing.bus = MqttBus(Connection(url=mosquitto.url), "test", "passing", announces=False)
    await passing.start()
    assert await passing.bus.deliver(a_beat()) is None
    await passing.stop()

    assert [delivery.levels["instance"] for delivery in heard] == ["watching"]
    await watching.stop()
