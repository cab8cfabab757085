"""What `gleaner node` reads: everything that its collector and its runner read."""

from __future__ import annotations

from gleaner.settings import BusSettings, NodeSettings, ServiceSettings, WorkloadSettings


class Settings(ServiceSettings):
    """The bus, this machine and its catalogue."""

    bus: BusSettings = BusSettings()
    node: NodeSettings = NodeSettings()
    workload: tuple[WorkloadSettings, ...] = ()
