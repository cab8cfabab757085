"""What only a connection over a network can do: fail, hang, be taken over, be refused."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections import deque
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gleaner.bus import link, mqtt
from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Event, Response, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.machine.broker import free_port
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto
from tests.recorder.builders import an_event

pytestmark = pytest.mark.broker


def a_runner(term: int = 1) -> RunnerState:
    return RunnerState(
        node="n1", paused=False, watched=True, term=term, generation=1, lease="held", at=NOW
    )


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_a_thousand_failed_attempts_later_it_still_tries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    async def no_broker(_: MqttBus) -> bool:
        nonlocal attempts
        attempts += 1
        return False

    monkeypatch.setattr(mqtt.MqttBus, "_live", no_broker)
    monkeypatch.setattr(random, "uniform", lambda *_: -0.2)
    task = asyncio.create_task(MqttBus(Connection(url="mqtt://127.0.0.1:1"), "t", "1").run())

    await until(lambda: attempts > 1200)
    assert not task.done()
    await stop(task)


async def test_no_broker_is_said_once_and_a_fact_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "BACKOFF_SECONDS", (0.02, 0.05))
    broker = Mosquitto(tmp_path)
    bus = MqttBus(Connection(url=broker.url), "test", "1")
    bus.publish(a_runner())
    task = asyncio.create_task(bus.run())
    said = f"the broker at {broker.url} cannot be reached yet: Connection refused"
    await until(lambda: said in caplog.text)
    await asyncio.sleep(0.2)
    assert caplog.text.count("Connection refused") == 1

    with broker:
        await until(lambda: bus.connected)
        broker.kill()
        await until(lambda: not bus.connected)
        assert await bus.deliver(a_runner(2)) == "the broker cannot be reached"
        broker.start()
        await until(lambda: bus.connected)
        heard: list[object] = []
        bus.subscribe(RunnerState, lambda one: heard.append(one.message))
        await until(lambda: heard == [a_runner(2)])
        await stop(task)


async def test_it_can_be_stopped_while_a_broker_does_not_answer() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        bus = MqttBus(Connection(url=url), "test", "1")
        task = asyncio.create_task(bus.run())
        await asyncio.sleep(0.1)
        before = time.monotonic()

        await stop(task)

        assert time.monotonic() - before < 1
        assert not bus.connected


async def test_a_broker_that_dies_answers_who_waits(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        bus = MqttBus(Connection(url=broker.url), "test", "1")
        task = asyncio.create_task(bus.run())
        await until(lambda: bus.connected)
        assert bus._link
        bus._link._client.loop_write = lambda: 0  # type: ignore[assignment, method-assign, return-value]
        waiting = asyncio.create_task(bus.deliver(a_runner()))
        await asyncio.sleep(0.01)

        broker.kill()

        assert "lost" in str(await asyncio.wait_for(waiting, 5))
        await stop(task)


async def test_a_handler_that_raises_ends_the_bus_loudly(mosquitto: Mosquitto) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    bus = MqttBus(Connection(url=mosquitto.url), "test", "1")
    bus.subscribe(RunnerState, broken)
    task = asyncio.create_task(bus.run())
    await until(lambda: bus.connected)

    bus.publish(a_runner())

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(task, 5)


async def test_certificates_that_are_not_there_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = Connection(url=f"mqtts://127.0.0.1:{free_port()}", ca_file="/missing/ca.pem")
    task = asyncio.create_task(MqttBus(connection, "test", "1").run())

    await until(lambda: "cannot be used" in caplog.text)

    assert "/missing/ca.pem" in caplog.text
    await stop(task)


async def test_two_clients_of_one_name_are_suspected(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "BACKOFF_SECONDS", (0.01, 0.02))
    one = MqttBus(Connection(url=mosquitto.url), "recorder", "main", durable=True)
    two = MqttBus(Connection(url=mosquitto.url), "recorder", "main", durable=True)
    first, second = asyncio.create_task(one.run()), asyncio.create_task(two.run())

    await until(lambda: "another client call itself 'gleaner-recorder-main'" in caplog.text)
    await stop(first)
    await stop(second)


async def test_a_fact_does_not_wait_for_what_was_said_before_it(mosquitto: Mosquitto) -> None:
    bus = MqttBus(Connection(url=mosquitto.url), "test", "quick")
    task = asyncio.create_task(bus.run())
    await until(lambda: bus.connected)

    assert bus._link
    # Nagle's algorithm would hold it back until the other side says that it has what came before.
    assert bus._link._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await stop(task)


async def test_who_is_slow_to_acknowledge_is_not_sent_more_than_it_takes(tmp_path: Path) -> None:
    count, most, waiting = 1000, 0, deque[Delivery]()
    with Mosquitto(tmp_path) as broker:
        to = Connection(url=broker.url)
        slow, quick = MqttBus(to, "recorder", "main", durable=True), MqttBus(to, "test", "1")
        slow.subscribe(Event, waiting.append)
        tasks = [asyncio.create_task(bus.run()) for bus in (slow, quick)]
        await until(lambda: slow.connected and quick.connected)
        said = [asyncio.create_task(quick.deliver(an_event(n))) for n in range(1, count + 1)]
        done = 0
        while done < count:
            await until(lambda: len(waiting) > 0)
            most = max(most, len(waiting))
            for _ in range(min(10, len(waiting))):
                waiting.popleft().acknowledge()
                done += 1
            await asyncio.sleep(0.002)
        assert {await one for one in said} == {None}
        for task in tasks:
            await stop(task)

    assert most < 2 * link.UNACKNOWLEDGED


async def test_what_an_earlier_version_subscribed_to_holds_nobody_up(mosquitto: Mosquitto) -> None:
    mosquitto.forget()
    to, heard = Connection(url=mosquitto.url), list[Delivery]()

    def hear(delivery: Delivery) -> None:
        heard.append(delivery)
        delivery.acknowledge()

    other = MqttBus(to, "test", "1")
    earlier, later = (MqttBus(to, "recorder", "main", durable=True) for _ in range(2))
    earlier.subscribe(Response, hear)
    for durable in (earlier, later):
        durable.subscribe(Event, hear)
    talking, before = asyncio.create_task(other.run()), asyncio.create_task(earlier.run())
    await until(lambda: other.connected and earlier.connected)
    await stop(before)
    now = asyncio.create_task(later.run())
    await until(lambda: later.connected)

    for number in range(2 * link.UNACKNOWLEDGED):
        other.publish(Response(client="c", id=str(number), ok=True, text="", at=NOW))
    # Where it holds itself for full it reads a packet in five seconds.
    for number in range(1, 4):
        assert await other.deliver(an_event(number)) is None
        await until(lambda wanted=number: len(heard) == wanted, seconds=3)  # type: ignore[misc]
    await stop(now)
    await stop(talking)


async def test_what_is_said_is_on_its_way_before_its_speaker_does_anything_else(
    tmp_path: Path,
) -> None:
    with Mosquitto(tmp_path) as broker:
        bus = MqttBus(Connection(url=broker.url), "test", "1")
        task = asyncio.create_task(bus.run())
        await until(lambda: bus.connected)
        heard = threading.Event()
        listener = paho.Client(CallbackAPIVersion.VERSION2)
        listener.on_message = lambda *_: heard.set()
        subscribed = threading.Event()
        listener.on_subscribe = lambda *_: subscribed.set()
        listener.connect("127.0.0.1", broker.port)
        listener.loop_start()
        listener.subscribe(a_runner().topic)
        await until(subscribed.is_set)

        bus.publish(a_runner())
        # The loop of the speaker does not get a turn meanwhile.
        assert heard.wait(10)

        listener.loop_stop()
        await stop(task)
