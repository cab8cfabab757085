"""Commands that start something, or prepare it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gleaner.cli.commands.common import (
    EXIT_USAGE,
    START,
    Config,
    Failed,
    group,
    load,
    wait_for,
)

commands = group()
imports = group("Take over the configuration of another program.")
commands.add_typer(imports, name="import", rich_help_panel=START)


@commands.command(
    rich_help_panel=START,
    epilog="Example: `gleaner up --config gleaner.toml`",
)
def up(config: Config = None) -> None:
    """Start everything on this machine, and stop it with Ctrl-C.

    A broker, this node, scheduler, recorder and web page run as child processes; what dies is
    started again. Who is not root sees less, and is told what. On a machine without an NVIDIA GPU
    a simulated node is added.
    """
    from gleaner.cli.machine.up import up as run_everything
    from gleaner.settings import find_file

    settings = load(config)
    found = find_file(config)
    raise typer.Exit(wait_for(run_everything(settings, found.absolute() if found else None)))


@imports.command(
    "gpu-mon", epilog="Example: `gleaner import gpu-mon ~/.config/gpu_mon.conf -o gleaner.toml`"
)
def import_gpu_mon(
    file: Annotated[Path, typer.Argument(help="The gpu_mon.conf to read.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file, instead of standard output.")
    ] = None,
) -> None:
    """Turn a configuration of gpu_mon into one of Gleaner, with a word on each difference."""
    from gleaner.cli.gpu_mon import ImportRefused, convert

    try:
        text = convert(file)
    except ImportRefused as error:
        raise Failed(*error.mistakes) from error
    if output is None:
        print(text, end="")
        return
    try:
        with output.open("x") as target:
            target.write(text)
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}") from error


def _service(name: str, text: str) -> None:
    """Put a service into the list of commands; the program replaces itself before it gets here."""

    def show(config: Config = None) -> None:  # noqa: ARG001
        raise Failed(f"`gleaner {name}` takes its options after its name", code=EXIT_USAGE)

    show.__doc__ = text
    example = f"Example: `gleaner {name} --config /etc/gleaner/gleaner.toml`"
    commands.command(name, rich_help_panel=START, epilog=example)(show)


_service(
    "node", "Run this machine's collector and runner in one process: one on each machine with GPUs."
)
_service("collector", "Run this machine's collector alone; `gleaner node` has both.")
_service("runner", "Run this machine's runner alone; `gleaner node` has both.")
_service("scheduler", "Run the scheduler: one for the whole fleet.")
_service("recorder", "Run the recorder, which keeps history: one for the whole fleet.")
_service("web", "Run the web page, with its API: one for the whole fleet.")
