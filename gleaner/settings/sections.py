"""The whole configuration file: its sections in their order, and the two that are short.

`docs/configuration.md` is generated from these models; a field without a description fails a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gleaner.settings.broker import BusSettings
from gleaner.settings.fields import Seconds, Section
from gleaner.settings.history import AccountingSettings, DatabaseSettings
from gleaner.settings.node import NodeSettings
from gleaner.settings.web import WebSettings
from gleaner.settings.workload import WorkloadSettings, check_unique


class SchedulerSettings(Section):
    """When idle GPUs are put to work."""

    gpu_idle_seconds: Annotated[float, Field(ge=0)] = Field(
        60, description="How long a GPU must be idle before something starts there."
    )
    backoff_seconds: Seconds = Field(
        2,
        description="Wait before a workload that ended by itself starts again; doubles each time.",
    )
    backoff_max_seconds: Seconds = Field(600, description="The longest such wait.")
    healthy_seconds: Seconds = Field(
        120, description="A run that lasted this long forgets earlier crashes."
    )
    failures_max: Annotated[int, Field(ge=1)] = Field(
        5, description="Failures in a row after which a workload is held until somebody resumes it."
    )
    key_file: Path | None = Field(
        None, description="The private key. Default: `keys/scheduler.key` in the data directory."
    )


class LogSettings(Section):
    """What is said on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much.")


class AllSettings(BaseModel):
    """The whole file, for `gleaner doctor`, `gleaner up` and the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    workload: tuple[WorkloadSettings, ...] = ()
    scheduler: SchedulerSettings = SchedulerSettings()
    database: DatabaseSettings = DatabaseSettings()
    accounting: AccountingSettings = AccountingSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _workload_names_are_unique(self) -> Self:
        check_unique(self.workload)
        return self
