"""Commands that show how things were."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

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
    screen,
    seconds_of,
    wait_for,
)
from gleaner.figures import By, columns_of

if TYPE_CHECKING:
    from gleaner.cli.usage import Found

commands = group()


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner events --follow`, `gleaner events --user ann --state held -n 50`",
)
def events(
    config: Config = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="As they happen, from now on, until Ctrl-C.")
    ] = False,
    node: Annotated[str | None, typer.Option("--node", help="Only of this node.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only of this kind: gpu, people, run, problem…")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Only those that name this person.")
    ] = None,
    entry: Annotated[
        str | None, typer.Option("--entry", help="Only those that name this workload.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", help="Only changes into this state: busy, held, running, evicted…"),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="How many of the newest; not with --follow.")
    ] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON, one event a line, for programs.")
    ] = False,
) -> None:
    """Show what happened: GPUs, people and runs; times are UTC."""
    from gleaner.cli import events as record

    def say(row: record.Row) -> None:
        print(json.dumps(row, default=str) if as_json else record.describe(row), flush=True)

    settings = load(config)
    filters = {"kind": kind, "user": user, "entry": entry, "state": state}
    if follow:
        if any(filters.values()):
            raise Failed("--follow can be narrowed by --node only", code=EXIT_USAGE)
        wait_for(record.follow(settings, node=node, say=say))
        return
    for row in wait_for(record.history(settings, limit=limit, node=node, **filters)):
        say(row)


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner usage`, `gleaner usage --by month --since 365d --csv`",
)
def usage(
    config: Config = None,
    by: Annotated[
        By, typer.Option("--by", help="A row for each of these; `hour` is the hour of the day.")
    ] = "user",
    since: Annotated[str, typer.Option("--since", help="How far back: 12h, 30d, 52w.")] = "30d",
    node: Annotated[str | None, typer.Option("--node", help="Only of this node.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only of this person.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Say who used how many GPU-hours, or when and where they were used.

    Several users of one GPU count in full each, as `shared`.
    """
    from gleaner.cli import usage as figures

    seconds = seconds_of("--since", since)
    found = wait_for(
        figures.usage(load(config), by=by, since_seconds=seconds, node=node, user=user)
    )
    columns = columns_of("usage", by, of_one_user=user is not None)
    _show_figures(found, columns, figures.usage_table, as_json=as_json, as_csv=as_csv)


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner history gpu1 --since 7d`, `gleaner history gpu1:0 --csv`, "
    "`gleaner history gpu1 --host`",
)
def history(
    target: Annotated[
        str,
        typer.Argument(help="A GPU (NODE:INDEX or its UUID, in full once it is gone), or a node."),
    ],
    config: Config = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 12h, 30d, 52w.")] = "1d",
    points: Annotated[int, typer.Option("--points", min=1, help="About how many rows.")] = 24,
    host: Annotated[
        bool,
        typer.Option("--host", help="Of a node: its own CPU, memory, network and fullest disk."),
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show how a GPU or node fared, at the resolution that fits; times are UTC."""
    from gleaner.cli import usage as figures

    seconds = seconds_of("--since", since)
    found = wait_for(
        figures.history(load(config), target, since_seconds=seconds, points=points, of_host=host)
    )
    columns = columns_of("series", of_host=host)
    table = figures.host_table if host else figures.history_table
    _show_figures(found, columns, table, as_json=as_json, as_csv=as_csv)


def _show_figures(
    found: Found, columns: Sequence[str], table: Any, *, as_json: bool, as_csv: bool
) -> None:
    from gleaner.cli import usage as figures

    if as_json and as_csv:
        raise Failed("--json or --csv, not both", code=EXIT_USAGE)
    if found.simulated:
        print(f"gleaner: {found.simulated}", file=sys.stderr)
    if as_json:
        print(figures.as_json(found.rows))
    elif as_csv:
        print(figures.as_csv(columns, found.rows), end="")
    elif found.rows:
        screen().print(table(found.rows))
        if found.counted:
            print(found.counted)
    else:
        print("nothing is recorded of that time; what happens now is told within ten minutes")
