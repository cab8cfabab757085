"""What is wrong with a machine, without changing it."""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path

from gleaner.cli.doctor import Finding, examine
from gleaner.cli.machine.health import health
from gleaner.cli.settings import Settings
from gleaner.settings import BusSettings, NodeSettings, PeopleSettings, WorkloadSettings


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(settings, None)}


def settings(directory: Path, **sections: object) -> Settings:
    nothing_there = BusSettings(url="mqtt://127.0.0.1:1")
    node = NodeSettings(id="n1", data_directory=directory)
    return Settings.model_validate({"bus": nothing_there, "node": node, **sections})


def test_everything_that_is_not_well_says_what_it_costs_and_what_helps(tmp_path: Path) -> None:
    found = findings(settings(tmp_path))

    assert [one.name for one in found.values() if one.verdict != "ok" and not one.text] == []
    unhelped = [one.name for one in found.values() if one.verdict != "ok" and not one.remedy]
    assert unhelped == []


def test_nothing_is_changed(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there"

    found = findings(settings(directory))

    assert found["data directory"].text == f"{directory} can be made"
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_others_may_read_is_a_failure(tmp_path: Path) -> None:
    key = tmp_path / "keys" / "scheduler.key"
    key.parent.mkdir()
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    open_to_all = findings(settings(tmp_path))["scheduler keys"]
    key.chmod(0o600)

    assert (open_to_all.verdict, str(key) in open_to_all.text) == ("fail", True)
    assert findings(settings(tmp_path))["scheduler keys"].verdict == "ok"


def test_secrets_locks_and_databases_that_everybody_may_read_are_named(tmp_path: Path) -> None:
    password, lock = tmp_path / "password", tmp_path / "up.lock"
    for file in (password, lock):
        file.touch()
        file.chmod(0o644)
    bus = BusSettings(url="mqtt://127.0.0.1:1", user="n1", password_file=password)
    found = findings(settings(tmp_path, bus=bus))["private files"]
    password.chmod(0o640)
    lock.chmod(0o600)

    assert (found.verdict, found.remedy) == ("warn", f"chmod o= {password} {lock}")
    assert findings(settings(tmp_path, bus=bus))["private files"].verdict == "ok"


def test_a_pinned_key_that_is_none_is_quoted(tmp_path: Path) -> None:
    node = NodeSettings(id="n1", data_directory=tmp_path, scheduler_keys=("nonsense",))

    found = findings(settings(tmp_path, node=node))["scheduler keys"]

    assert found.verdict == "fail"
    assert "'nonsense' is no public key" in found.text


def test_an_unreadable_password_file_is_named(tmp_path: Path) -> None:
    bus = BusSettings(user="n1", password_file=tmp_path / "none")

    found = findings(settings(tmp_path, bus=bus))["credentials"]

    assert found.verdict == "fail"
    assert str(tmp_path / "none") in found.text


def test_not_watching_people_is_a_warning(tmp_path: Path) -> None:
    node = NodeSettings(id="n1", data_directory=tmp_path, people=PeopleSettings(enabled=False))

    assert findings(settings(tmp_path, node=node))["people"].verdict == "warn"


def test_workloads_are_listed_and_what_cannot_run_says_why(tmp_path: Path) -> None:
    fold = WorkloadSettings(name="fold", command="sleep 1", user=getpass.getuser())
    wrong = WorkloadSettings(name="wrong", command="sleep 1", user="nobdy")

    good = findings(settings(tmp_path, workload=(fold,)))["workloads"]
    bad = findings(settings(tmp_path, workload=(fold, wrong)))["workloads"]

    assert (good.verdict, good.text) == ("ok", "fold")
    assert (bad.verdict, bad.text) == ("warn", "cannot run: wrong: user nobdy does not exist")


def test_a_service_is_well_while_its_health_file_is_fresh(tmp_path: Path) -> None:
    file = tmp_path / "health" / "web"
    missing = health(tmp_path, "web")
    file.parent.mkdir()
    file.touch()
    fresh = health(tmp_path, "web")
    old = time.time() - 60
    os.utime(file, (old, old))

    assert missing[0] is False
    assert fresh == (True, "web is well")
    assert health(tmp_path, "web") == (False, "web has not had the bus for 60 s")


def test_a_health_file_of_the_future_is_no_sign_of_life(tmp_path: Path) -> None:
    file = tmp_path / "health" / "web"
    file.parent.mkdir()
    file.touch()
    later = time.time() + 3600
    os.utime(file, (later, later))

    said = (False, "web has not had the bus since the clock was set back")
    assert health(tmp_path, "web") == said
