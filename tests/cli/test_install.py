"""`gleaner install` before it asks systemd for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from gleaner.cli.systemd import systemctl
from gleaner.settings.enrolment import encode
from tests.cli.test_commands import Said
from tests.settings.test_enrolment import GPU7, SERVICE


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Said:
    """The command, where there is no systemd and no configuration but the test's."""
    monkeypatch.setattr(systemctl, "BOOTED", tmp_path / "no-systemd")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    # So that it is as it was afterwards.
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", "")
    (tmp_path / "gleaner.toml").write_text(f'[node]\ndata_directory = "{tmp_path / "data"}"\n')
    return Said(capsys, monkeypatch)


@pytest.mark.parametrize("name", ["install", "uninstall"])
def test_a_machine_without_systemd_is_told_so_in_one_line(
    name: str, command: Said, tmp_path: Path
) -> None:
    status, text, errors = command(name)

    assert (status, text) == (1, "")
    assert errors.startswith("systemd is not what runs this machine (")
    assert errors.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_units_can_be_looked_at_before(command: Said, tmp_path: Path) -> None:
    status, text, _ = command("install", "node", "web", "--print")

    assert status == 0
    assert text.count("\n[Service]\n") == 2
    assert f" node --config {tmp_path / 'gleaner.toml'}\n" in text
    assert f"Data={tmp_path / 'data'}\n" in text
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "home").exists()


def test_mistakes_in_the_configuration_come_first(command: Said, tmp_path: Path) -> None:
    (tmp_path / "gleaner.toml").write_text('[log]\nlevel = "loud"\n')

    status, _, errors = command("install")

    assert status == 2
    assert "log.level" in errors


def test_a_variable_of_this_shell_is_no_setting_of_a_service(
    command: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLEANER_BUS__PASSWORD", "secret")

    said = "GLEANER_BUS__PASSWORD: a service does not see it; write it into gleaner.toml\n"
    assert command("install", "--print") == (2, "", said)


def test_an_enrolment_is_in_no_unit(command: Said, tmp_path: Path) -> None:
    status, text, errors = command("install", "node", "--print", "--enrolment", encode(GPU7))

    assert status == 0, errors
    assert "gleaner1." not in text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("services", "text", "why"),
    [
        (["node"], "gleaner1.x.y", "is damaged; copy the whole text"),
        (["node"], encode(SERVICE), "is not for a host"),
        (["web"], encode(GPU7), "is for `gleaner install node`"),
        ([], encode(GPU7), "is for `gleaner install node`"),
    ],
)
def test_an_enrolment_that_does_not_fit_is_refused_and_not_repeated(
    services: list[str], text: str, why: str, command: Said
) -> None:
    status, _, errors = command("install", *services, "--enrolment", text)

    assert status == 2
    assert why in errors
    assert text not in errors


def test_a_host_that_is_enrolled_is_no_machine_of_its_own(command: Said, tmp_path: Path) -> None:
    kept = tmp_path / "data" / "account" / "enrolment"
    kept.parent.mkdir(parents=True)
    kept.write_text(encode(GPU7))

    status, _, errors = command("install")

    assert status == 2
    assert "enrolled as the node gpu7" in errors
    assert "`gleaner install node`" in errors
