"""What the nodes' own CPU, memory, network and disks did, beside their GPUs.

Single samples of it are in `sample` with those of the GPUs, and need no new place.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_GAUGES = (
    "cpu_percent",
    "load_1_minute",
    "memory_used_bytes",
    "network_received_bytes_per_second",
    "network_sent_bytes_per_second",
    "disk_used_percent",
)


def upgrade() -> None:
    """Make the tables; there is nothing yet to put into them."""
    for tier in ("5m", "1d"):
        op.create_table(
            f"host_{tier}",
            *map(_whole, ("node", "start", "samples", "recorded_seconds")),
            *(
                sa.Column(f"{gauge}_{what}", sa.BigInteger(), nullable=what != "sum")
                for gauge in _GAUGES
                for what in ("sum", "seconds", "min", "max")
            ),
            sa.PrimaryKeyConstraint("node", "start", name=op.f(f"pk_host_{tier}")),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "host_1h",
        *map(_whole, ("node", "start")),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("node", "start", name=op.f("pk_host_1h")),
        sqlite_with_rowid=False,
    )


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)
