"""What a runner reads of the configuration: the bus, the node, and the node's own catalogue."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from gleaner.settings import BusSettings, NodeSettings, Part, ServiceSettings, WorkloadSettings
from gleaner.settings.workload import check_unique


class RunnerSettings(ServiceSettings):
    """The sections of the runner."""

    part: ClassVar[Part] = "runner"

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    workload: tuple[WorkloadSettings, ...] = ()

    @model_validator(mode="after")
    def _workload_names_are_unique(self) -> Self:
        check_unique(self.workload)
        return self
