"""Commands that examine this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gleaner import __version__
from gleaner.cli.commands.common import (
    EXIT_FAILED,
    EXIT_USAGE,
    LOOK,
    Config,
    Failed,
    Json,
    group,
    load,
    screen,
    wait_for,
)

SERVICES = ("node", "collector", "runner", "scheduler", "recorder", "web", "simulated")

commands = group()


@commands.command(
    rich_help_panel=LOOK, epilog="Example: `gleaner capture gpu1.capture --seconds 60`"
)
def capture(
    file: Annotated[
        Path, typer.Argument(help="Where to write it; text, one answer of the driver a line.")
    ],
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="For how long.")] = 30,
    config: Config = None,
) -> None:
    """Record what the driver says, to replay it or to report a problem; names of users stay out."""
    from services.collector.nvml.capture import capture as record

    try:
        sweeps = wait_for(record(file, seconds, load(config).node.gpu))
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error
    if not sweeps:
        raise Failed(f"{file}: the driver gave no answer; `gleaner doctor` may know why")
    print(f"{file}: {sweeps} sweeps in {seconds:g} s")


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `sudo gleaner doctor`, `gleaner doctor --config new.toml` before a restart",
)
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Examine this machine without changing it: what works, what does not, what that costs.

    Status 1 if something must be mended before Gleaner can work here.
    """
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from gleaner.cli.doctor import examine
    from gleaner.settings import find_file

    findings = list(examine(load(config), find_file(config)))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
        for finding in findings:
            remedy = f"\n→ {finding.remedy}" if finding.remedy else ""
            word = Text(finding.verdict, style=colours[finding.verdict])
            table.add_row(word, finding.name, Text(f"{finding.text}{remedy}"))
        screen().print(table)
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner health node`, "
    "`gleaner health recorder || systemctl restart gleaner-recorder`",
)
def health(
    service: Annotated[
        str,
        typer.Argument(
            help="One of: " + ", ".join(SERVICES) + " (the node that `gleaner up` adds)."
        ),
    ],
    config: Config = None,
) -> None:
    """Say whether a service of this machine lives and has the bus; for watchdogs.

    Status 1 where a restart may help. Of a recorder whose disk is full or whose PostgreSQL is away
    it does not: it is well, and `gleaner status` says what is wrong.
    """
    from gleaner.cli.machine.health import health as look

    if service not in SERVICES:
        there_are = ", ".join(SERVICES)
        raise Failed(f"there is no service {service}; there are {there_are}", code=EXIT_USAGE)
    is_well, text = look(load(config).node.data_directory, service)
    if not is_well:
        raise Failed(text)
    print(text)


@commands.command(rich_help_panel=LOOK)
def version() -> None:
    """Say which version this is."""
    say_version(wanted=True)


def say_version(wanted: bool) -> None:
    """Say it, and end."""
    if wanted:
        print(f"gleaner {__version__}")
        raise typer.Exit
