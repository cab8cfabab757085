"""What the command line reads: the whole file, so that every mistake in it is told."""

from __future__ import annotations

from gleaner.settings import ServiceSettings
from gleaner.settings.sections import AllSettings


class Settings(AllSettings, ServiceSettings):
    """All sections."""

    model_config = ServiceSettings.model_config
