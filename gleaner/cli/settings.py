"""What the command line reads: the whole file, so that every mistake in it is told."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from gleaner.settings import (
    AccountingSettings,
    BusSettings,
    DatabaseSettings,
    NodeSettings,
    SchedulerSettings,
    ServiceSettings,
    WebSettings,
    WorkloadSettings,
)
from gleaner.settings.workload import check_unique


class Settings(ServiceSettings):
    """All sections."""

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    workload: tuple[WorkloadSettings, ...] = ()
    scheduler: SchedulerSettings = SchedulerSettings()
    database: DatabaseSettings = DatabaseSettings()
    accounting: AccountingSettings = AccountingSettings()
    web: WebSettings = WebSettings()

    @model_validator(mode="after")
    def _workload_names_are_unique(self) -> Self:
        check_unique(self.workload)
        return self
