"""A text that lacks memory which is mapped: a true one of a process that stands still, with lines taken out."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas import compiled
from vmatlas.capture import Capture
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import Disordered, MalformedData
from vmatlas.model import Query
from vmatlas.systems.linux import LINUX, LinuxProcess
from vmatlas.systems.linux.procmap import SIZE, record
from vmatlas.target.local import LOCAL
from vmatlas_linux_ioctl.backend import BACKEND as IOCTL
from vmatlas_linux_procfs import acquire, decode
from vmatlas_linux_procfs.backend import BACKEND
from vmatlas_linux_procfs.holes import ask_about_holes
from vmatlas_linux_procfs.unlisted import READINGS, UNLISTED, fill, lines_of, without

Ask = Callable[[int, bytes], bytes]

needs_ioctl = pytest.mark.skipif(not IOCTL.probe(), reason=f"PROCMAP_QUERY: {IOCTL.probe().reason}")
TWIN = compiled.twin("vmatlas_linux_procfs._native")
WAYS = [pytest.param(ask_about_holes, id="Python")]
if TWIN.serves:
    WAYS.append(pytest.param(lambda maps, text: decode.NATIVE.unlisted(maps, text), id="C"))
GATE = b"ffffffffff600000-"


@pytest.fixture(scope="module")
def pid() -> Iterator[int]:
    """A process that stands still, with a file whose name holds spaces and a newline."""
    code = "import mmap, os, sys; d = os.memfd_create('a b\\nc'); os.ftruncate(d, 8192); m = mmap.mmap(d, 8192)"
    with subprocess.Popen(
        [sys.executable, "-c", code + "; print('ready', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.kill()


@pytest.fixture
def maps(pid: int) -> Iterator[int]:
    descriptor = os.open(f"/proc/{pid}/maps", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def text_of(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def regions_in(text: bytes) -> list[bytes]:
    """Each with all that is told of it."""
    return re.split(rb"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)[1:]


@needs_ioctl
@pytest.mark.parametrize("ask", WAYS)
def test_whole_text_has_nothing_in_its_holes(maps: int, pid: int, ask: Ask) -> None:
    assert ask(maps, text_of(pid, "maps")) == b""
    assert ask(maps, text_of(pid, "smaps")) == b""


@needs_ioctl
@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("many", [1, 2, 5])
def test_each_line_that_is_missing_is_made_good_to_the_byte(maps: int, pid: int, ask: Ask, many: int) -> None:
    text = text_of(pid, "maps")
    lines = [line for line in regions_in(text) if not line.startswith(GATE)]
    assert any(b"a b\\012c" in line for line in lines)
    for first in range(len(lines) - many + 1):
        missing = b"".join(lines[first : first + many])
        torn = text.replace(missing, b"")
        if torn:
            found = ask(maps, torn)
            assert b"".join(line.text for line in lines_of(found, sys.byteorder)) == missing
            assert fill(torn, found, sys.byteorder) == text


@pytest.mark.parametrize("ask", WAYS)
def test_where_the_ioctl_cannot_be_asked_the_text_stands_as_it_is(ask: Ask) -> None:
    descriptor = os.memfd_create("maps")  # ENOTTY, like a kernel older than 6.11
    assert ask(descriptor, b"00400000-00401000 r-xp 00000000 08:01 12 /x\n") == b""
    os.close(descriptor)


@needs_ioctl
@pytest.mark.parametrize("ask", WAYS)
def test_memory_that_is_gone_is_an_error(ask: Ask) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        descriptor = os.open(f"/proc/{process.pid}/maps", os.O_RDONLY)
        text = os.read(descriptor, 4096)
        process.kill()
        process.wait(PATIENCE)
        with pytest.raises(ProcessLookupError):
            ask(descriptor, text)
        os.close(descriptor)


class Torn(LinuxProcess):
    """A process whose text lacks a region in each of the first readings; the ioctl is the kernel's own."""

    def __init__(self, pid: int, name: str, texts: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(pid, start_time=LINUX.open(pid, None).start_time)
        self.name, self.texts = name, texts
        self.opened: list[int] = []
        monkeypatch.setattr(acquire, "_unlisted", lambda maps, text: ask_about_holes(self.true_maps, text))
        self.true_maps = os.open(f"/proc/{pid}/maps", os.O_RDONLY)

    def descriptor(self, name: str, opened: Callable[[], int]) -> int:
        if name != self.name:
            return super().descriptor(name, opened)
        self.opened.append(os.memfd_create(name))
        os.write(self.opened[-1], self.texts.pop(0) if len(self.texts) > 1 else self.texts[0])
        return self.opened[-1]

    def close(self) -> None:
        for descriptor in [*self.opened, self.true_maps]:
            os.close(descriptor)
        super().close()


def captured(process: LinuxProcess, name: str) -> Capture:
    opened = LOCAL.open(process.pid)
    capture = opened.acquire(BACKEND, Query(residency=name == "smaps"))
    opened.close()
    reading = acquire.acquire(process, name)
    return replace(capture, streams=reading.streams, incomplete=reading.incomplete)


@needs_ioctl
@pytest.mark.parametrize("name", ["maps", "smaps"])
@pytest.mark.parametrize("torn", [1, READINGS - 1, READINGS])
def test_torn_text_is_read_again_and_then_told_with_what_is_in_its_holes(
    pid: int, name: str, torn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(pid, name)
    regions = regions_in(text)
    lost = len(regions) // 2
    process = Torn(pid, name, [text.replace(regions[lost], b"")] * torn + [text], monkeypatch)
    capture = captured(process, name)
    process.close()
    assert (UNLISTED in capture.streams) == (torn >= READINGS)
    space = decode.decode(capture)
    true = decode.decode(replace(capture, streams={name: text}, incomplete=None))
    assert [tuple(region)[:5] for region in space] == [tuple(region)[:5] for region in true]
    assert [region.label for region in space] == [region.label for region in true]
    if name == "smaps":
        assert (space[lost].resident is None) == (torn >= READINGS)
        assert ("1 region(s) is not told" in (space.incomplete or "")) == (torn >= READINGS)
        assert all(region.resident is not None for row, region in enumerate(space) if row != lost)
    else:
        assert space.incomplete is None


@needs_ioctl
@pytest.mark.skipif(not TWIN.serves, reason=f"the compiled twin does not serve here: {TWIN.reason}")
@pytest.mark.parametrize("name", ["maps", "smaps"])
def test_twin_leaves_a_torn_text_to_the_long_way(maps: int, pid: int, name: str) -> None:
    text = text_of(pid, name)
    regions = regions_in(text)
    for torn in [b"".join(regions), *(b"".join(regions[:row] + regions[row + 1 :]) for row in range(len(regions)))]:
        descriptor = os.memfd_create("text")
        os.write(descriptor, torn)
        found = decode.NATIVE.read(descriptor, maps, name == "smaps", 0)
        lacks_memory = torn != text and (GATE in torn) == (GATE in text)
        assert (found is None) == lacks_memory
        os.close(descriptor)


def answer(start: int, end: int, name: bytes = b"/n\0") -> bytes:
    return record(sys.byteorder).pack(SIZE, 16, 0, start, end, 1, 4096, 0, 7, 8, 1, len(name), 0, 0, 0) + name


def line(start: int, end: int) -> bytes:
    return (b"%08x-%08x r--p 00000000 08:01 7 " % (start, end)).ljust(73) + b"/n\n"


def test_region_that_grew_or_merged_takes_the_place_of_those_that_it_covers() -> None:
    text = line(16, 32) + line(64, 80) + line(96, 99)
    assert regions_in(fill(text, answer(16, 80), sys.byteorder)) == [line(16, 80), line(96, 99)]
    assert regions_in(fill(text, answer(60, 80) * 2, sys.byteorder)) == [line(16, 32), line(60, 80), line(96, 99)]


@pytest.mark.parametrize("stream", [answer(20, 40), answer(40, 70), answer(40, 50) + answer(45, 55), answer(50, 50)])
def test_what_neither_tells_is_a_torn_reading(stream: bytes) -> None:
    with pytest.raises(Disordered):
        fill(line(16, 32) + line(64, 80), stream, sys.byteorder)


@pytest.mark.parametrize("stream", [b"x", answer(40, 50)[:-1], answer(40, 50, b"/n"), answer(40, 50, b"a\0b\0")])
def test_stream_that_is_no_records_is_malformed(stream: bytes) -> None:
    with pytest.raises(MalformedData, match="unlisted"):
        fill(line(16, 32), stream, sys.byteorder)


def test_regions_of_a_name_are_taken_out() -> None:
    stream = answer(40, 50) + answer(60, 70, b"/memfd:x (deleted)\0") + answer(80, 90)
    assert without(stream, b"/memfd:x (deleted)", sys.byteorder) == answer(40, 50) + answer(80, 90)
    assert without(stream, b"/memfd:x", sys.byteorder) == stream


bounds = st.lists(st.integers(0, 40), max_size=8, unique=True).map(sorted)


@given(text=bounds, answers=bounds)
def test_what_is_put_together_is_in_order_and_has_all_that_was_answered(text: list[int], answers: list[int]) -> None:
    lines = b"".join(line(start, end) for start, end in list(pairwise(text))[::2])
    told = list(pairwise(answers))[::2]
    if not lines:
        return
    try:
        filled = fill(lines, b"".join(answer(start, end) for start, end in told), sys.byteorder)
    except Disordered:
        return
    regions = [tuple(int(bound, 16) for bound in each.split(b" ")[0].split(b"-")) for each in regions_in(filled)]
    assert all(before[1] <= after[0] for before, after in pairwise(regions))
    assert set(told) <= set(regions)


@given(text=st.binary(max_size=300), stream=st.binary(max_size=300))
def test_arbitrary_bytes_are_put_together_or_refused(text: bytes, stream: bytes) -> None:
    with contextlib.suppress(Disordered, MalformedData):
        fill(text, stream, sys.byteorder)
