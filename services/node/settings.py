"""What `gleaner node` reads: everything that its collector and its runner read."""

from __future__ import annotations

from typing import ClassVar

from gleaner.settings import Part
from services.collector.settings import CollectorSettings
from services.runner.settings import RunnerSettings


class Settings(CollectorSettings, RunnerSettings):
    """The bus, this machine and its catalogue."""

    part: ClassVar[Part] = ""
