"""Commands that write what is known for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gleaner.cli.commands.common import (
    EXIT_USAGE,
    LOOK,
    Config,
    Failed,
    group,
    load,
    seconds_of,
    wait_for,
)

What = Literal["sessions", "samples", "host_samples", "events", "runs"]
Format = Literal["csv", "json", "parquet"]

commands = group()
exports = group("Write what is known for other programs.")
commands.add_typer(exports, name="export", rich_help_panel=LOOK)


@exports.command("site", epilog="Example: `gleaner export site /var/www/html/gpus --every 5m`")
def export_site(
    directory: Annotated[Path, typer.Argument(help="Of any web server; made if it is missing.")],
    every: Annotated[
        str | None, typer.Option("--every", help="30s, 5m…: go on until Ctrl-C; once without it.")
    ] = None,
    config: Config = None,
) -> None:
    """Write `index.html`, which needs no script, and `load_data.csv` for a plain web server.

    Both are replaced as a whole. A host that is silent stays on the page as it was last known. The
    page tells when it was written; with `--every` it reloads itself, and says when nobody writes it
    any more.
    """
    seconds = None if every is None else max(1.0, seconds_of("--every", every))
    try:
        from gleaner.cli import export_site as site
    except ModuleNotFoundError as error:
        if error.name != "jinja2":
            raise
        raise Failed("`gleaner export site` needs Jinja2: pip install 'gleaner[web]'") from error
    try:
        wait_for(site.export(load(config), directory, seconds, site.to_standard_error))
    except OSError as error:
        raise Failed(site.describe(error, directory)) from error


@exports.command(
    "data",
    epilog="Examples: `gleaner export data sessions sessions.csv --since 2026-01-01`, "
    "`gleaner export data events - --format json --node gpu1 | jq`",
)
def export_data(
    what: Annotated[What, typer.Argument(help="sessions: who had which GPU, and what it used.")],
    file: Annotated[
        str, typer.Argument(help="Written as a whole or not at all; - is standard output.")
    ],
    form: Annotated[
        Format | None, typer.Option("--format", help="By default as the name of the file ends.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="From when: 7d (ago), 2026-11-01, 2026-11-01T08:00 (UTC)."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Until when, as `--since`.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only of this node.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Only of this person; of sessions and runs.")
    ] = None,
    config: Config = None,
) -> None:
    """Write everything that is recorded, newest first, however much that is.

    Units stand in the names of the columns. If the recorder restarts meanwhile, it is waited for;
    if it stays away, nothing is written and the status is 1. Parquet needs the extra `parquet`.
    """
    from datetime import UTC, datetime

    from gleaner.cli import export_data as data
    from gleaner.export import Incomplete, NoParquet

    now = datetime.now(UTC)
    times: dict[str, datetime | None] = {"since": None, "until": None}
    for name, text in (("since", since), ("until", until)):
        try:
            times[name] = None if text is None else data.parse_instant(text, now)
        except ValueError as error:
            raise Failed(f"--{name}: {error}", code=EXIT_USAGE) from error
    wish = data.Wish(what=what, form=data.format_of(file, form), node=node, user=user, **times)
    try:
        rows = wait_for(data.export(load(config), file, wish))
    except NoParquet as error:
        raise Failed(str(error)) from error
    except Incomplete as error:
        left = "what came out is not all" if file == "-" else f"{file} was not written"
        raise Failed(f"{error}; {left}") from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise Failed(f"{error.filename or file}: {error.strerror}") from error
    if file != "-":
        print(f"{file}: {rows} {what}")
