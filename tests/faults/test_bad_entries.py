"""Entries that cannot run: each is named with what is wrong, wherever one looks; the others run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gleaner.bus.messages import Blockers
from tests.python import python_for_others
from tests.system import ROOT, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

HELD = {
    "no-user": ("user", "nobody-of-this-name", "user nobody-of-this-name does not exist"),
    "no-directory": ("directory", "{at}/away", "directory {at}/away does not exist"),
    "closed-directory": ("directory", "{at}/closed", "directory {at}/closed may not be entered by"),
    "no-command": ("command", "gleaner-none --x", "program gleaner-none is not in PATH"),
    "no-program": ("command", "{at}/none", "program {at}/none does not exist, or may not be run"),
    "no-rights": ("command", "{at}/plain", "program {at}/plain does not exist, or may not be run"),
    "open-program": ("command", "{at}/open", "program {at}/open may be written by everybody"),
    "no-log": ("log", "{at}/away/log", "log directory {at}/away does not exist"),
    "log-is-directory": ("log", "{at}/closed", "log {at}/closed is not a file"),
}


def bad_entries(directory: Path) -> str:
    """Return entries with one mistake each, and make what they need."""
    (directory / "closed").mkdir(mode=0o700)
    for name, mode in (("plain", 0o644), ("open", 0o777)):
        (directory / name).write_text("#!/bin/sh\nsleep 1000\n")
        (directory / name).chmod(mode)
    text = ""
    for name, (key, value, _) in HELD.items():
        entry = {"command": "sleep 1000", "directory": "/", "user": "nobody"}
        entry[key] = value.format(at=directory)
        lines = "\n".join(f'{one} = "{what}"' for one, what in entry.items())
        text += f'[[workload]]\nname = "{name}"\n{lines}\n'
    return text


def blockers_of(system: System) -> dict[str, str]:
    """Return what stands against each entry, in the scheduler's words."""
    return {
        workload.entry: "; ".join(blocker.text for blocker in workload.blockers)
        for fact in system.facts(Blockers)
        for workload in fact.workloads
    }


async def why(system: System, target: str) -> str:
    """Return what `gleaner why` says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gleaner.cli", "why", target, "--config", str(system.configuration),
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output.decode()


async def test_what_cannot_run_is_named_everywhere_and_the_rest_runs(common_path: Path) -> None:
    good = f"""
[[workload]]
name = "fold"
command = "{python_for_others()} {common_path}/workload.py {common_path}/told"
directory = "/"
user = "nobody"
"""
    system = System(common_path, workloads=bad_entries(common_path) + good, keeps_logs=True)
    async with system:
        await system.until(lambda: len(system.runs()) == 2)
        await system.until(lambda: blockers_of(system).keys() >= HELD.keys())
        said, logged = blockers_of(system), system.log("node")
        for name, (_, _, problem) in HELD.items():
            assert problem.format(at=common_path) in said[name]
            assert f"workload {name} cannot run: {problem.format(at=common_path)}" in logged
        assert "user nobody-of-this-name does not exist" in await why(system, "no-user")
        assert {run.entry for run in system.runs()} == {"fold"}

        system.configuration.chmod(0o666)
        system.stop("node")
        system.start("node")
        distrust = f"{system.configuration} may be written by everybody (chmod o-w)"
        await system.until(lambda: distrust in blockers_of(system)["fold"])
        assert f"workload fold cannot run: {distrust}" in system.log("node")
        assert "Traceback" not in system.log("node")
