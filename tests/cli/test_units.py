"""What systemd is told of our services."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gleaner.cli.settings import Settings
from gleaner.cli.systemd import install
from gleaner.cli.systemd.units import NAMES, UP, Unit, Written, conflicts, file_of, text_of, written
from gleaner.settings import (
    AccountingSettings,
    DatabaseSettings,
    NodeSettings,
    SchedulerSettings,
    WorkloadSettings,
)

EVERY = (UP, *NAMES)
every = pytest.mark.parametrize("service", EVERY)


def unit(service: str, *, is_user: bool = False, config: str | None = None, **more: object) -> Unit:
    values: dict[str, object] = {
        "program": ("/opt/gleaner/bin/gleaner",),
        "config": Path(config) if config else None,
        "data": Path("/var/lib/gleaner"),
        "stop_seconds": 20,
        "version": "1.2.3",
    }
    return Unit(service=service, is_user=is_user, **(values | more))  # type: ignore[arg-type]


def settings(**more: object) -> Settings:
    node = NodeSettings(data_directory=Path("/var/lib/gleaner"))
    return Settings(node=node, **more)  # type: ignore[arg-type]


def keys(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


@every
def test_a_service_is_started_again_at_once_and_for_ever(service: str) -> None:
    said = keys(text_of(unit(service)))

    assert said["Restart"] == "always"
    assert said["RestartSec"] == "500ms"
    assert said["StartLimitIntervalSec"] == "0"
    assert said["RestartPreventExitStatus"] == "2"


@every
def test_a_service_is_the_very_program_with_its_configuration(service: str) -> None:
    said = keys(text_of(unit(service, config="/etc/gleaner/gleaner.toml")))

    line = f"/opt/gleaner/bin/gleaner {service} --config /etc/gleaner/gleaner.toml"
    assert said["ExecStart"] == line


def test_names_are_written_as_systemd_reads_them() -> None:
    said = text_of(unit("node", config='/srv/my "gpus" 100%/$a\\b.toml'))

    assert keys(said)["ExecStart"].endswith(r'--config "/srv/my \"gpus\" 100%%/$$a\\b.toml"')


@pytest.mark.parametrize("service", [UP, "node", "runner"])
def test_nothing_is_taken_from_those_who_start_workloads(service: str) -> None:
    said = keys(text_of(unit(service)))

    taken = ("Private", "Protect", "Restrict", "NoNew", "Capability", "SystemCall", "ReadWrite")
    assert [
        key for key in said if key.startswith(taken) and key != "RestartPreventExitStatus"
    ] == []


def test_runs_outlive_a_node_that_is_killed() -> None:
    assert {name: keys(text_of(unit(name))).get("KillMode") for name in EVERY} == {
        "up": "mixed",
        "node": "process",
        "runner": "process",
    } | dict.fromkeys(("collector", "scheduler", "recorder", "web"))


def test_a_collector_sees_everything() -> None:
    said = keys(text_of(unit("collector")))

    assert not [key for key in said if key.startswith(("Private", "Protect", "Capability"))]


@pytest.mark.parametrize("service", ["scheduler", "recorder", "web"])
def test_who_needs_nothing_of_the_machine_gets_nothing(service: str) -> None:
    said = keys(text_of(unit(service, writes=(Path("/srv/usage"),))))

    assert said["ProtectSystem"] == "strict"
    assert said["ReadWritePaths"] == "/var/lib/gleaner /srv/usage"
    assert said["PrivateDevices"] == said["NoNewPrivileges"] == "yes"
    assert said["CapabilityBoundingSet"] in ("", "CAP_NET_BIND_SERVICE")


@every
def test_a_user_gets_what_a_user_may(service: str) -> None:
    said = keys(text_of(unit(service, is_user=True)))

    assert said["WantedBy"] == "default.target"
    assert not {"ProtectSystem", "CapabilityBoundingSet", "After"} & said.keys()


def test_a_users_data_are_where_the_user_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/home/ann/my state")

    theirs = text_of(install.unit("node", settings(), None, is_user=True))
    systems = text_of(install.unit("node", settings(), None, is_user=False))

    assert keys(theirs)["Environment"] == '"XDG_STATE_HOME=/home/ann/my state"'
    assert "Environment" not in keys(systems)


@every
def test_a_unit_says_what_it_was_written_with(service: str) -> None:
    text = text_of(unit(service, config="/srv/a=b.toml"))

    assert written(text) == Written(data=Path("/var/lib/gleaner"), config=Path("/srv/a=b.toml"))
    assert written(text_of(unit(service))) == Written(data=Path("/var/lib/gleaner"), config=None)


def test_a_unit_of_somebody_else_is_none_of_ours() -> None:
    assert written("[Service]\nExecStart=/usr/bin/gleaner up\n") is None


def test_another_version_is_another_unit() -> None:
    assert text_of(unit("web", version="1.2.4")) != text_of(unit("web"))


@pytest.mark.parametrize(
    ("wanted", "there", "fits"),
    [
        (("up",), (), True),
        (("up",), ("up",), True),
        (("up",), ("web",), False),
        (("node",), ("up",), False),
        (("node",), ("scheduler", "recorder", "web"), True),
        (("collector", "runner"), (), True),
        (("node", "collector"), (), False),
        (("runner",), ("node",), False),
    ],
)
def test_nothing_is_on_one_machine_twice(
    wanted: tuple[str, ...], there: tuple[str, ...], fits: bool
) -> None:
    assert (conflicts(wanted, there) == ()) == fits


def test_files_are_named_as_people_look_for_them() -> None:
    assert [file_of(name) for name in (UP, "web")] == ["gleaner.service", "gleaner-web.service"]


def test_a_recorder_may_write_where_it_is_told_to() -> None:
    wanted = settings(
        database=DatabaseSettings(url="sqlite:////srv/db/gleaner.sqlite"),
        accounting=AccountingSettings(csv_directory=Path("/srv/usage")),
        scheduler=SchedulerSettings(key_file=Path("/srv/keys/scheduler.key")),
    )

    found = {name: install.unit(name, wanted, None, is_user=False).writes for name in NAMES}

    assert found["recorder"] == (Path("/srv/db"), Path("/srv/usage"))
    assert found["scheduler"] == (Path("/srv/keys"),)
    assert found["web"] == ()


def test_nobody_is_killed_within_the_grace_of_a_workload() -> None:
    wanted = settings(workload=(WorkloadSettings(name="fold", command="x", grace_seconds=120),))

    found = {name: install.unit(name, wanted, None, is_user=False).stop_seconds for name in EVERY}

    assert found["up"] > found["node"] > 130
    assert found["web"] < 20


def test_a_program_that_others_may_write_is_told_of(tmp_path: Path) -> None:
    program = tmp_path / "gleaner"
    program.touch()
    tmp_path.chmod(0o755)
    program.chmod(0o757)
    theirs = unit("up", program=(str(program),))
    own = unit("up", program=(str(program),), is_user=True)

    assert [*install.distrusted(theirs)] == [f"{program} may be written by everybody (chmod o-w)"]
    assert [*install.distrusted(own)] == []
