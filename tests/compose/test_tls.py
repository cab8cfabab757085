"""An encrypted bus, by one setting: a certificate is made, and hosts are told whom to trust."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.compose.deployment import SERVICES, Deployment, wait
from tests.compose.hosts import Host

pytestmark = [pytest.mark.compose, pytest.mark.timeout(120, func_only=True)]


def test_one_setting_encrypts_the_bus(second: Deployment, tmp_path: Path) -> None:
    second.settings["GLEANER_TLS"] = "true"
    second.up()
    wait(lambda: all(second.health(name) == "healthy" for name in SERVICES), 40)

    with Host(tmp_path / "gpu1", second.enroll("gpu1")) as host:
        wait(lambda: second.presence("gpu1") == "online", 20, host.said)
        assert "mqtts://127.0.0.1" in host.said()

    # Who does not know the authority is not taken in, and the authority is our own.
    stranger = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", second.node_port)) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        stranger.wrap_socket(connection, server_hostname="127.0.0.1")
