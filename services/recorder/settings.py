"""What the recorder reads of the configuration."""

from __future__ import annotations

from pydantic import Field

from gleaner.settings import (
    AccountingSettings,
    BusSettings,
    DatabaseSettings,
    NodeSettings,
    ServiceSettings,
)


class RecorderSettings(ServiceSettings):
    """Its sections; of `node` only the data directory matters here."""

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    database: DatabaseSettings = DatabaseSettings()
    accounting: AccountingSettings = AccountingSettings()

    @property
    def database_url(self) -> str:
        """The database: as configured, else a SQLite file in the data directory."""
        if self.database.url is not None:
            return self.database.url
        return f"sqlite:///{self.node.data_directory / 'recorder' / 'gleaner.sqlite'}"
