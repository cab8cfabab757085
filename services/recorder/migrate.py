"""Bring a database up to our version; refuse one that is newer than we are."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gleaner.runtime import Fatal

logger = logging.getLogger(__name__)


def migrate(connection: Connection, name: str) -> None:
    """Run the migrations that are missing, within the transaction of the connection."""
    # It tells more of itself than of what it does.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(Path(__file__).parent / "migrations/versions"))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    newest = scripts.get_current_head()
    if current is not None and current not in known:
        raise Fatal(
            f"{name} was written by a newer version of Gleaner (layout {current}, this one knows "
            f"{newest}): update Gleaner, or configure another database.url"
        )
    if current != newest:
        if current is None:
            logger.info("%s: a new database, layout %s", name, newest)
        else:
            logger.info("%s: brought from layout %s to %s", name, current, newest)
        command.upgrade(config, "head")
