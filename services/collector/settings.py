"""What the collector reads of the configuration."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from gleaner.settings import BusSettings, NodeSettings, Part, ServiceSettings


class CollectorSettings(ServiceSettings):
    """The broker and this node."""

    part: ClassVar[Part] = "collector"

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
