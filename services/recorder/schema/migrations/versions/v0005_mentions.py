"""An index of whom and what events name, in place of those of their nodes and kinds.

That of events is empty here: the recorder takes in what was recorded before from the newest to the
oldest, a few events at a time, while it records. Runs have all they are asked for by in one index,
and sessions both their ends in each.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables, and remember that all events have to be taken in."""
    for index in ("node_at_id", "kind_at_id"):
        op.drop_index(op.f(f"ix_event_{index}"), "event")
    for before, columns in (
        ("device_end", ["device", "end", "begin"]),
        ("user_begin_id", ["user", "begin", "id", "end"]),
    ):
        op.drop_index(op.f(f"ix_session_{before}"), "session")
        op.create_index(op.f(f"ix_session_{'_'.join(columns)}"), "session", columns)
    op.drop_index(op.f("ix_run_first_at_node_run"), "run")
    op.create_index("ix_run_asked", "run", ["first_at", "node", "run", "state", "entry", "user"])
    op.create_table(
        "mention",
        *(
            sa.Column(name, sa.BigInteger(), nullable=name == "device", autoincrement=False)
            for name in ("about", "at", "event", "what", "device")
        ),
        sa.PrimaryKeyConstraint("about", "at", "event", name=op.f("pk_mention")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mentioned",
        sa.Column("since", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("since", name=op.f("pk_mentioned")),
    )
    op.execute(
        "INSERT INTO mentioned (since, next) SELECT since, 0 FROM "
        "(SELECT max(id) + 1 AS since FROM event) AS newest WHERE since IS NOT NULL"
    )
