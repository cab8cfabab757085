"""Section `bus`: which broker, and who we are there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from gleaner.settings.fields import Section


class BusSettings(Section):
    """Where the MQTT broker is."""

    url: str = Field(
        "mqtt://127.0.0.1:1883",
        description="`mqtt://host:port`, or `mqtts://` for TLS. "
        "`gleaner up` starts a broker there if none answers.",
    )
    user: str | None = Field(None, description="User name of our account.")
    password: str | None = Field(None, description="Better in `password_file`.")
    password_file: Path | None = Field(None, description="A file whose first line is the password.")
    client_id: Literal["user", "own"] = Field(
        "own",
        description="`own`: each connection makes up one, so that several may share an account. "
        "`user`: the user name is the client id, for a broker that lets an account have no other; "
        "then each connection needs an account of its own, or the broker throws off one for the "
        "other.",
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="MQTT version; `auto` tries 5 first."
    )
    ca_file: Path | None = Field(
        None, description="Certificate authority to trust instead of the system's."
    )
    ca: str | None = Field(
        None, description="The same as text (PEM); an enrolment may bring it. A `ca_file` wins."
    )
    certificate_file: Path | None = Field(None, description="Our certificate, if the broker asks.")
    key_file: Path | None = Field(None, description="The key of our certificate.")
    enrolment: str | None = Field(
        None,
        description="What `gleaner enroll` printed for this host. It gives `url`, `user`, "
        "`password`, `client_id`, `ca`, `node.id` and `node.scheduler_keys` where they are not "
        "set, and is kept in the data directory (`account/enrolment`) from then on.",
    )
    enrolment_file: Path | None = Field(
        None,
        description="A file with such a text. Default: `account/enrolment` in the data directory, "
        "if it is there and neither `url` nor `user` is set.",
    )

    @field_validator("url")
    @classmethod
    def _is_mqtt_url(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            fits = parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("expected mqtt://host:port or mqtts://host:port")
        return url
