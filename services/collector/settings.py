"""What the collector reads of the configuration."""

from __future__ import annotations

from pydantic import Field

from gleaner.settings import BusSettings, NodeSettings, ServiceSettings


class CollectorSettings(ServiceSettings):
    """The broker and this node."""

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
