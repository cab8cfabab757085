"""Bring a database up to our version; refuse one that is newer than we are, or not ours."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from gleaner.runtime import Fatal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which version of the tables a database has."""

    current: str | None
    newest: str
    known: frozenset[str]

    @property
    def is_newest(self) -> bool:
        """Whether it is what this version of Gleaner reads and writes."""
        return self.current == self.newest

    @property
    def problem(self) -> str | None:
        """Why this version of Gleaner must leave it alone, or None."""
        if self.current is None or self.current in self.known:
            return None
        if self.current.isdigit():
            return (
                f"was written by a newer version of Gleaner (layout {self.current}, this one "
                f"knows {self.newest}): update Gleaner, or configure another database.url"
            )
        return (
            f"belongs to another program (layout {self.current!r}): configure another database.url"
        )


def layout_of(connection: Connection) -> Layout:
    """Return which tables a database has."""
    newest, known = _versions()
    current = MigrationContext.configure(connection).get_current_revision()
    return Layout(current=current, newest=newest, known=known)


def tables_of(connection: Connection) -> frozenset[str]:
    """Return everything that is in a database, ours or not."""
    return frozenset(inspect(connection).get_table_names())


def migrate(connection: Connection, name: str) -> Layout:
    """Run the migrations that are missing, within the transaction; return what was before."""
    # It tells more of itself than of what it does.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    layout = layout_of(connection)
    if layout.problem is not None:
        raise Fatal(f"{name} {layout.problem}")
    if not layout.is_newest:
        if layout.current is None:
            logger.info("%s: a new database, layout %s", name, layout.newest)
        else:
            logger.info("%s: brought from layout %s to %s", name, layout.current, layout.newest)
        upgrade(connection, "head")
    return layout


def upgrade(connection: Connection, to: str) -> None:
    """Run the migrations up to one of them."""
    command.upgrade(_config(connection), to)


@cache
def _versions() -> tuple[str, frozenset[str]]:
    """Return the newest of our versions, and all; to find them takes most of an opening."""
    scripts = ScriptDirectory.from_config(_config(None))
    newest = scripts.get_current_head()
    assert newest is not None
    return newest, frozenset(script.revision for script in scripts.walk_revisions())


def _config(connection: Connection | None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(Path(__file__).parent / "migrations/versions"))
    return config
