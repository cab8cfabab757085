"""The sections of the configuration that the scheduler reads."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gleaner.settings import BusSettings, NodeSettings, SchedulerSettings, ServiceSettings


class SchedulerServiceSettings(ServiceSettings):
    """What the scheduler reads; of `node` only where its data directory is."""

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    scheduler: SchedulerSettings = SchedulerSettings()

    @property
    def directory(self) -> Path:
        """Where the scheduler keeps what must survive a restart."""
        return self.node.data_directory / "scheduler"

    @property
    def key_file(self) -> Path:
        """The private key that signs wishes."""
        return self.scheduler.key_file or self.node.data_directory / "keys" / "scheduler.key"
