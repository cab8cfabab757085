"""`gleaner prepare` and `gleaner enroll` as people call them."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from gleaner.cli.app import run
from gleaner.cli.deployment.enroll import enroll, enrolled
from gleaner.cli.deployment.prepare import BROKER, SERVICES, Wanted, prepare
from gleaner.settings.enrolment import Enrolment, decode
from tests.deployment.prepared import volumes


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str


class Server:
    """The command line on a server, with the volumes of a deployment."""

    def __init__(
        self, directory: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.directory = volumes(directory)
        self._capsys, self._patch = capsys, patch
        patch.setenv("GLEANER_SERVER", "gpus.example.org")

    def __call__(self, command: str, *arguments: str) -> Said:
        argv = ["gleaner", command, "--directory", str(self.directory), *arguments]
        self._patch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            sys.exit(run())  # type: ignore[func-returns-value]
        said = self._capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)


@pytest.fixture
def server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Server:
    return Server(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes that were prepared, to copy: each file is written through to the disk."""
    directory = volumes(tmp_path_factory.mktemp("made"))
    list(prepare(directory, Wanted(server="gpus.example.org")))
    return directory


@pytest.fixture
def prepared(server: Server, made: Path) -> Server:
    shutil.copytree(made, server.directory, dirs_exist_ok=True)
    return server


def enrolment(said: Said) -> Enrolment:
    """Return what the one line to paste brings to a host."""
    assert said.status == 0, said.err
    variable, *command = said.out.split()
    assert command == ["docker", "compose", "up", "-d", "node"]
    return decode(variable.removeprefix("GLEANER_ENROLMENT="))


def test_preparing_says_what_was_made_and_that_nothing_was_missing(server: Server) -> None:
    first = server("prepare")

    assert first.out.splitlines()[0] == "made the key that nodes obey"
    assert len(first.out.splitlines()) == len(SERVICES) + 3
    assert server("prepare") == Said(0, "everything is there\n", "")


def test_a_host_gets_one_command_with_all_that_it_needs(prepared: Server) -> None:
    said = enrolment(prepared("enroll", "gpu7"))

    assert said.url == "mqtt://gpus.example.org:1883"
    assert said.node == "gpu7"
    assert said.user.startswith("gpu7.")
    public = (prepared.directory / "scheduler" / "keys" / "scheduler.pub").read_text().strip()
    assert said.scheduler_keys == (public,)


def test_a_host_that_is_enrolled_is_enrolled_once(prepared: Server) -> None:
    first = enrolment(prepared("enroll", "gpu7"))
    again = prepared("enroll", "gpu7")

    assert again.status == 1
    assert again.err.startswith("gpu7 is enrolled since 20")
    assert "--renew gives it a new password" in again.err
    renewed = enrolment(prepared("enroll", "gpu7", "--renew"))
    assert renewed.user == first.user
    assert renewed.password != first.password


def test_a_host_that_is_removed_may_be_enrolled_again(prepared: Server) -> None:
    first = enrolment(prepared("enroll", "gpu7"))

    assert prepared("enroll", "gpu7", "--remove").out == "gpu7 is let in no longer\n"
    passwords = prepared.directory / BROKER / "services.passwords"
    assert first.user not in passwords.read_text()
    assert enrolment(prepared("enroll", "gpu7")).user != first.user


@pytest.mark.real
def test_tls_brings_the_authority_along(server: Server) -> None:
    server("prepare", "--tls")

    said = enrolment(server("enroll", "gpu7", "--server", "[fd00::7]"))

    assert said.url == "mqtts://[fd00::7]:8883"
    assert said.ca == (server.directory / BROKER / "certificates" / "ca.pem").read_text()


def test_a_reader_gets_its_account_for_the_listener_of_people(prepared: Server) -> None:
    said = prepared("enroll", "--reader", "grafana")

    url, user, password = said.out.splitlines()
    assert (url, user) == ("url mqtt://127.0.0.1:1884", "user grafana")
    assert len(password) > 40
    assert (
        "user grafana\ntopic read gleaner/v1/#\n"
        in (prepared.directory / BROKER / "people.acl").read_text()
    )


def test_the_list_names_nodes_and_readers_and_no_secret(prepared: Server) -> None:
    enrolment(prepared("enroll", "gpu7"))
    prepared("enroll", "--reader", "grafana")

    assert [line.split()[:2] for line in prepared("enroll", "--list").out.splitlines()[1:]] == [
        ["gpu7", "node"],
        ["grafana", "reader"],
    ]
    shown = json.loads(prepared("enroll", "--list", "--json").out)
    assert [set(entry) for entry in shown] == [{"kind", "name", "user", "since"}] * 2


def test_a_text_in_a_file_is_kept_while_it_is_of_use(prepared: Server) -> None:
    (prepared.directory / "demo").mkdir()
    file = prepared.directory / "demo" / "account" / "enrolment"

    first = prepared("enroll", "demo", "--output", str(file), "--server", BROKER)
    text = file.read_text()
    again = prepared("enroll", "demo", "--output", str(file), "--server", BROKER)

    assert first.out == f"demo is enrolled, by {file}\n"
    assert again.out == f"demo is enrolled already, by {file}\n"
    assert file.read_text() == text
    prepared("enroll", "demo", "--renew")
    prepared("enroll", "demo", "--output", str(file), "--server", BROKER)
    assert file.read_text() != text
    assert decode(file.read_text()).url == "mqtt://broker:1883"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["GPU 7"], 2, "'GPU 7' cannot be its name: a name has 1 to 63 of a-z, 0-9, _ and -"),
        (["a/b"], 2, "'a/b' cannot be its name"),
        (["gpu7", "--reader", "x"], 2, "name one node, or one --reader, or ask for the --list"),
        ([], 2, "name one node, or one --reader, or ask for the --list"),
        (["gpu7", "--renew", "--remove"], 2, "--renew, --remove, --list and --output go alone"),
        (["--reader", "operator"], 2, "operator is the account of this command line"),
        (["gpu7", "--renew"], 1, "no node gpu7 is enrolled; `gleaner enroll --list` shows who is"),
        (["gpu7", "--remove"], 1, "no node gpu7 is enrolled"),
        (["gpu7", "--server", "a b"], 2, "--server: 'a b' is no name of a host"),
        (["gpu7", "--server", "h:99999"], 2, "--server: "),
    ],
)
def test_what_cannot_be_is_one_line(
    prepared: Server, arguments: list[str], status: int, words: str
) -> None:
    said = prepared("enroll", *arguments)

    assert said.status == status
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_without_a_name_of_the_server_no_host_can_be_told(
    prepared: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLEANER_SERVER", "")
    prepared("prepare")

    said = prepared("enroll", "gpu7")

    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("by which name do hosts reach this server? Set GLEANER_SERVER")
    assert prepared("enroll", "--list").out.count("\n") == 1


def test_before_it_is_prepared_nobody_is_enrolled(server: Server) -> None:
    said = server("enroll", "gpu7")

    assert said.status == 1
    assert (
        said.err == f"{server.directory}/broker: is not prepared yet; `gleaner prepare` does that\n"
    )


def test_several_enrolled_at_once_are_all_enrolled(prepared: Server) -> None:
    names = [f"gpu{number}" for number in range(12)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: enroll(prepared.directory, "node", name, "new"), names))

    assert {entry.name for entry in enrolled(prepared.directory)} == set(names)
