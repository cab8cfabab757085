"""A configuration of gpu_mon becomes one of Gleaner: same GPUs, programs, people and logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gleaner.cli.gpu_mon import ImportRefused, convert
from gleaner.cli.settings import Settings
from gleaner.settings import load

ONE_FOR_ALL = """\
[defaults]
interval_seconds=10
; a comment
[gpu-all]
gpus=ALL
ignore_programs=nvidia-smi
[process-all]
dir=/tmp
cmd=miner-run
gpus=ALL
log=/dev/null
[tty]
enabled=True
whitelist=user1,user2
idle_seconds=300
"""

ONE_PER_GPU = """\
[defaults]
interval_seconds=10
[gpu-all]
gpus=ALL
ignore_programs=nvidia-smi, Xorg
[process-0]
dir=/tmp
cmd=miner-run
gpus=0
log=/dev/null
[process-1]
dir=/srv
cmd=miner-run  --fast
gpus=1
[tty]
enabled=True
whitelist=user1, user2
idle_seconds=300
"""


def imported(tmp_path: Path, text: str) -> Settings:
    """What Gleaner reads from the file that was made of gpu_mon's."""
    source, target = tmp_path / "gpu_mon.conf", tmp_path / "gleaner.toml"
    source.write_text(text)
    target.write_text(convert(source))
    return load(Settings, target)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    source = tmp_path / "gpu_mon.conf"
    source.write_text(text)
    with pytest.raises(ImportRefused) as refused:
        convert(source)
    return [mistake.removeprefix(f"{source}: ") for mistake in refused.value.mistakes]


def test_one_program_for_all_gpus_stays_one_run_over_all(tmp_path: Path) -> None:
    settings = imported(tmp_path, ONE_FOR_ALL)

    (workload,) = settings.workload
    assert (workload.name, workload.command, workload.gpus) == ("process-all", "miner-run", "all")
    assert (workload.directory, workload.log) == (Path("/tmp"), Path("/dev/null"))
    assert settings.node.gpu.ignore_programs == ("nvidia-smi",)


def test_people_are_taken_over(tmp_path: Path) -> None:
    people = imported(tmp_path, ONE_FOR_ALL).node.people

    assert people.enabled
    assert people.whitelist == ("user1", "user2")
    assert people.idle_seconds == 300


def test_programs_for_single_gpus_stay_apart(tmp_path: Path) -> None:
    settings = imported(tmp_path, ONE_PER_GPU)

    assert [(one.name, one.gpus, one.log) for one in settings.workload] == [
        ("process-0", (0,), Path("/dev/null")),
        ("process-1", (1,), None),
    ]


def test_lists_are_stripped(tmp_path: Path) -> None:
    settings = imported(tmp_path, ONE_PER_GPU)

    assert settings.node.gpu.ignore_programs == ("nvidia-smi", "Xorg")
    assert settings.node.people.whitelist == ("user1", "user2")


def test_nobody_is_watched_without_a_tty_section(tmp_path: Path) -> None:
    text = ONE_FOR_ALL.partition("[tty]")[0]

    assert not imported(tmp_path, text).node.people.enabled


def test_zero_idle_seconds_mean_that_nobody_counts(tmp_path: Path) -> None:
    text = ONE_FOR_ALL.replace("idle_seconds=300", "idle_seconds=0")

    assert not imported(tmp_path, text).node.people.enabled


def test_several_gpus_of_one_program_become_one_run_over_them(tmp_path: Path) -> None:
    text = ONE_PER_GPU.replace("gpus=1\n", "gpus=2, 1\n")

    assert imported(tmp_path, text).workload[1].gpus == (1, 2)


def test_a_command_with_quotes_is_kept_for_splitting_as_a_shell_does(tmp_path: Path) -> None:
    text = ONE_FOR_ALL.replace("cmd=miner-run", 'cmd=sh -c "echo a b"')

    assert imported(tmp_path, text).workload[0].command == 'sh -c "echo a b"'


def test_all_mistakes_are_named_together(tmp_path: Path) -> None:
    text = ONE_PER_GPU.replace("cmd=miner-run\n", "").replace("gpus=1\n", "gpus=one\n")

    assert mistakes(tmp_path, text) == [
        "[process-0] cmd is missing",
        "[process-1] gpus: 'one' is neither ALL nor a list of numbers",
    ]


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "[mysqld]\nport=1\n") == [
        "neither a [gpu…] nor a [process…] section: not a file of gpu_mon"
    ]


def test_a_file_that_is_no_ini_is_refused_in_one_line(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, "cmd=x\n")

    assert "no section headers" in mistake
    assert "\n" not in mistake


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="No such file"):
        convert(tmp_path / "none.conf")
