"""What the web service reads of the configuration."""

from __future__ import annotations

from pydantic import Field

from gleaner.settings import BusSettings, NodeSettings, ServiceSettings, WebSettings


class Settings(ServiceSettings):
    """Where the broker is, where our health file lies, and how the page is reached."""

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    web: WebSettings = WebSettings()
