"""`gleaner doctor`: look at this machine without changing it, and say what each finding costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gleaner.cli.doctor import installation, machine
from gleaner.cli.doctor.finding import Finding, ok
from gleaner.cli.settings import Settings

__all__ = ["Finding", "examine"]


def examine(settings: Settings, config: Path | None) -> Iterator[Finding]:
    """Look at everything, one finding after the other; nothing is changed anywhere."""
    yield ok(
        "configuration", f"{config or 'none, so all defaults hold'}; node id {settings.node.id}"
    )
    yield installation.data_directory(settings.node.data_directory)
    yield from installation.broker(settings)
    yield machine.clock()
    if settings.node.gpu.source == "simulated":
        yield ok("GPUs", "simulated, as configured")
    else:
        yield machine.driver()
        yield machine.devices(settings.node.gpu.device_directory)
    yield machine.noticing()
    yield machine.people(settings.node.people)
    yield machine.cgroups()
    yield installation.workloads(settings)
    yield installation.keys(settings)
    yield installation.private_files(settings)
