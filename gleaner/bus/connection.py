"""Where a broker is, and who we are there: what it takes to connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the broker is and who we are there."""

    url: str
    """`mqtt://host:port` or `mqtts://host:port`."""
    user: str | None = None
    password: str | None = None
    client_id: Literal["user", "own"] = "user"
    """`own`: several connections share the account, so each makes up its client id."""
    protocol: str = "auto"
    """`5`, `3.1.1`, or `auto`: 5, and 3.1.1 where the broker refuses it."""
    ca_file: str | None = None
    ca: str | None = None
    """The certificate authority itself (PEM), where it lies in no file."""
    certificate_file: str | None = None
    key_file: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or (8883 if self.is_tls else 1883)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"
