"""The kernel's own process on a board: every command says why its map is empty, and whom to ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import vmatlas
from vmatlas import Capture, ProcessInfo, Query
from vmatlas.backend import YES, Availability, Source
from vmatlas.cli.program import program
from vmatlas.target import connect

from .recorded import FOLDER, X86

KERNEL = (FOLDER / "pid1_procnto-instr_procinfo.bin").read_bytes()
PCI_BIOS = (FOLDER / "pid2_pci-bios_procinfo.bin").read_bytes()
WHY = "process 1 is the kernel itself (procnto): QNX tells no map of it"
INSTEAD = "process 2 (pci-bios) has memory of its own; 'vmatlas processes --target board:qnx' tells which others have"


class Held:
    """One of its two processes, with the answers that were recorded of it on 6.4.1."""

    start_time = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def acquire(self, backend: Source, query: Query) -> Capture:
        stream = backend.source.removeprefix("qnx.")
        entries = (FOLDER / f"pid2_pci-bios_{stream}.bin").read_bytes() if self.pid == 2 else b""
        streams = {"procinfo": PCI_BIOS if self.pid == 2 else KERNEL, stream: entries, "mapdebug": b""}
        why = None if entries else WHY
        return Capture(
            streams, X86, self.pid, backend.name, "vmatlas-qnx", query, 0.0, target="board:qnx", incomplete=why
        )

    def close(self) -> None:
        """Holds nothing."""


class Board:
    """A QNX machine without a wire."""

    name = "board:qnx"
    system_info = X86

    def offers(self, backend: Source) -> Availability:
        return YES if backend.system == "qnx" else Availability(False, "it asks others")

    def processes(self) -> Iterator[ProcessInfo]:
        yield ProcessInfo(1, 0, "procnto-instr", None, kernel=True)
        yield ProcessInfo(2, 1, "pci-bios", None, kernel=False)

    def open(self, pid: int | None, thread: int | None = None) -> Held:
        return Held(pid or 2)

    def rights(self) -> list[tuple[str, str]]:
        return []

    def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A command line that reaches the board."""
    monkeypatch.setitem(connect._CONNECTORS, "board", lambda rest, limits: Board())

    def run(*words: object) -> Result:
        return CliRunner().invoke(program, [*map(str, words), "--target", "board:qnx"])

    return run


@pytest.mark.parametrize("command", [["maps", 1], ["summary", 1], ["maps", 1, "--residency", "--json"]])
def test_an_empty_map_says_why_and_whom_to_ask(run, command) -> None:
    told = run(*command)
    assert told.exit_code == 0
    assert WHY in told.stderr
    assert f"vmatlas: {INSTEAD}\n" in told.stderr


def test_an_address_of_the_kernels_own_process_says_why_and_whom_to_ask(run) -> None:
    told = run("find", 1, "8048000")
    assert told.exit_code == 1
    assert WHY in told.stderr
    assert INSTEAD in told.stderr
    of_another = run("find", 2, "1")
    assert of_another.exit_code == 1
    assert "memory of its own" not in of_another.stderr


def test_a_recording_of_it_says_so_too_and_again_when_it_is_read(run, tmp_path: Path) -> None:
    told = run("record", 1, "-o", tmp_path / "kernel.vmatlas")
    assert told.exit_code == 0
    assert WHY in told.stderr
    assert INSTEAD in told.stderr
    read = CliRunner().invoke(program, ["replay", str(tmp_path / "kernel.vmatlas")])
    assert WHY in read.stderr


def test_the_api_tells_an_empty_map_with_its_reason() -> None:
    space = vmatlas.snapshot(1, target=Board())
    assert (len(space), space.incomplete) == (0, WHY)
    with pytest.raises(vmatlas.IncompleteResult, match="the kernel itself"):
        vmatlas.snapshot(1, target=Board(), strict=True)


def test_who_has_memory_is_told_nothing_of_the_kind(run) -> None:
    told = run("maps", 2, "--json")
    assert len(json.loads(told.stdout)["regions"]) > 1
    assert told.stderr == ""
