"""Commands that ask the scheduler to do something else than it would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gleaner.cli.commands.common import (
    CHANGE,
    Config,
    Failed,
    group,
    load,
    seconds_of,
    wait_for,
)

if TYPE_CHECKING:
    from gleaner.bus.messages import RequestKind

Reason = Annotated[str, typer.Option("--reason", help="Shown to everybody who asks why.")]
NodeArgument = Annotated[str | None, typer.Argument(help="A node; without it, the whole fleet.")]

commands = group()


@commands.command(
    rich_help_panel=CHANGE,
    epilog="Examples: `gleaner pause` (everything, until resumed), `gleaner pause gpu1 fold`, "
    '`gleaner pause gpu1 --for 2h --reason "course in room 5"`',
)
def pause(
    node: NodeArgument = None,
    workload: Annotated[str | None, typer.Argument(help="One workload of the node only.")] = None,
    reason: Reason = "",
    duration: Annotated[
        str | None,
        typer.Option("--for", help="For how long: 30m, 2h, '1d 12h'; without it until resumed."),
    ] = None,
    config: Config = None,
) -> None:
    """Stop Gleaner's own runs and start none, on a node or in the whole fleet.

    What people run is never touched. To let the runs that are there go on: `gleaner drain`.
    """
    from gleaner.bus.messages import RequestKind

    seconds = None if duration is None else seconds_of("--for", duration)
    _ask(config, RequestKind.PAUSE, node, workload, reason, seconds)


@commands.command(
    rich_help_panel=CHANGE, epilog="Examples: `gleaner resume`, `gleaner resume gpu1 fold`"
)
def resume(
    node: NodeArgument = None,
    workload: Annotated[
        str | None, typer.Argument(help="One workload of the node; its crashes are forgotten.")
    ] = None,
    config: Config = None,
) -> None:
    """End a pause: name what was paused, or nothing for a pause of the whole fleet.

    A workload that is held after too many crashes starts again when it is named.
    """
    from gleaner.bus.messages import RequestKind

    _ask(config, RequestKind.RESUME, node, workload)


@commands.command(
    rich_help_panel=CHANGE, epilog='Example: `gleaner drain gpu1 --reason "new driver"`'
)
def drain(
    node: Annotated[str, typer.Argument(help="Which node.")],
    reason: Reason = "",
    config: Config = None,
) -> None:
    """Start no new runs on a node until `gleaner undrain`; those that are there go on.

    To end them at once, too: `gleaner pause NODE`.
    """
    from gleaner.bus.messages import RequestKind

    _ask(config, RequestKind.DRAIN, node, reason=reason)


@commands.command(rich_help_panel=CHANGE, epilog="Example: `gleaner undrain gpu1`")
def undrain(
    node: Annotated[str, typer.Argument(help="Which node.")], config: Config = None
) -> None:
    """End a drain: idle GPUs of the node are put to work again."""
    from gleaner.bus.messages import RequestKind

    _ask(config, RequestKind.UNDRAIN, node)


def _ask(
    config: Path | None,
    kind: RequestKind,
    node: str | None,
    workload: str | None = None,
    reason: str = "",
    seconds: float | None = None,
) -> None:
    from gleaner.cli.connect import connected

    settings = load(config)

    async def ask() -> None:
        async with connected(settings) as client:
            answer = await client.request(
                kind, node=node, entry=workload, reason=reason, duration_seconds=seconds
            )
        if not answer.ok:
            raise Failed(answer.text)
        print(answer.text)

    wait_for(ask())
