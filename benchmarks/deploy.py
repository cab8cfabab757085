"""What the deployment by compose takes: its images, its start, its memory with ten hosts.

`make bench-deploy`. The images are built before, and not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import figure, print_machine
from tests.compose.deployment import ROOT, SERVICES, TAG, Deployment, wait

HOSTS = 10
READY_GOAL_SECONDS = 10.0
MEMORY_GOAL_MB = 350.0
SETTLED_SECONDS = 60.0


def print_sizes() -> None:
    """Print how large the images are."""
    print("images, and what is theirs alone beyond debian:bookworm-slim:")
    base = size_of("debian:bookworm-slim")
    figure("debian:bookworm-slim", base / 1e6, "MB")
    for image in ("broker", "cli", "node", "recorder", "scheduler", "web"):
        size = size_of(f"gleaner-{image}:{TAG}")
        print(f"  {image:<22} {size / 1e6:7.0f} MB, {(size - base) / 1e6:.0f}")


def size_of(image: str) -> int:
    """Return the bytes of an image."""
    command = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def resident_bytes(deployment: Deployment, service: str) -> int:
    """Return the resident memory of all processes of a service."""
    command = ["docker", "top", deployment.container(service), "-o", "pid"]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    found = 0
    for pid in said.split()[1:]:
        status = Path("/proc", pid, "status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        found += int(line.split()[1]) * 1024
    return found


def start(deployment: Deployment) -> float:
    """Start with empty volumes; return the seconds until the page has everything."""
    started = time.monotonic()
    deployment.up()
    return time.monotonic() - started


def memory(deployment: Deployment, directory: Path) -> float:
    """Return the megabytes of the four services beside ten hosts that work."""
    names = [f"host{number}" for number in range(HOSTS)]
    for name, text in deployment.enroll_many(names).items():
        (directory / "hosts" / name).mkdir(parents=True)
        (directory / "hosts" / name / "enrolment").write_text(text)
    hosts = subprocess.Popen(
        [sys.executable, "-m", "tests.compose.many_hosts", str(directory / "hosts")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "GLEANER_NODE__SIMULATED__GPUS": "8"},
    )
    try:
        wait(lambda: all(deployment.presence(name) == "online" for name in names), 60)
        time.sleep(SETTLED_SECONDS)
        each = {service: resident_bytes(deployment, service) / 1e6 for service in SERVICES}
    finally:
        hosts.terminate()
        hosts.wait(30)
    for service, size in each.items():
        figure(service, size, "MB")
    return sum(each.values())


def main(times: int) -> bool:
    """Print the figures; return whether the goals were met."""
    print_machine()
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        directory = Path(name)
        deployment = Deployment(directory, f"gleaner-bench-{os.getpid()}")
        deployment.compose("--profile", "node", "build")
        print_sizes()
        took = []
        try:
            for _ in range(times):
                deployment.down("-v")
                took.append(start(deployment))
            print(f"`up` with empty volumes to a page that has scheduler and bus, {times} times:")
            figure("middle", statistics.median(took), "s")
            is_quick = figure("worst", max(took), "s", READY_GOAL_SECONDS)
            print(f"resident, with {HOSTS} simulated hosts of 8 GPUs after a minute:")
            is_small = figure("together", memory(deployment, directory), "MB", MEMORY_GOAL_MB)
        finally:
            deployment.down("-v")
    return is_quick and is_small


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    sys.exit(0 if main(parser.parse_args().times) else 1)
