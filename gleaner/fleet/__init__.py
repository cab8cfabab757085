"""What is known of the fleet: deliveries folded into values, with the age of everything.

Pure and shared: the page, the command line and integrators see the same fleet by the same rules.
Feed every delivery of `FOLLOWED` into `Fleet.take` and read `Fleet.nodes`; or let `follow` do it.

Rules of age. A beat is the only proof that somebody looks at a node: facts are retained and may be
old. A node is `online` with a live beat within 10 s, `stale` with an older one, `offline` when its
connection ended (farewell or will) and no beat came since, and `unheard` when no live beat came
since we began to listen. Readings older than three of their intervals are stale as well. What is
stale is never current: `GpuView.condition` is then `unknown`, whatever the last fact says.

A node's clock may differ from ours. Its beats tell by how much, so instants of a node (`since`,
`at`) are compared with `NodeView.node_time(now)` and never with our own clock.
"""

from gleaner.fleet.fleet import EVERYTHING, FOLLOWED, Fleet, FleetView, follow
from gleaner.fleet.node import DIVIDED, GpuView, NodeView
from gleaner.fleet.presence import NODE_SERVICES, Presence, is_of_older_connection

__all__ = [
    "DIVIDED",
    "EVERYTHING",
    "FOLLOWED",
    "NODE_SERVICES",
    "Fleet",
    "FleetView",
    "GpuView",
    "NodeView",
    "Presence",
    "follow",
    "is_of_older_connection",
]
