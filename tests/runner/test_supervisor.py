"""The small program that holds a run: what one of it costs is paid for every run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from services.runner import supervisor


def test_it_needs_nothing_but_a_few_modules_of_the_standard_library(tmp_path: Path) -> None:
    program = Path(supervisor.__file__).with_name("__main__.py")
    imported = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", program, tmp_path / "no spec"],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    names = [line.rpartition("|")[2].strip() for line in imported.splitlines() if "|" in line]
    tops = {name.partition(".")[0] for name in names} - {"imported package"}

    # What comes later is read as the workload's user, who may not be allowed to.
    assert {"services.runner.supervisor.hold", "warnings"} <= {*names}
    assert tops - sys.stdlib_module_names - {"zipimport", "services"} == set()
    # Each of these is a megabyte, or several.
    assert tops.isdisjoint({"typing", "inspect", "dataclasses", "pathlib", "asyncio", "subprocess"})
