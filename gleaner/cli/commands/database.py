"""Commands that look after the recorder's database."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Annotated

import typer

from gleaner.cli.commands.common import (
    EXIT_FAILED,
    START,
    Config,
    Failed,
    Json,
    group,
    load,
    screen,
    wait_for,
)

commands = group()
databases = group("Look after the recorder's database.")
commands.add_typer(databases, name="database", rich_help_panel=START)

DatabaseUrl = Annotated[
    str | None,
    typer.Argument(
        help="sqlite:////a/path or postgresql://user@host/name; without it the recorder's, by the "
        "configuration."
    ),
]


@databases.command(
    "check",
    epilog="Examples: `gleaner database check`, "
    "`gleaner database check sqlite:////srv/backup/gleaner.sqlite`",
)
def database_check(url: DatabaseUrl = None, as_json: Json = False, config: Config = None) -> None:
    """Say whether a database is whole, and what is in it; also beside a recorder.

    Changes nothing. Reads all of it, which takes a while. Status 1 if this version of Gleaner
    cannot use it.
    """
    view = _database()
    found = wait_for(view.check(load(config), url))
    if as_json:
        print(json.dumps(view.as_json(found), indent=2))
    else:
        console = screen()
        # The terminal breaks an address that is too long for it, and copies it whole.
        console.print(found.name, style="italic", markup=False, soft_wrap=True)
        console.print(view.findings(found))
        if found.tables:
            console.print(view.sizes(found.tables))
    if not found.is_well:
        raise typer.Exit(EXIT_FAILED)


@databases.command("migrate", epilog="Example: `gleaner database migrate`, the recorder stopped")
def database_migrate(url: DatabaseUrl = None, config: Config = None) -> None:
    """Bring a database up to date, ahead of the recorder, which does so when it starts.

    The recorder has to be stopped. A file of an earlier version is also written anew, so that it
    can shrink from then on.
    """
    print(wait_for(_database().migrate(load(config), url)))


@databases.command(
    "copy",
    epilog="Example: `gleaner database copy sqlite:////var/lib/gleaner/recorder/gleaner.sqlite "
    "postgresql://gleaner@db1/gleaner`",
)
def database_copy(
    source: Annotated[str, typer.Argument(help="sqlite:////a/path or postgresql://user@host/name")],
    target: Annotated[str, typer.Argument(help="Another one, which is empty; a file is made.")],
    config: Config = None,
) -> None:
    """Copy everything from one database into another, all or nothing, and count it there.

    The recorder has to be stopped: what it would write meanwhile would be missing.
    """
    print(wait_for(_database().copy(load(config), source, target)))


def _database() -> ModuleType:
    try:
        from gleaner.cli.history import database
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("sqlalchemy", "alembic"):
            raise
        raise Failed(
            "`gleaner database` needs SQLAlchemy and alembic: pip install 'gleaner[recorder]'"
        ) from error
    return database
