"""Section `web`: where the page is, and who may reach and change what it shows."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from gleaner.settings.fields import Section, Words


class WebSettings(Section):
    """The page."""

    listen: str = Field("127.0.0.1:8080", description="Address and port; `[::1]:8080` for IPv6.")
    allowed_hosts: Words = Field(
        (),
        description="Names under which the page may be reached besides its own address; "
        "others are refused.",
    )
    control_token_file: Path | None = Field(
        None,
        description="A file whose first line lets people pause and drain by the page. On the "
        "machine itself root and the user who runs Gleaner need none; without it nobody else may.",
    )
    display_names: dict[str, str] = Field({}, description="Node id to the name shown for it.")
    model_names: dict[str, str] = Field(
        {}, description="Model as the driver says it to the shorter name shown for it."
    )

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("expected address:port, like 127.0.0.1:8080")
        return listen

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets) and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)
