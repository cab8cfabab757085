"""From `gleaner up` to a page with live GPUs, once installed.

The command itself, with broker, node, scheduler, recorder and web as its children, beside a
stand-in for NVIDIA's library that answers at once. `make bench-start`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.figures import figure, print_machine
from gleaner.cli.machine.broker import free_port
from tests.nvml_stand_in import StandIn, a_gpu, build
from tests.system import NOBODYS_NUMBERS, System

GPUS = 8
GOAL_SECONDS = 3.0
PATIENCE_SECONDS = 30.0


def live_gpus(port: int) -> int:
    """Return how many GPUs the API shows in a state that is known."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/gpus", timeout=1) as answer:
            gpus = json.load(answer)
    except (OSError, ValueError):
        return 0
    return sum(gpu["state"] != "unknown" for gpu in gpus)


def start(library: Path) -> float:
    """Start everything with empty data; return the seconds until the page is live."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        directory, port = Path(name), free_port()
        stand_in = StandIn(library=library, file=directory / "nvml")
        stand_in.gpus = [a_gpu(number) for number in range(GPUS)]
        stand_in.write()
        system = System(
            directory,
            up=True,
            gpus=GPUS,
            stand_in=stand_in,
            device_numbers=NOBODYS_NUMBERS,
            people="enabled = true",
            workloads="",
            more=f'[web]\nlisten = "127.0.0.1:{port}"\n[log]\nlevel = "warning"',
        )
        started = time.monotonic()
        system.start("up")
        while live_gpus(port) < GPUS:
            assert time.monotonic() - started < PATIENCE_SECONDS, "no live GPUs on the page"
            time.sleep(0.01)
        took = time.monotonic() - started
        system.stop("up", signal.SIGINT)
    return took


def main(times: int) -> bool:
    """Print the figures; return whether the goal was met."""
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        start(library)  # The first one reads everything from the disk.
        took = [start(library) for _ in range(times)]
    print(f"gleaner up to a page with {GPUS} live GPUs, {times} times, with empty data:")
    figure("middle", statistics.median(took), "s")
    return figure("worst", max(took), "s", GOAL_SECONDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    sys.exit(0 if main(parser.parse_args().times) else 1)
