"""Commands that write what is known for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gleaner.cli.commands.common import (
    LOOK,
    Config,
    Failed,
    group,
    load,
    seconds_of,
    wait_for,
)

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

    Both are replaced as a whole. A host that is silent stays on the page as it was last known.
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
