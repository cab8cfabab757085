"""What may run here, and what is wrong with it, in words."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from services.runner import catalogue
from tests.runner.rig import workload

PATH = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder as an administrator would make it."""
    tmp_path.chmod(0o755)
    return tmp_path


def test_a_good_entry_has_no_problem(place: Path) -> None:
    entry = workload("sleep 1", directory=place, log=place / "fold.log")

    assert catalogue.problems(entry, PATH) == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"user": "nobdy"}, "user nobdy does not exist"),
        ({"directory": "/nowhere"}, "directory /nowhere does not exist"),
        ({"command": "./fold"}, "program /fold does not exist, or may not be run by"),
        ({"command": "no-such-program"}, "program no-such-program is not in PATH (/usr/bin:/bin)"),
        ({"command": "/etc/passwd"}, "program /etc/passwd does not exist, or may not be run"),
        ({"log": "/nowhere/fold.log"}, "log directory /nowhere does not exist"),
        ({"log": "/etc"}, "log /etc is not a file"),
    ],
)
def test_each_mistake_is_named(changes: dict[str, str], problem: str) -> None:
    found = catalogue.problems(workload(**{"command": "sleep 1", **changes}), PATH)

    assert found[0].startswith(problem)


def test_a_program_that_everybody_may_write_is_not_run(place: Path) -> None:
    program = place / "fold"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    entry = workload("./fold", directory=place)

    assert catalogue.problems(entry, PATH) == (
        f"program {program} may be written by everybody (chmod o-w)",
    )


def test_a_path_of_the_entrys_own_is_searched(place: Path) -> None:
    program = place / "fold"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    entry = workload("fold", environment={"PATH": str(place)})

    assert catalogue.problems(entry, PATH) == ()


def test_any_change_of_an_entry_changes_its_digest() -> None:
    entries = [
        workload(),
        workload("sleep 1001"),
        workload(environment={"A": "1"}),
        workload(nice=5),
    ]

    assert len({catalogue.digest(entry) for entry in entries}) == len(entries)


def test_an_entry_without_a_user_runs_as_nobody_where_we_are_root() -> None:
    entry = workload(user=None)
    expected = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    assert catalogue.user_of(entry) == expected


def test_a_file_that_only_its_owner_may_write_is_trusted(place: Path) -> None:
    file = place / "gleaner.toml"
    file.write_text("")
    file.chmod(0o644)

    assert catalogue.distrust(file) is None


@pytest.mark.parametrize(
    ("mode", "folder_mode", "why"),
    [
        (0o666, 0o755, "gleaner.toml may be written by everybody (chmod o-w)"),
        (0o644, 0o777, "may be written by everybody (chmod o-w)"),
    ],
)
def test_a_file_that_others_may_write_or_replace_holds_every_entry(
    place: Path, mode: int, folder_mode: int, why: str
) -> None:
    file = place / "gleaner.toml"
    file.write_text("")
    file.chmod(mode)
    place.chmod(folder_mode)
    entries = (workload(), workload(name="other"))

    for entry in catalogue.check(entries, file, PATH):
        assert why in entry.problems[0]
    place.chmod(0o755)
