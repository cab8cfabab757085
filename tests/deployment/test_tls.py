"""The broker of the containers with TLS: whom its hosts believe, and what they say if not."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.deployment.certificates import make
from tests.builders import folder_for_all, until
from tests.deployment.prepared import Deployment, connection, volumes

pytestmark = [
    pytest.mark.broker,
    # paho leaves the socket of a failed handshake to the garbage collection.
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with folder_for_all() as folder, Deployment(folder, tls=True) as started:
        yield started


async def complaint(to: Connection, caplog: pytest.LogCaptureFixture) -> str:
    """Return what is said by somebody who does not get a connection."""
    bus = MqttBus(to, "test", "test", announces=False)
    task = asyncio.create_task(bus.run())
    try:
        await until(lambda: bool(caplog.messages))
        assert not bus.connected
    finally:
        task.cancel()
        await asyncio.wait([task])
        gc.collect()
    return caplog.messages[0]


async def test_services_and_nodes_believe_the_authority_of_their_enrolment(
    deployment: Deployment,
) -> None:
    said = await asyncio.to_thread(deployment.enroll, "gpu1")
    for to in (deployment.service("recorder"), deployment.service("operator"), connection(said)):
        bus = MqttBus(to, "test", "test", announces=False)
        task = asyncio.create_task(bus.run())
        await until(lambda bus=bus: bus.connected)  # type: ignore[misc]
        task.cancel()
        await asyncio.wait([task])


async def test_a_broker_of_another_authority_is_not_believed(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = volumes(tmp_path)
    make(other / "operator", other / "broker", ())
    foreign = (other / "broker" / "certificates" / "ca.pem").read_text()

    said = await complaint(replace(deployment.service("recorder"), ca=foreign), caplog)

    assert "its certificate is of an authority that we do not know" in said


async def test_a_broker_under_another_name_is_not_believed(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    to = deployment.service("recorder")

    said = await complaint(replace(to, url=to.url.replace("127.0.0.1", "127.0.0.2")), caplog)

    assert "its certificate is for another name" in said


async def test_who_speaks_no_tls_is_told_that_nobody_answers(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    to = deployment.service("recorder")

    said = await complaint(replace(to, url=to.url.replace("mqtts", "mqtt")), caplog)

    assert "did not answer it as an MQTT broker does" in said


async def test_a_clock_that_is_off_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with folder_for_all() as folder:
        ahead = Deployment(folder, tls=True)
        begins_in_an_hour(folder)
        with ahead:
            said = await complaint(ahead.service("recorder"), caplog)

    assert "its certificate is not yet valid, says our clock" in said
    assert "is the clock right, here and on the server?" in said


def begins_in_an_hour(directory: Path) -> None:
    """Sign the broker's key as a server does whose clock is an hour ahead."""
    vault, folder = directory / "operator" / "certificates", directory / "broker" / "certificates"
    (vault / "index").touch()
    (vault / "configuration").write_text(
        f"[ca]\ndefault_ca = own\n[own]\ndatabase = {vault}/index\nnew_certs_dir = {vault}\n"
        f"rand_serial = yes\ndefault_md = sha256\npolicy = any\ncopy_extensions = copy\n"
        "[any]\ncommonName = supplied\n"
    )
    begins = datetime.now(UTC) + timedelta(hours=1)
    request = ["openssl", "req", "-new", "-key", folder / "server.key", "-subj", "/CN=broker"]
    request += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*request, "-out", vault / "request"], check=True, capture_output=True)
    sign = ["openssl", "ca", "-batch", "-notext", "-config", vault / "configuration"]
    sign += ["-keyfile", vault / "ca.key", "-cert", vault / "ca.pem", "-in", vault / "request"]
    sign += ["-startdate", f"{begins:%Y%m%d%H%M%SZ}", "-days", "30"]
    signed = subprocess.run([*sign, "-out", "/dev/stdout"], check=True, capture_output=True)
    (folder / "server.pem").write_bytes(signed.stdout)
