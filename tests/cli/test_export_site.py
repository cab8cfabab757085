"""Writing the static page: whole files, again and again, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.cli.now.export_site import LOST, describe, export_from, write
from gleaner.cli.now.watch import Line
from tests.builders import until
from tests.cli.fleets import example_fleet
from tests.web.example import Example


@contextlib.asynccontextmanager
async def fleet() -> AsyncIterator[tuple[MemoryBus, MemoryBus]]:
    """A bus on which one node says everything, and one to listen on."""
    broker = MemoryBroker()
    async with MemoryBus(broker, "fleet") as saying, MemoryBus(broker) as listening:
        example = Example(datetime.now(UTC))
        for message in example.atlas():
            saying.publish(message)
        beating = asyncio.create_task(beat(saying))
        try:
            yield saying, listening
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating


async def beat(bus: MemoryBus) -> None:
    """Beat as atlas."""
    while True:
        bus.publish(Example(datetime.now(UTC)).beat("atlas"))
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def writing(bus: MemoryBus, folder: Path, said: list[str]) -> AsyncIterator[None]:
    """Go on writing, ten times a second."""
    task = asyncio.create_task(export_from(Line(bus), folder, 0.1, said.append))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def state_of(folder: Path, index: int) -> str:
    """The user of a GPU of atlas, as programs read it."""
    with (folder / "load_data.csv").open() as file:
        return next(row["username"] for row in csv.DictReader(file) if row["gpu_idx"] == str(index))


async def test_a_page_and_a_table_are_written_for_any_web_server(tmp_path: Path) -> None:
    folder = tmp_path / "html" / "gpus"
    async with fleet() as (_, bus):
        await export_from(Line(bus), folder, None, print)

    assert sorted(file.name for file in folder.iterdir()) == ["index.html", "load_data.csv"]
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    assert "✕ occupied" in (folder / "index.html").read_text()
    assert state_of(folder, 0) == "alice"


async def test_what_changes_is_written_at_the_next_interval(tmp_path: Path) -> None:
    async with fleet() as (node, bus), writing(bus, tmp_path, []):
        await until((tmp_path / "index.html").exists)
        eve = Example(datetime.now(UTC)).holder(5, "eve", "python", 2**30, seconds=1)
        node.publish(Example(datetime.now(UTC)).state("atlas", 4, "busy", "eve", eve, seconds=1))

        await until(lambda: state_of(tmp_path, 4) == "eve")


async def test_a_lost_broker_is_on_the_page_and_said_once_and_so_is_its_return(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    async with fleet() as (_, bus), writing(bus, tmp_path, said):
        await until((tmp_path / "index.html").exists)
        bus.disconnect()
        await until(lambda: LOST in (tmp_path / "index.html").read_text())
        bus.connect()
        await until(lambda: LOST not in (tmp_path / "index.html").read_text())

    assert said == [LOST, f"{tmp_path}: current again."]


async def test_a_folder_that_cannot_be_written_is_said_and_waited_out(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "html"
    folder.write_text("a file is in the way")
    async with fleet() as (_, bus), writing(bus, folder, said):
        await until(lambda: bool(said))
        folder.unlink()
        await until((folder / "index.html").exists)

    assert said == [f"{folder}: it is there and is no folder", f"{folder}: current again."]


def test_a_file_that_cannot_be_replaced_is_named_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    table = tmp_path / "load_data.csv"
    table.mkdir()
    with pytest.raises(OSError, match="Is a directory") as failed:
        write(tmp_path, example_fleet())

    assert describe(failed.value, tmp_path) == f"{table}: Is a directory"
    assert [*tmp_path.iterdir()] == [table]


@pytest.mark.parametrize(
    ("library", "arguments", "text"),
    [
        ("jinja2", ["export", "site", "/nowhere"], "`gleaner export site` needs Jinja2: pip inst"),
        ("textual", ["top"], "`gleaner top` needs textual: pip install 'gleaner[top]'"),
    ],
)
def test_a_missing_library_is_one_line_with_what_to_do(
    library: str, arguments: list[str], text: str
) -> None:
    code = (
        "import io, sys\n"
        "class Terminal(io.StringIO):\n"
        "    def isatty(self): return True\n"
        "sys.stdout = Terminal()\n"
        f"sys.modules[{library!r}] = None\n"
        f"sys.argv = ['gleaner', *{arguments!r}]\n"
        "from gleaner.cli.app import run\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(text)
