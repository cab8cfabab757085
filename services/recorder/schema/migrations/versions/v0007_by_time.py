"""Sums of hours, days and months in the order of time, so that those of one day lie together.

By device and then by time each was on a page of its own: every five minutes a page was written for
each GPU and table, and a question about all of them read each. Who asks about one finds them by an
index. While a table is made anew, both are there, and what is sorted takes the same room below the
temporary directory.
"""

# ruff: noqa: S608 - the names of tables and columns are our own
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TABLES = {
    "sample_1h": "device",
    "sample_1d": "device",
    "sample_1mo": "device",
    "host_1h": "node",
    "host_1d": "node",
    "use_1d": "device",
}


def upgrade() -> None:
    """Change the keys, of SQLite by making the tables anew."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for table, owner in _TABLES.items():
        who = ("user", "entry") if table == "use_1d" else ()
        key = ("start", owner, *who)
        if is_sqlite:
            _make_anew(table, key)
        else:
            op.drop_constraint(f"pk_{table}", table)
            op.create_primary_key(op.f(f"pk_{table}"), table, list(key))
        op.create_index(op.f(f"ix_{table}_{owner}_start"), table, [owner, "start"])
        if who and is_sqlite:
            # It went with the table of before.
            op.create_index(op.f(f"ix_{table}_user_start"), table, ["user", "start"])


def _make_anew(table: str, key: tuple[str, ...]) -> None:
    before = sa.Table(table, sa.MetaData(), autoload_with=op.get_bind())
    op.rename_table(table, f"old_{table}")
    op.create_table(
        table,
        *(
            sa.Column(column.name, column.type, nullable=column.nullable, autoincrement=False)
            for column in before.columns
        ),
        sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{table}")),
        sqlite_with_rowid=False,
    )
    columns = ", ".join(f'"{column.name}"' for column in before.columns)
    order = ", ".join(f'"{name}"' for name in key)
    op.execute(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table} ORDER BY {order}"
    )
    op.drop_table(f"old_{table}")
