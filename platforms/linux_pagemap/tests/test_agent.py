"""Asking an agent about pages: what is asked of it, and what its answers mean. And the suite, on this machine."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vmatlas import AccessDenied, NoSuchProcess, Query, SystemInfo, Unsupported
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model.pages import PageState
from vmatlas.target.asking import AgentRefused
from vmatlas.target.wire import Failure, Origin
from vmatlas_linux_pagemap import agent
from vmatlas_linux_pagemap.agent import ENTRIES_SOURCES, SCAN_SOURCES
from vmatlas_linux_pagemap.layout import PRESENT

PAGE = 4096
STAT = b"46 (x) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 77 " + b"0 " * 30 + b"\n"
KERNEL = STAT.replace(b" 4194304 ", b" %d " % 0x200040)  # PF_KTHREAD
P = PageState.PRESENT


@dataclass
class Remote:
    """A process at the other end of a wire."""

    answers: Mapping[str, bytes] | AgentRefused
    machine: str = "x86_64"
    pid: int = 46
    thread: int | None = None
    start_time: int | None = 77
    emulator: str | None = None
    asked: list[tuple[str, int, Sequence[tuple[int, int]]]] = field(default_factory=list)

    @property
    def system(self) -> SystemInfo:
        return SystemInfo("linux", "6.18", "", self.machine, "little", 64, PAGE)

    def streams(
        self, source: str, *, thread: int | None = None, flags: int = 0, ranges: Sequence[tuple[int, int]] = ()
    ) -> Mapping[str, bytes]:
        self.asked.append((source, flags, ranges))
        if isinstance(self.answers, AgentRefused):
            raise self.answers
        return self.answers


def refused(name: str, *, by_kernel: bool = True, **streams: bytes) -> AgentRefused:
    return AgentRefused(Failure(Origin.KERNEL if by_kernel else Origin.AGENT, 1, name, "asking"), streams, "agent:test")


def test_a_scan_is_asked_for_with_both_masks_and_what_no_process_has_is_left_out() -> None:
    remote = Remote({"stat": STAT, "pages-scan": b"bytes"})
    query = Query(pages=P, ranges=((PAGE, 2 * PAGE), (4 * PAGE, 2**64 - PAGE)))
    assert SCAN_SOURCES.ask(remote, query).streams == {"pages-scan": b"bytes"}
    assert remote.asked == [
        ("linux.pagemap_scan", PRESENT | PRESENT << 32, [(PAGE, 2 * PAGE), (4 * PAGE, 2**56 - PAGE)])
    ]


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (2000, 1), (2001, 2), (4001, 3)])
def test_more_ranges_than_a_request_has_room_for_are_asked_about_in_several(count: int, requests: int) -> None:
    ranges = tuple((at * PAGE, (at + 1) * PAGE) for at in range(0, 2 * count, 2))
    remote = Remote({"stat": STAT, "pages-scan": b"x"})
    assert SCAN_SOURCES.ask(remote, Query(pages=P, ranges=ranges)).streams == {"pages-scan": b"x" * requests}
    assert sum(len(asked) for _, _, asked in remote.asked) == count
    remote = Remote({"stat": STAT, "pages-entries": struct.pack("<2Q", PAGE, 0xE580) + b"y"})
    streams = ENTRIES_SOURCES.ask(remote, Query(pages=P, ranges=ranges)).streams
    assert streams == {"pages-entries": struct.pack("<2Q", PAGE, 0xE580) + b"y" * requests}


def test_more_than_can_be_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "LARGEST", 10)
    with pytest.raises(Unsupported, match="more is told"):
        SCAN_SOURCES.ask(Remote({"stat": STAT, "pages-scan": b"x" * 11}), Query(pages=P))


@pytest.mark.parametrize("sources", [SCAN_SOURCES, ENTRIES_SOURCES])
def test_what_became_of_the_process_is_told(sources: agent.AgentSources) -> None:
    query = Query(pages=P, ranges=((PAGE, 2 * PAGE),))
    with pytest.raises(NoSuchProcess, match="another process's now"):
        sources.ask(Remote({"stat": STAT.replace(b" 77 ", b" 78 ")}), query)
    with pytest.raises(AccessDenied, match="no right"):
        sources.ask(Remote(refused("EACCES", stat=STAT)), query)
    with pytest.raises(NoSuchProcess, match="zombie"):
        sources.ask(Remote(refused("ESRCH", stat=STAT.replace(b" S ", b" Z "))), query)
    (stream,) = sources.ask(Remote(refused("ESRCH", stat=KERNEL)), query).streams.values()
    assert stream == b""
    with pytest.raises(Unsupported, match="emulator"):
        sources.ask(Remote({}, emulator="qemu-arm-static"), query)


def test_a_probe_tells_why_it_is_not_answered() -> None:
    assert SCAN_SOURCES.probe(Remote({"stat": STAT}))
    assert "older than 6.7" in SCAN_SOURCES.probe(Remote(refused("ENOTTY"))).reason
    for sources in (SCAN_SOURCES, ENTRIES_SOURCES):
        assert "CONFIG_PROC_PAGE_MONITOR" in sources.probe(Remote(refused("ENOENT"))).reason
        assert "ENOENT" in sources.probe(Remote(refused("ENOENT", by_kernel=False))).reason


def test_the_suite_s_claims_about_pages_hold_on_this_machine(binary: Path) -> None:
    suite = [sys.executable, "-P", "-m", "vmatlas.conformance", "-q", "-k", "test_pages or test_tracking"]
    done = subprocess.run(
        [*suite, f"--vmatlas-target=agent:{binary}"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
