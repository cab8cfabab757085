"""Commands that write what is known for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from gleaner.cli.commands.common import (
    EXIT_USAGE,
    LOOK,
    Config,
    Failed,
    Since,
    Until,
    group,
    load,
    seconds_of,
    span_of,
    wait_for,
)

What = Literal["sessions", "samples", "host_samples", "events", "runs"]
Format = Literal["csv", "json", "parquet"]

commands = group()
exports = group("Write what is known into files, for other programs.")
commands.add_typer(exports, name="export", rich_help_panel=LOOK)


@exports.command("site", epilog="Example: `gleaner export site /var/www/html/gpus --every 5m`")
def export_site(
    directory: Annotated[str, typer.Argument(help="Of any web server; made if it is missing.")],
    every: Annotated[
        str | None,
        typer.Option("--every", help="Again each 30s, 5m… until Ctrl-C, a second at least."),
    ] = None,
    config: Config = None,
) -> None:
    """Write how things are now: `index.html`, which needs no script, and `load_data.csv`.

    For a plain web server. Both are replaced as a whole. A host that is silent stays on the page
    as it was last known. The page tells when it was written; with `--every` it reloads itself, and
    says when nobody writes it any more.
    """
    seconds = None if every is None else max(1.0, seconds_of("--every", every))
    if not directory:
        # It would be the folder that somebody happens to be in.
        raise Failed("DIRECTORY is empty; . is this one", code=EXIT_USAGE)
    folder = Path(directory)
    try:
        from gleaner.cli.now import export_site as site
    except ModuleNotFoundError as error:
        if error.name != "jinja2":
            raise
        raise Failed("`gleaner export site` needs Jinja2: pip install 'gleaner[web]'") from error
    try:
        wait_for(site.export(load(config), folder, seconds, site.to_standard_error))
    except OSError as error:
        raise Failed(site.describe(error, folder)) from error


@exports.command(
    "data",
    epilog="Examples: `gleaner export data sessions 10.csv --since 2026-10-01 --until 2026-11-01`, "
    "`gleaner export data events - --format json --node gpu1 | jq`",
)
def export_data(
    what: Annotated[
        What,
        typer.Argument(
            help="sessions: who had which GPU from when to when, and what it used; samples: "
            "readings of GPUs; host_samples: those of the nodes themselves; events; runs."
        ),
    ],
    file: Annotated[
        str, typer.Argument(help="Written as a whole or not at all; - is standard output.")
    ],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="By default as the name of the file ends, else csv."),
    ] = None,
    since: Since = None,
    until: Until = None,
    node: Annotated[str | None, typer.Option("--node", help="Only of this node.")] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", help="Only of this person; not of samples, which have several."),
    ] = None,
    config: Config = None,
) -> None:
    """Write everything that is recorded, newest first, however much that is.

    Units stand in the names of the columns, times are UTC. If the recorder restarts meanwhile, it
    is waited for; if it stays away, nothing is written and the status is 1. Parquet needs the
    extra `parquet`.
    """
    from gleaner.cli.history import export_data as data
    from gleaner.export import Incomplete, NoParquet

    begin, end = span_of(since, until)
    if not file:
        raise Failed("FILE is empty; - is standard output", code=EXIT_USAGE)
    try:
        form = data.format_of(file, form)
    except ValueError as error:
        raise Failed(f"--format: {error}", code=EXIT_USAGE) from error
    wish = data.Wish(what=what, form=form, since=begin, until=end, node=node, user=user)
    try:
        done = wait_for(data.export(load(config), file, wish))
    except NoParquet as error:
        raise Failed(str(error)) from error
    except Incomplete as error:
        left = "what came out is not all" if file == "-" else f"{file} was not written"
        raise Failed(f"{error}; {left}") from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        name = "standard output" if file == "-" else file
        raise Failed(f"{name}: {error.strerror}") from error
    if file != "-":
        print(f"{file}: {done.rows} {what}")
    if done.simulated:
        print(f"gleaner: {done.simulated}", file=sys.stderr)
