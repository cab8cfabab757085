"""Nobody takes itself for the broker, and keeps the broker from its port."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.dial import dial, refuse_itself
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.machine.broker import Address, is_answered
from tests.builders import until

PORT = 40_000
ROOT = Path(__file__).parent.parent.parent


def test_a_connection_to_itself_is_refused() -> None:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        connection.connect(connection.getsockname())

        with pytest.raises(ConnectionRefusedError):
            refuse_itself(connection)


def test_who_listens_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, dial(listener.getsockname(), 1) as own:
        assert own.getpeername() == listener.getsockname()


def test_who_has_hung_up_already_is_somebody_else() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), 5) as connection,
    ):
        other, _ = listener.accept()
        # With a reset, as of a server that was spoken to in the wrong way.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

        refuse_itself(connection)


@pytest.mark.real
def test_who_waits_for_a_broker_does_not_find_itself_nor_keep_it_from_its_port() -> None:
    """In a network of its own, where the kernel has no other port to give than the broker's."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.bus.test_dial"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "heard of a listener\n"
    assert "Connection refused" in done.stderr
    assert "does not answer" not in done.stderr


async def wait_for_a_broker() -> None:
    """Ask for a broker that is not there, then be one; print whether we were heard of."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        set_flags, up = 0x8914, struct.pack("16sh", b"lo", 1)
        fcntl.ioctl(any_socket, set_flags, up)
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range")
    ports.write_text(f"{PORT} {PORT}")
    assert not is_answered(Address("127.0.0.1", PORT))
    bus = MqttBus(Connection(url=f"mqtt://127.0.0.1:{PORT}"), "test", "1")
    running = asyncio.create_task(bus.run())
    await asyncio.sleep(1)  # Several attempts, each of which meets itself.
    # Else whoever asks has no port to ask from once the broker has its own.
    ports.write_text(f"{PORT} {PORT + 100}")
    heard: list[object] = []
    server = await asyncio.start_server(lambda *_: heard.append(_), "127.0.0.1", PORT)
    await until(lambda: bool(heard), 10)
    print("heard of a listener")
    running.cancel()
    server.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(wait_for_a_broker())
