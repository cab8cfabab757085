"""`gleaner prepare`: what it makes, that it keeps it, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from gleaner.cli.deployment.prepare import BROKER, SERVICES, Wanted, prepare
from gleaner.cli.deployment.register import Register, new_entry
from gleaner.cli.deployment.volume import Unusable, read
from gleaner.settings.enrolled import KEPT
from gleaner.settings.enrolment import Enrolment, decode
from tests.builders import NOW
from tests.deployment.prepared import MOSQUITTO, volumes


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return volumes(tmp_path)


def made(directory: Path, *, tls: bool = False, server: str | None = "server") -> list[str]:
    theirs = directory / "certificates"
    return list(prepare(directory, Wanted(server=server, tls=tls, certificates=theirs)))


def account(directory: Path, service: str) -> Enrolment:
    return decode((directory / service / KEPT).read_text())


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_once_more_changes_nothing(directory: Path) -> None:
    assert len(made(directory)) == len(SERVICES) + 3
    before = contents(directory)

    assert made(directory) == []
    assert contents(directory) == before


def test_each_service_has_an_account_of_its_own(directory: Path) -> None:
    made(directory)

    accounts = [account(directory, name) for name in SERVICES]
    assert len({one.password for one in accounts}) == len(SERVICES)
    assert {one.url for one in accounts} == {"mqtt://broker:1883", "mqtt://broker:1884"}
    assert account(directory, "operator").client_id == "own"


def test_the_broker_keeps_no_password(directory: Path) -> None:
    made(directory)

    everything = b"".join(contents(directory / BROKER).values())
    for name in SERVICES:
        assert account(directory, name).password.encode() not in everything


def test_names_of_services_cannot_be_guessed(directory: Path) -> None:
    """On the listener for people client ids are free, and a known one could be taken."""
    made(directory)

    names = {name: account(directory, name).user for name in SERVICES}
    assert names.pop("operator") == "operator"
    assert all(user.startswith(f"{name}.") and len(user) >= 20 for name, user in names.items())


@pytest.mark.real
def test_everything_is_for_its_owner_alone(directory: Path) -> None:
    made(directory, tls=True)

    modes = {
        path.name: path.stat().st_mode & 0o077 for path in directory.rglob("*") if path.is_file()
    }
    assert modes.pop("scheduler.pub") in (0, 0o044)
    assert set(modes.values()) == {0}


@pytest.mark.real
def test_root_gives_everything_to_whom_the_volumes_belong(directory: Path) -> None:
    for name in (BROKER, *SERVICES):
        os.chown(directory / name, 4711, 4712)

    made(directory, tls=True)

    owners = {(path.stat().st_uid, path.stat().st_gid) for path in directory.glob("*/**/*")}
    assert owners == {(4711, 4712)}


def test_a_volume_that_is_lost_gets_a_new_password_under_the_old_name(directory: Path) -> None:
    made(directory)
    before = account(directory, "recorder")
    shutil.rmtree(directory / "recorder" / "account")

    assert made(directory) == ["made the account of recorder", "wrote what the broker reads"]
    after = account(directory, "recorder")
    assert after.user == before.user
    assert after.password != before.password


def test_a_service_cannot_take_anothers_name_by_what_its_volume_says(directory: Path) -> None:
    made(directory)
    shutil.copy(directory / "recorder" / KEPT, directory / "web" / KEPT)

    made(directory)

    assert account(directory, "web").user.startswith("web.")


def test_who_was_enrolled_stays_enrolled(directory: Path) -> None:
    made(directory)
    register = read(directory / BROKER)
    assert register is not None
    entry = new_entry("node", "gpu1", "p", NOW)
    text = register.with_entry(entry).model_dump_json()
    (directory / BROKER / "accounts.json").write_text(text)

    made(directory)

    kept = read(directory / BROKER)
    assert kept is not None
    assert kept.find("node", "gpu1") == entry
    assert f"{entry.user}-runner:" in (directory / BROKER / "services.passwords").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"version"', "is damaged; restore it from a backup, or remove it"),
        ("[]", "is damaged"),
        ('{"version": 1, "entries": [{"kind": "node"}]}', "is damaged"),
        ('{"version": 2, "realms": []}', "was written by a newer Gleaner (version 2"),
    ],
)
def test_a_list_of_accounts_that_is_of_no_use_is_left_alone(
    directory: Path, text: str, words: str
) -> None:
    made(directory)
    (directory / BROKER / "accounts.json").write_text(text)
    before = contents(directory)

    with pytest.raises(Unusable) as refused:
        made(directory)

    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(directory) == before


def test_a_volume_that_is_not_there_is_named(directory: Path) -> None:
    (directory / "web").rmdir()

    with pytest.raises(Unusable, match=r"/web: there is no such folder; is the volume mounted\?"):
        made(directory)


def test_a_key_that_is_none_is_named(directory: Path) -> None:
    (directory / "scheduler" / "keys").mkdir()
    (directory / "scheduler" / "keys" / "scheduler.key").write_bytes(b"half")

    with pytest.raises(Unusable, match=r"scheduler\.key: 4 bytes are no key"):
        made(directory)


@pytest.mark.real
def test_a_certificate_is_made_once_and_again_for_another_name(directory: Path) -> None:
    made(directory, tls=True)
    certificate = directory / BROKER / "certificates" / "server.pem"
    first, authority = certificate.read_text(), account(directory, "web").ca

    assert made(directory, tls=True) == []
    assert made(directory, tls=True, server="other.example.org")[0] == (
        "made a certificate for the broker"
    )
    assert certificate.read_text() != first
    assert account(directory, "web").ca == authority
    assert account(directory, "web").url == "mqtts://broker:8883"


@pytest.mark.real
def test_a_certificate_of_ones_own_wins(directory: Path) -> None:
    other = volumes_below(directory, "other")
    made(other, tls=True, server="gpus.example.org")
    theirs = directory / "certificates"
    theirs.mkdir()
    for name in ("server.pem", "server.key"):
        shutil.copy(other / BROKER / "certificates" / name, theirs)

    assert made(directory, tls=True, server="gpus.example.org:9000")[1] == (
        f"took over the certificate in {theirs}"
    )
    ours = directory / BROKER / "certificates"
    assert (ours / "server.pem").read_text() == (theirs / "server.pem").read_text()
    # Systems know its authority, and it need not bear the container's name.
    assert account(directory, "web").ca is None
    assert account(directory, "web").url == "mqtts://gpus.example.org:8883"
    assert made(directory, tls=True, server="gpus.example.org:9000") == []


@pytest.mark.real
def test_a_certificate_with_anothers_key_is_refused(directory: Path) -> None:
    other = volumes_below(directory, "other")
    made(other, tls=True)
    made(directory, tls=True)
    theirs = directory / "certificates"
    theirs.mkdir()
    shutil.copy(other / BROKER / "certificates" / "server.pem", theirs)
    shutil.copy(directory / BROKER / "certificates" / "server.key", theirs)

    with pytest.raises(Unusable, match=r"server\.pem: is no certificate for .*KEY_VALUES_MISMATCH"):
        made(directory, tls=True)


def volumes_below(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    return volumes(directory / name)


def test_the_list_of_accounts_is_readable_by_people(directory: Path) -> None:
    made(directory)

    said = json.loads((directory / BROKER / "accounts.json").read_text())
    assert [entry["name"] for entry in said["entries"]] == sorted(SERVICES)
    assert Register.model_validate(said).server == "server"


def test_no_certificate_lies_in_the_repository() -> None:
    assert [path.name for path in (MOSQUITTO / "certificates").iterdir()] == [".gitignore"]
