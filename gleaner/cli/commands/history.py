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
    Since,
    Until,
    group,
    load,
    refuse_both,
    screen,
    span_of,
    wait_for,
)
from gleaner.figures import By, columns_of

if TYPE_CHECKING:
    from gleaner.cli.history.usage import Found

EVENTS = 20
MOST_POINTS = 5000
"""That the recorder gives."""

commands = group()


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner events --follow -n 5`, `gleaner events --user ann --state held`, "
    "`gleaner events --since 12h -n 500`",
)
def events(
    config: Config = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Show what happens from now on until Ctrl-C; with `-n` or `--since` first what "
            "was before.",
        ),
    ] = False,
    since: Since = None,
    until: Until = None,
    node: Annotated[str | None, typer.Option("--node", help="Only of this node.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="Only of this kind: gpu, people, run, problem, node_started, short_process or "
            "overflow.",
        ),
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
        int | None,
        typer.Option("--limit", "-n", min=1, help=f"How many of the newest. [default: {EVENTS}]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON, one event a line, for programs.")
    ] = False,
) -> None:
    """Show what happened, oldest first: changes of GPUs, people, runs, problems; times are UTC.

    Readings are no events: `gleaner history` and `gleaner export data samples` have them.
    """
    from gleaner.cli.history import events as record

    def say(row: record.Row) -> None:
        print(json.dumps(row, default=str) if as_json else record.describe(row), flush=True)

    begin, end = span_of(since, until)
    filters = {"kind": kind, "user": user, "entry": entry, "state": state}
    if follow and (until is not None or any(one is not None for one in filters.values())):
        raise Failed("--follow can be narrowed by --node and --since only", code=EXIT_USAGE)
    if kind == "samples":
        raise Failed("--kind: samples are no events; see `gleaner history`", code=EXIT_USAGE)
    settings = load(config)
    wish = record.Wish(limit=limit or EVENTS, node=node, since=begin, until=end, **filters)
    if follow:
        before = wish if limit is not None or since is not None else None
        wait_for(record.follow(settings, node=node, say=say, before=before))
        return
    found = wait_for(record.history(settings, wish))
    for row in found.rows:
        say(row)
    for line in found.asides:
        print(f"gleaner: {line}", file=sys.stderr)


@commands.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner usage`, `gleaner usage --by month --since 365d --csv`, "
    "`gleaner usage --since 2026-10-01 --until 2026-11-01`",
)
def usage(
    config: Config = None,
    by: Annotated[
        By,
        typer.Option(
            "--by",
            help="A row for each of these; `hour` is the hour of the day, `weekday_hour` that of "
            "each day of the week.",
        ),
    ] = "user",
    since: Since = "30d",
    until: Until = None,
    node: Annotated[str | None, typer.Option("--node", help="Only of this node.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only of this person.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Say who used how many GPU-hours, or when and where they were used.

    Of the GPU-hours: `busy` where it was worked with, `held` where whoever had it did nothing,
    `shared` where others had it, too, and each has them in full. Days and hours of the day are
    those of the recorder's time zone.
    """
    from gleaner.cli.history import usage as figures

    begin, end = span_of(since, until)
    refuse_both(as_json=as_json, as_csv=as_csv)
    found = wait_for(
        figures.usage(load(config), by=by, since=begin, until=end, node=node, user=user)
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
        typer.Argument(
            help="A GPU (NODE:INDEX, or its UUID: in full once it is gone), or a node: its GPUs "
            "on average."
        ),
    ],
    config: Config = None,
    since: Since = "1d",
    until: Until = None,
    points: Annotated[
        int, typer.Option("--points", min=1, max=MOST_POINTS, help="About how many rows.")
    ] = 24,
    host: Annotated[
        bool,
        typer.Option("--host", help="Of a node: its own CPU, memory, network and fullest disk."),
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show how a GPU or node fared, oldest first, at the resolution that fits; times are UTC.

    By default the last day, hour by hour.
    """
    from gleaner.cli.history import usage as figures

    begin, end = span_of(since, until)
    refuse_both(as_json=as_json, as_csv=as_csv)
    found = wait_for(
        figures.history(load(config), target, since=begin, until=end, points=points, of_host=host)
    )
    columns = columns_of("series", of_host=host)
    table = figures.host_table if host else figures.history_table
    _show_figures(found, columns, table, as_json=as_json, as_csv=as_csv)


def _show_figures(
    found: Found, columns: Sequence[str], table: Any, *, as_json: bool, as_csv: bool
) -> None:
    from gleaner.cli.history import usage as figures

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
