"""What the page of a large fleet costs: first paint, script per tick, viewers, the loop.

    python -m benchmarks.web [--nodes 1000] [--seconds 15]

The real web service as a process of its own on a real mosquitto, fed by a process that says what
so many nodes say (see tests.web.large); Chromium by Playwright, its own tracing for the time
that the page's script takes. `make bench-web`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psutil
from playwright.async_api import Browser, CDPSession, Page, async_playwright

from benchmarks.figures import figure, print_machine
from gleaner.bus.connection import Connection
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.machine.broker import free_port
from services.web.service import collect_often, collect_rarely
from services.web.streaming.live import Live
from tests.browser.chromium import ARGUMENTS
from tests.mosquitto import Mosquitto
from tests.web.large import GPUS, HOURS_IN_ONE_HAND, TELEMETRY_SECONDS, LargeFleet

PAINT_GOAL_SECONDS = 1.0
SCRIPT_GOAL_MS = 5.0
VIEWERS = 100
VIEWERS_GOAL_PERCENT = 10.0
LOOP_GOAL_MS = 50.0
START_SECONDS = 60.0
FLOOD_SECONDS = 3.0


def feed(url: str, nodes: int, is_ready: Event, flood: Event) -> None:
    """Say what the nodes say; when `flood` is set let one GPU of every node change hands."""
    asyncio.run(_feed(url, LargeFleet(nodes), is_ready, flood))


async def _feed(url: str, fleet: LargeFleet, is_ready: Event, flood: Event) -> None:
    bus = MqttBus(Connection(url=url), "benchmark", "fleet")
    task = asyncio.create_task(bus.run())
    while not bus.connected:
        await asyncio.sleep(0.01)
    for number, message in enumerate(fleet.facts()):
        bus.publish(message)
        if number % 100 == 0:
            await asyncio.sleep(0.02)
    is_ready.set()
    step, began, changed = 0, time.monotonic(), 0.0
    while True:
        # A tenth of the fleet at a time, as nodes that started at some time or other do.
        share = fleet.nodes[step % 10 :: 10]
        for message in fleet.beats(share):
            bus.publish(message)
        if step % 10 == 0:
            bus.publish(fleet.scheduler_beat())
        for node in share[step // 10 % 10 :: int(TELEMETRY_SECONDS)]:
            bus.publish(fleet.telemetry(node))
        changed += len(fleet.nodes) * GPUS / (HOURS_IN_ONE_HAND * 3600) / 10
        while changed >= 1:
            bus.publish(fleet.change())
            changed -= 1
        if flood.is_set():
            flood.clear()
            for message in fleet.everything_changes():
                bus.publish(message)
        step += 1
        await asyncio.sleep(max(0.0, began + step / 10 - time.monotonic()))
        if task.done():
            await task


@contextlib.contextmanager
def fed(url: str, nodes: int) -> Iterator[Event]:
    """Run the fleet as a process; yield what sets off a flood."""
    context = multiprocessing.get_context("spawn")
    is_ready, flood = context.Event(), context.Event()
    process = context.Process(target=feed, args=(url, nodes, is_ready, flood), daemon=True)
    process.start()
    try:
        assert is_ready.wait(START_SECONDS), "the fleet did not come up"
        yield flood
        assert process.is_alive(), "the fleet has died: the figures mean nothing"
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def served(broker: str, directory: Path, port: int) -> Iterator[psutil.Process]:
    """Run the web service."""
    environment = os.environ | {
        "GLEANER_BUS__URL": broker,
        "GLEANER_NODE__DATA_DIRECTORY": str(directory),
        "GLEANER_WEB__LISTEN": f"127.0.0.1:{port}",
        "GLEANER_LOG__LEVEL": "warning",
    }
    service = subprocess.Popen([sys.executable, "-m", "services.web"], env=environment)
    try:
        yield psutil.Process(service.pid)
    finally:
        service.terminate()
        service.wait(10)


def online(url: str) -> int:
    """Return how many nodes the service shows as online."""
    try:
        with urllib.request.urlopen(f"{url}metrics", timeout=5) as answer:
            text: str = answer.read().decode()
    except OSError:
        return 0
    return text.count('presence="online"} 1.0')


async def cpu_percent(process: psutil.Process, seconds: float) -> float:
    """Return the share of a core that a process uses."""
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(seconds)
    return 100 * (sum(process.cpu_times()[:2]) - before) / seconds


@contextlib.asynccontextmanager
async def viewers(port: int, number: int) -> AsyncIterator[list[int]]:
    """Open event streams and read them; yield how many bytes each got."""
    received = [0] * number

    async def view(index: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n")
        while data := await reader.read(1 << 20):
            received[index] += len(data)
        writer.close()

    tasks = [asyncio.create_task(view(index)) for index in range(number)]
    try:
        while not all(received):
            await asyncio.sleep(0.05)
        yield received
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def longest_silence(url: str, seconds: float) -> float:
    """Return the longest time that the service took for `/healthz`, which does nothing."""
    longest = 0.0
    port = int(url.rsplit(":", 1)[1].strip("/"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"ok\n")
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0.002)
    writer.close()
    return longest


async def longest_silence_of_a_flood(url: str, flood: Event) -> float:
    """Return the longest silence while one GPU of every node changes hands."""
    silence = asyncio.create_task(longest_silence(url, FLOOD_SECONDS))
    await asyncio.sleep(0.2)
    flood.set()
    return await silence


async def scrape(port: int) -> tuple[float, int]:
    """Take `/metrics` as Prometheus does; return seconds and bytes."""
    began, size = time.monotonic(), 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n"
        b"Connection: close\r\n\r\n"
    )
    while data := await reader.read(1 << 20):
        size += len(data)
    writer.close()
    return time.monotonic() - began, size


async def scrapes(url: str, port: int) -> tuple[float, float, int]:
    """Return seconds and the longest silence, medians of five scrapes, and bytes of the last."""
    took, silences, size = [], [], 0
    for _ in range(5):
        silence = asyncio.create_task(longest_silence(url, FLOOD_SECONDS))
        await asyncio.sleep(0.2)
        seconds, size = await scrape(port)
        took.append(seconds)
        silences.append(await silence)
    return statistics.median(took), statistics.median(silences), size


async def longest_slice(nodes: int) -> float:
    """Return how long the view is worked out in one go after a flood, in CPU time.

    In this process and without a broker, so that others on the machine do not count.
    """
    collect_rarely()
    broker, fleet = MemoryBroker(), LargeFleet(nodes)
    bus, others = MemoryBus(broker, "web", "main"), MemoryBus(broker, "benchmark", "fleet")
    live = Live(bus)
    longest = 0.0
    collecting = asyncio.create_task(collect_often())
    async with bus, others:
        for messages in (fleet.facts(), fleet.beats(fleet.nodes), fleet.everything_changes()):
            for message in messages:
                others.publish(message)
            await asyncio.sleep(0.01)
            more = True
            while more:
                began = time.thread_time()
                more = live.flush()
                longest = max(longest, time.thread_time() - began)
                await asyncio.sleep(0)
        live.close()
    collecting.cancel()
    return longest


async def first_paint(browser: Browser, url: str) -> float:
    """Return when the page was first painted with contents, in seconds from its request."""
    page = await browser.new_page(viewport={"width": 1400, "height": 900})
    await page.goto(url, wait_until="commit")
    painted = await page.evaluate(
        "new Promise(done => new PerformanceObserver(list => {"
        " const one = list.getEntriesByName('first-contentful-paint')[0];"
        " if (one) done(one.startTime)"
        "}).observe({type: 'paint', buffered: true}))"
    )
    await page.close()
    return float(painted) / 1000


async def script_per_tick(page: Page, seconds: float) -> tuple[list[float], list[float]]:
    """Return for each second how long the page's own thread ran script, and was busy, in ms."""
    session: CDPSession = await page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    done = asyncio.Event()
    session.on("Tracing.tracingComplete", lambda _: done.set())
    await session.send(
        "Tracing.start",
        {"categories": "devtools.timeline,toplevel", "transferMode": "ReportEvents"},
    )
    await asyncio.sleep(seconds)
    await session.send("Tracing.end")
    await asyncio.wait_for(done.wait(), 20)
    return _per_second(events, await page.evaluate("location.port"))


SCRIPT = {"FunctionCall", "EvaluateScript", "FireAnimationFrame", "TimerFire", "HandlePostMessage"}
LAYOUT = {"UpdateLayoutTree", "Layout", "PrePaint", "Paint", "Layerize", "Commit"}


def _per_second(events: list[dict[str, Any]], port: str) -> tuple[list[float], list[float]]:
    """Add up the outermost of these events; in the thread's own time, where Chromium tells it."""
    script: dict[int, float] = {}
    whole: dict[int, float] = {}
    for thread in _pages_threads(events, port):
        until = 0.0
        for one in sorted(events, key=lambda event: event.get("ts", 0)):
            if (one["pid"], one["tid"]) != thread or one.get("ph") != "X" or one["ts"] < until:
                continue
            if one["name"] not in SCRIPT | LAYOUT:
                continue
            until = one["ts"] + one.get("dur", 0)
            second = int(one["ts"] // 1_000_000)
            milliseconds = one.get("tdur", one.get("dur", 0)) / 1000
            whole[second] = whole.get(second, 0) + milliseconds
            if one["name"] in SCRIPT:
                script[second] = script.get(second, 0) + milliseconds
    # The first and the last second are not whole.
    seconds = range(min(whole, default=0) + 1, max(whole, default=0))
    return [script.get(one, 0.0) for one in seconds], [whole.get(one, 0.0) for one in seconds]


def _pages_threads(events: list[dict[str, Any]], port: str) -> set[tuple[int, int]]:
    """Return the threads that run the page's script; the worker has one of its own."""
    return {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "FunctionCall"
        and f":{port}/static/dist/page-" in one.get("args", {}).get("data", {}).get("url", "")
    }


async def measure(nodes: int, seconds: float, directory: Path) -> bool:
    """Print all figures; return whether the goals were met."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with (
        Mosquitto(directory) as broker,
        served(broker.url, directory, port) as service,
        fed(broker.url, nodes) as flood,
    ):
        end = time.monotonic() + START_SECONDS
        while await asyncio.to_thread(online, url) < nodes and time.monotonic() < end:
            await asyncio.sleep(0.5)
        print(f"{nodes} nodes of {GPUS} GPUs, {nodes / TELEMETRY_SECONDS:g} readings a second:")
        alone = await cpu_percent(service, seconds)
        figure("web service without viewers", alone, "% of core")
        async with viewers(port, VIEWERS) as received:
            await asyncio.sleep(2)
            before = sum(received)
            share = await cpu_percent(service, seconds)
            kilobytes = (sum(received) - before) / VIEWERS / seconds / 1000
        met = figure(
            f"{VIEWERS} viewers, beside that", share - alone, "% of core", VIEWERS_GOAL_PERCENT
        )
        figure("each of them receives", kilobytes, "kB/s")
        silences = [await longest_silence_of_a_flood(url, flood) for _ in range(5)]
        met &= figure(
            f"longest silence while {nodes} nodes change, median of 5",
            1000 * statistics.median(silences),
            "ms",
            LOOP_GOAL_MS,
        )
        took, silent, size = await scrapes(url, port)
        figure("a scrape of /metrics, median of 5", took, "s")
        figure("what it brings, compressed", size / 1e6, "MB")
        met &= figure("longest silence meanwhile, median of 5", 1000 * silent, "ms", LOOP_GOAL_MS)
        met &= figure(
            "longest slice of working that out, CPU time",
            1000 * await longest_slice(nodes),
            "ms",
            LOOP_GOAL_MS,
        )
        figure("resident memory", service.memory_info().rss / 1e6, "MB")
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=ARGUMENTS
            )
            paints = [await first_paint(browser, url) for _ in range(5)]
            met &= figure(
                "first paint, median of 5", statistics.median(paints), "s", PAINT_GOAL_SECONDS
            )
            page = await browser.new_page(viewport={"width": 1400, "height": 900})
            await page.goto(url)
            await page.wait_for_selector("main[data-live]")
            await asyncio.sleep(3)
            script, whole = await script_per_tick(page, seconds)
            met &= figure(
                "script a second, page's thread, median",
                statistics.median(script),
                "ms",
                SCRIPT_GOAL_MS,
            )
            figure("script a second, worst", max(script), "ms")
            figure("with style, layout and paint, median", statistics.median(whole), "ms")
            await browser.close()
    return met


async def main(nodes: int, seconds: float) -> bool:
    """Print the machine, and what the page costs."""
    print_machine()
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        return await measure(nodes, seconds, Path(name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.nodes, given.seconds)) else 1)
