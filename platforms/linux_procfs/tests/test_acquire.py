"""What acquire makes of a text that ends early, and of a kernel that lacks a file."""

from __future__ import annotations

import os

import pytest

from vmatlas import MalformedData, TornRead, Unsupported
from vmatlas.systems.linux import LinuxProcess, vanishing
from vmatlas_linux_procfs import acquire
from vmatlas_linux_procfs.decode import NATIVE

LINE = b"00400000-00401000 r-xp 00000000 08:01 12                                 %s\n"
VSYSCALL = b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"


class Scripted(LinuxProcess):
    """Our own process with texts of our own: each opening of maps gives the next one; the last stays."""

    is_self = False  # type: ignore[assignment]

    def __init__(self, *texts: bytes) -> None:
        super().__init__(os.getpid())
        self.texts = list(texts)
        self.opened = 0

    def open_file(self, name: str) -> int:
        if name != "maps":
            return super().open_file(name)
        self.opened += 1
        descriptor = os.memfd_create("maps")
        os.write(descriptor, self.texts.pop(0) if len(self.texts) > 1 else self.texts[0])
        return descriptor


@pytest.fixture
def memory_goes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last byte of the first text has been read, nothing more can be read from its descriptor."""
    gone: list[int] = []
    read = os.read

    def reading(descriptor: int, size: int) -> bytes:
        content = read(descriptor, size)
        if not content and not gone:
            gone.append(descriptor)
            os.ftruncate(descriptor, 0)
        return content

    monkeypatch.setattr(acquire.os, "read", reading)


@pytest.mark.usefixtures("memory_goes_at_the_end")
@pytest.mark.parametrize("last", [LINE % b"/bin/x", LINE % b"/tmp/a file [vsyscall]"])
def test_text_cut_off_where_the_memory_went_is_read_anew(last: bytes) -> None:
    whole = LINE % b"/bin/new" + VSYSCALL
    process = Scripted(last, whole)
    assert acquire.acquire(process, "maps").streams["maps"] == whole
    assert process.opened == 2


@pytest.mark.usefixtures("memory_goes_at_the_end")
def test_text_that_ends_with_vsyscall_is_whole_without_asking_again() -> None:
    process = Scripted(LINE % b"/bin/x" + VSYSCALL)
    assert acquire.acquire(process, "maps").streams["maps"].endswith(VSYSCALL)
    assert process.opened == 1


def test_process_that_never_keeps_its_memory_is_a_torn_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanishing.time, "sleep", lambda seconds: None)
    process = Scripted(b"")
    with pytest.raises(TornRead, match=f"exec.*each of {vanishing.ATTEMPTS}"):
        acquire.acquire(process, "maps")
    assert process.opened == vanishing.ATTEMPTS


def test_kernel_without_a_file_is_said_to_lack_it_and_the_process_is_not_said_to_be_gone() -> None:
    """CONFIG_PROC_PAGE_MONITOR leaves out smaps: ENOENT, as for a process that is gone."""
    process = LinuxProcess(os.getpid())
    with pytest.raises(Unsupported, match="this kernel has no /proc/PID/smaps_of_another_kernel"):
        process.open_file("smaps_of_another_kernel")
    process.close()


def test_scratch_is_cut_out_wherever_it_stands() -> None:
    scratch = LINE.replace(b" 12 ", b" 99 ") % b"/memfd:vmatlas-scratch (deleted)"
    details = b"Size: 4 kB\nVmFlags: rd \n"
    lookalike = LINE % b"/a /memfd:vmatlas-scratch (deleted)"
    other = LINE % b"/bin/x"
    for pieces in ([scratch], [scratch, other], [other, scratch], [other, scratch, scratch, lookalike], [lookalike]):
        for tail in (b"", details):
            text = b"".join(piece + tail for piece in pieces)
            wanted = b"".join(piece + tail for piece in pieces if piece is not scratch)
            assert acquire._without_scratch(text) == wanted


def test_a_text_without_an_end_is_malformed_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(acquire._MOST, "maps", 1000)
    with pytest.raises(MalformedData, match="'maps' at byte 1000: expected its end: it may have 1,000 b"):
        acquire.acquire(Scripted(LINE % (b"/" + b"x" * 1000) + VSYSCALL), "maps")
    whole = LINE % (b"/" + b"x" * 500) + VSYSCALL
    assert acquire.acquire(Scripted(whole), "maps").streams["maps"] == whole


def test_so_is_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(acquire._MOST, "maps", 1000)
    own = LinuxProcess(os.getpid())
    with pytest.raises(MalformedData, match="its end: it may have 1,000 bytes"):
        acquire.acquire(own, "maps")
    own.close()


@pytest.mark.skipif(NATIVE is None, reason="without the compiled twin")
def test_names_that_fill_memory_are_left_to_python_which_says_so() -> None:
    name = b"/" + b"x" * 32_000
    line = b"%08x-%08x r--p 00000000 08:01 12                                 " + name + b"%d\n"
    few = b"".join(line % (at, at + 1, at) for at in range(0, 20, 2))
    assert NATIVE.decode_maps(few) is not None
    many = b"".join(line % (at, at + 1, at) for at in range(0, 4400, 2))
    assert NATIVE.decode_maps(many) is None
