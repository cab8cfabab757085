"""Commands that show how things are now."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gleaner.cli.commands.common import (
    EXIT_USAGE,
    LOOK,
    Config,
    Csv,
    Failed,
    Json,
    group,
    load,
    refuse_both,
    screen,
    wait_for,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gleaner.cli.settings import Settings
    from gleaner.fleet import FleetView

commands = group()


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner status --watch`, `gleaner status --json | jq '.nodes[].gpus'`",
)
def status(
    config: Config = None,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew each second, until Ctrl-C.")
    ] = False,
) -> None:
    """Show every GPU: its state, who has it, and why nothing starts there."""
    wait_for(_status(load(config), as_json=as_json, watch=watch))


async def _status(settings: Settings, *, as_json: bool, watch: bool) -> None:
    from gleaner.cli.now import status as view

    if watch:
        await _watch(settings, as_json=as_json)
        return
    now = await _now(settings)
    if as_json:
        print(json.dumps(view.as_json(now), indent=2))
    else:
        screen().print(view.table(now))


async def _watch(settings: Settings, *, as_json: bool) -> None:
    from rich.live import Live

    from gleaner.cli.now import status as view
    from gleaner.cli.now.watch import watch

    console = screen()
    with contextlib.ExitStack() as stack:
        live: Live | None = None
        async with contextlib.aclosing(watch(settings)) as moments:
            async for now, lost_seconds in moments:
                if as_json:
                    print(json.dumps(view.as_json(now, lost_seconds)), flush=True)
                    continue
                table = view.table(now, lost_seconds)
                if not console.is_terminal:
                    console.print(table)
                    sys.stdout.flush()
                elif live is None:
                    # Only now: what goes wrong before is told on the screen that stays.
                    live = stack.enter_context(Live(table, screen=True, auto_refresh=False))
                else:
                    live.update(table, refresh=True)


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner why gpu1:0`, `gleaner why GPU-5fa1`, `gleaner why fold`",
)
def why(
    target: Annotated[
        str,
        typer.Argument(help="A GPU (NODE:INDEX or the beginning of its UUID), node or workload."),
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say why nothing (more) runs on a GPU, or why a workload does not.

    Of a node it is said of each GPU; what stands against all of them is said once, first.
    """
    wait_for(_why(load(config), target, as_json=as_json))


async def _why(settings: Settings, target: str, *, as_json: bool) -> None:
    from gleaner.cli.now import status as view
    from gleaner.cli.now import why as reasons

    async with view.watched_fleet(settings) as fleet:
        try:
            answers = reasons.why(view.now_of(fleet), target, settings.web.display_names)
        except reasons.NotFound as error:
            raise Failed(str(error)) from error
    if as_json:
        print(json.dumps([answer.as_json() for answer in answers], indent=2))
        return
    print(*reasons.lines(answers), sep="\n")


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner free --model h100 -n 4`, `gleaner free --memory 40G --json`",
)
def free(
    model: Annotated[str, typer.Option("--model", help="Part of the model's name: h100.")] = "",
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", help="At least so much in all on each GPU: 40G (40 · 10^9 bytes), 24GiB."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option("--number", "-n", min=1, help="How many you need, of one model on one node."),
    ] = 1,
    as_json: Json = False,
    as_csv: Csv = False,
    config: Config = None,
) -> None:
    """Show the GPUs you may take now, with the lines to copy; status 1 if nothing fits.

    Those marked "on demand" have one of our own runs, which leaves as soon as somebody comes.
    """
    from gleaner.cli.now import free as view

    refuse_both(as_json=as_json, as_csv=as_csv)
    try:
        memory_bytes = 0.0 if memory is None else view.parse_bytes(memory)
    except ValueError as error:
        raise Failed(f"--memory: {error}", code=EXIT_USAGE) from error
    wish = view.Wish(model=model, memory_bytes=memory_bytes, count=count)
    fleet = wait_for(_now(load(config)))
    offers = view.free(fleet, wish)
    if as_json:
        print(json.dumps(view.as_json(fleet, offers), indent=2))
    elif as_csv:
        _print_csv(view.COLUMNS, view.rows(offers))
    elif offers:
        for line in view.lines(fleet, offers):
            _print(line)
    if not offers:
        raise Failed(view.nothing(fleet, wish))


@commands.command(rich_help_panel=LOOK, epilog="Examples: `gleaner users`, `gleaner users --csv`")
def users(as_json: Json = False, as_csv: Csv = False, config: Config = None) -> None:
    """Show who uses GPUs now: memory, processes, GPUs and how long, over all hosts.

    A process on two GPUs counts twice. What is on a node that is silent is told, but not counted.
    """
    from gleaner.cli.now import users as view

    refuse_both(as_json=as_json, as_csv=as_csv)
    fleet = wait_for(_now(load(config)))
    if as_json:
        print(json.dumps(view.as_json(fleet), indent=2))
    elif as_csv:
        _print_csv(view.COLUMNS, view.rows(fleet))
    else:
        _print(view.table(fleet))


@commands.command(rich_help_panel=LOOK, epilog="Example: `gleaner top`, then `/` and `h100 idle`")
def top(config: Config = None) -> None:
    """Watch the fleet in the terminal: GPUs, users and runs, to sort, to filter and to ask why.

    The keys stand at the bottom; `q` ends it.
    """
    if not sys.stdout.isatty():
        raise Failed("`gleaner top` needs a terminal; `gleaner status` writes anywhere")
    try:
        from gleaner.cli.now.top import top as watch
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise Failed("`gleaner top` needs textual: pip install 'gleaner[top]'") from error
    wait_for(watch(load(config)))


async def _now(settings: Settings) -> FleetView:
    from gleaner.cli.now import status as view

    async with view.watched_fleet(settings) as fleet:
        return view.now_of(fleet)


def _print(shown: RenderableType) -> None:
    from rich.text import Text

    # Text to copy is left to the terminal to wrap; tables fit themselves to its width.
    screen(highlight=False).print(shown, soft_wrap=isinstance(shown, Text))


def _print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from gleaner.cli.comma import comma_separated

    print(comma_separated(columns, rows), end="")
