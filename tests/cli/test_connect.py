"""Which broker the command line talks to, and as whom."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gleaner.cli.commands.common import Failed, wait_for
from gleaner.cli.connect import where
from gleaner.cli.machine.endpoint import remove_endpoint, write_endpoint
from gleaner.cli.settings import Settings
from gleaner.client import RequestFailed
from gleaner.settings import BusSettings, NodeSettings

CONFIGURED = "mqtt://127.0.0.1:1"


def settings(directory: Path, **bus: str) -> Settings:
    (directory / "broker").mkdir(exist_ok=True)
    return Settings(
        bus=BusSettings.model_validate({"url": CONFIGURED, **bus}),
        node=NodeSettings(id="n1", data_directory=directory),
    )


def test_a_running_up_is_found_with_the_operators_account(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    (tmp_path / "broker" / "operator.password").write_text("secret\n")
    with socket.create_server(("127.0.0.1", 0)) as up:
        url = f"mqtt://127.0.0.1:{up.getsockname()[1]}"
        write_endpoint(tmp_path, url)

        found = where(wanted)

    assert (found.url, found.user, found.password) == (url, "operator", "secret")


def test_who_may_not_read_the_password_may_still_look(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as up:
        write_endpoint(tmp_path, f"mqtt://127.0.0.1:{up.getsockname()[1]}")

        assert where(wanted).user is None


def test_what_an_up_that_is_gone_has_left_is_not_believed(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    write_endpoint(tmp_path, "mqtt://127.0.0.1:2")

    assert where(wanted).url == CONFIGURED
    remove_endpoint(tmp_path)
    assert where(wanted).url == CONFIGURED


def test_an_account_of_the_configuration_comes_first(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as up:
        wanted = settings(tmp_path, user="me", password="p")
        write_endpoint(tmp_path, f"mqtt://127.0.0.1:{up.getsockname()[1]}")

        found = where(wanted)

    assert (found.url, found.user) == (CONFIGURED, "me")


def test_a_look_does_not_throw_off_the_service_of_the_same_account(tmp_path: Path) -> None:
    assert where(settings(tmp_path, user="n1")).client_id == "own"


def test_who_may_not_ask_is_told_who_may() -> None:
    async def ask() -> None:
        raise RequestFailed("the scheduler could not be asked: Not authorized")

    with pytest.raises(Failed, match=r"; ask as who runs `gleaner up`, or with \[bus\] user"):
        wait_for(ask())
