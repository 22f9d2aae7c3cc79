"""Core files: the map that they hold is that of /proc/PID/maps just before the crash, as far as each writer kept it."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import vmatlas
from vmatlas import AddressSpace, Consistency, Kind, MalformedData, Protection, Region, Unsupported, remains
from vmatlas.capture import ALWAYS_READ
from vmatlas.conformance.patience import PATIENCE
from vmatlas.files import elf_core
from vmatlas.model.crash import Crash
from vmatlas_linux_procfs import BACKEND

from .core_files import CORES, PAGE, Load, Made, of_text, saved, truth

NAMES = sorted(path.name.removesuffix(".core.xz") for path in CORES.glob("*.core.xz"))
KERNELS = [name for name in NAMES if name.startswith("linux-")]
GCORES = [name for name in NAMES if name.startswith("gcore-")]
QEMU = [name for name in NAMES if name.startswith("qemu-user-")]
PROVEN = ("[stack]", "[vdso]", "[vsyscall]")
READ_WRITE = Protection.READ | Protection.WRITE
CUT = {"linux-6.18-x86_64-limit-4KiB"}
"""Of these the names of files are there, and the registers of all threads but the first are not."""


def space_of(name: str, folder: Path) -> AddressSpace:
    return vmatlas.replay(saved(name, folder))


def crash_of(path: Path) -> Crash:
    return BACKEND.crash(remains.load(path))


def made(folder: Path, content: bytes) -> Path:
    path = folder / "core"
    path.write_bytes(content)
    return path


def label(region: Region) -> str:
    """As /proc/PID/maps writes it: there a newline is told from its escape no more."""
    return region.label.replace("\n", "\\012")


@pytest.mark.parametrize("name", KERNELS)
def test_core_of_the_kernel_has_every_region_with_its_rights_names_and_offsets(name: str, tmp_path: Path) -> None:
    space, known = space_of(name, tmp_path), truth(name)
    assert [(each.start, each.end, each.protection) for each in space] == [
        (each.start, each.end, each.protection) for each in known
    ]
    for ours, theirs in zip(space, known, strict=True):
        told = theirs.path is not None or not label(theirs).startswith("[")
        expected = label(theirs) if told or label(theirs) in PROVEN else ""
        assert label(ours) == expected
        assert ours.offset == (theirs.offset if told else None)
        assert (ours.shared, ours.device, ours.inode) == (None, None, None)
    assert space.consistency is Consistency.FROZEN
    assert space.incomplete is not None
    assert "neither what is shared" in space.incomplete


@pytest.mark.parametrize("name", KERNELS)
def test_kind_in_a_core_is_that_of_the_map_or_no_claim(name: str, tmp_path: Path) -> None:
    for ours, theirs in zip(space_of(name, tmp_path), truth(name), strict=True):
        if theirs.kind is Kind.HEAP:
            assert ours.kind is Kind.ANONYMOUS
        elif label(theirs).startswith("/dev/shm/"):
            assert ours.kind is Kind.FILE
        else:
            assert ours.kind in (theirs.kind, Kind.OTHER), label(theirs)
            assert (ours.kind is not Kind.OTHER) or theirs.kind is Kind.VVAR or theirs.deleted, label(theirs)


@pytest.mark.parametrize("name", KERNELS)
def test_threads_of_a_core_stand_in_memory_that_can_be_written(name: str, tmp_path: Path) -> None:
    space = space_of(name, tmp_path)
    threads = space.origin.threads
    assert threads
    for thread in threads:
        assert thread.stack_pointer is not None
        stack = space.find(thread.stack_pointer)
        assert stack is not None
        assert stack.protection & READ_WRITE == READ_WRITE


@pytest.mark.parametrize("name", GCORES)
def test_core_of_gdb_has_what_it_saved_and_names_what_it_did_not(name: str, tmp_path: Path) -> None:
    space, known = space_of(name, tmp_path), {region.start: region for region in truth(name)}
    for ours in space:
        theirs = known[ours.start]
        assert ours.end == theirs.end
        if theirs.path is not None:
            assert label(ours) == label(theirs)
            assert ours.offset == theirs.offset
        if ours.protection is not Protection.UNTOLD:
            assert ours.protection & theirs.protection == theirs.protection  # more than there was, and never less
        assert ours.kind is not Kind.GUARD
    assert any(ours.protection is Protection.UNTOLD for ours in space)
    assert "gdb wrote it" in (space.incomplete or "")


@pytest.mark.parametrize("name", QEMU)
def test_core_of_qemu_user_has_the_guests_memory_and_rights(name: str, tmp_path: Path) -> None:
    space, known = space_of(name, tmp_path), truth(name)
    assert space.system.machine == name.split("-")[3]
    assert space.system.byte_order == ("little" if "aarch64" in name else "big")

    def pieces(regions: AddressSpace) -> list[tuple[int, int, Protection]]:
        joined: list[tuple[int, int, Protection]] = []
        for each in regions:
            if joined and joined[-1][1] == each.start and joined[-1][2] == each.protection:
                joined[-1] = joined[-1][0], each.end, each.protection
            else:
                joined.append((each.start, each.end, each.protection))
        return joined

    more = [piece for piece in pieces(space) if piece not in pieces(known)]
    assert [piece for piece in pieces(space) if piece not in more] == pieces(known)
    # 7.2 can have 64 KiB more, of the host's addresses: qemu's own, which the guest's map did not show.
    assert [end - start for start, end, _ in more] == ([0x10000] if name == "qemu-user-7.2-s390x" else [])
    assert all(each.path is None and each.offset is None for each in space)
    assert "joins neighbours" in (space.incomplete or "")


def test_core_of_the_emulator_itself_is_of_the_hosts_machine(tmp_path: Path) -> None:
    """A crash under qemu-user leaves it beside the guest's: the kernel wrote it, so names and the signal are there."""
    by = Made()
    files = by.files([(0x10000, 0x11000, 0, b"/usr/bin/qemu-s390x-static")])
    notes = by.status() + by.psinfo(name=b"qemu-s390x-stat") + by.siginfo(11, 1, 0x18) + files
    path = made(tmp_path, by.core([Load(0x10000, PAGE, 5)], notes))
    space, crash = vmatlas.replay(path), crash_of(path)
    assert (space.system.machine, space[0].path) == ("x86_64", "/usr/bin/qemu-s390x-static")
    assert "qemu-user wrote it" not in (space.incomplete or "")
    assert (crash.program, crash.fault_address) == ("qemu-s390x-stat", 0x18)
    guest = vmatlas.replay(saved("qemu-user-7.2-s390x", tmp_path))
    assert guest.system.machine == "s390x"
    assert "qemu-user wrote it" in (guest.incomplete or "")


def test_each_trap_has_a_test_that_is_there() -> None:
    root = Path(__file__).parents[3]
    if not all((root / each).is_dir() for each in ("images/tests", "platforms/qnx/tests")):
        pytest.skip("a part of the repository alone is here, as in a guest")
    told = (CORES / "README.md").read_text().rpartition("| trap | test |")[2].splitlines()[2:]
    rows = [re.findall(r"`(test_\w+)`", line) for line in told]
    files = [*root.glob("platforms/*/tests/test_*.py"), *root.glob("images/tests/test_crashes.py")]
    defined = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    assert len(rows) == 20 and all(rows)
    assert not {name for row in rows for name in row} - defined


def test_rights_that_are_not_told_are_no_rights_nor_their_absence(tmp_path: Path) -> None:
    space = space_of(GCORES[0], tmp_path)
    untold = [each for each in space if each.protection is Protection.UNTOLD]
    assert {each.permissions for each in untold} == {"????"}
    assert not [each for each in space.where("!w") if each in untold]
    assert not [each for each in space.where("r") if each in untold]
    assert vmatlas.summarize(space).uses[vmatlas.Use.UNTOLD].regions == len(untold)
    fault = vmatlas.operations.classify_fault(untold[0].start, space)
    assert "whose rights are not told" in fault.text
    assert list(space) == [space[row] for row in range(len(space))]


def test_cut_core_tells_its_regions_and_where_it_is_cut(tmp_path: Path) -> None:
    for name in ("linux-6.18-x86_64-limit-4KiB", "linux-6.18-x86_64-limit-8KiB"):
        space = space_of(name, tmp_path)
        size = (tmp_path / f"{name}.core").stat().st_size
        assert f"cut at byte {size:,}" in (space.incomplete or "")
        assert "15 regions" in (space.incomplete or "")


@pytest.mark.parametrize("made_by", [Made(), Made(64, ">", 22), Made(32, "<", 3), Made(32, ">", 20)])
def test_each_word_size_and_byte_order_is_read(made_by: Made, tmp_path: Path) -> None:
    loads = [Load(0x10000, PAGE, 5), Load(0x12000, 2 * PAGE, 6), Load(0x20000, PAGE, 0)]
    notes = made_by.status(thread=9) + made_by.psinfo(pid=8) + made_by.auxv(pagesz=PAGE, random=0x12010, execfn=0x12FF0)
    notes += made_by.files([(0x10000, 0x11000, 3, b"/bin/\xe9\n")])
    space = vmatlas.replay(made(tmp_path, made_by.core(loads, notes)))
    first, stack, guard = space
    assert (first.path_bytes, first.offset, first.permissions) == (b"/bin/\xe9\n", 3 * PAGE, "r-x?")
    assert (stack.name, stack.kind, guard.kind) == ("[stack]", Kind.STACK, Kind.GUARD)
    assert (space.pid, space.origin.name, space.system.pointer_width) == (8, "program", made_by.bits)
    assert space.origin.threads is not None
    assert space.origin.threads[0].number == 9


def test_more_than_65534_regions_are_counted_by_the_section_or_by_where_the_notes_lie(tmp_path: Path) -> None:
    by = Made()
    loads = [Load(0x10000 + 2 * PAGE * each, PAGE) for each in range(70_000)]
    notes = by.status() + by.psinfo()
    for section in (True, False):
        space = vmatlas.replay(made(tmp_path, by.core(loads, notes, section=section)))
        assert len(space) == 70_000
        assert space[-1].start == loads[-1].start
        assert "no names of files" in (space.incomplete or "")
        assert {each.kind for each in space} == {Kind.OTHER}


def test_map_of_many_named_regions_takes_no_time_that_grows_with_its_square(tmp_path: Path) -> None:
    by = Made()
    loads = [Load(0x10000 + 2 * PAGE * each, PAGE) for each in range(20_000)]
    files = [(load.start, load.start + load.size, each, b"/lib/%d" % each) for each, load in enumerate(loads)]
    content = by.core(loads[::-1], by.status() + by.psinfo() + by.files(files[::-1]))
    space = vmatlas.replay(made(tmp_path, content))  # a quadratic join would take minutes
    assert len(space) == 20_000
    assert (space[19_999].path, space[19_999].offset) == ("/lib/19999", 19_999 * PAGE)


@pytest.mark.parametrize("mark", ["<", ">"])
def test_numbers_of_64_bits_in_32_bit_cores_of_mips_are_seen(mark: str, tmp_path: Path) -> None:
    by = Made(32, mark, 8)
    notes = by.status() + by.psinfo() + by.files([(0x400000, 0x401000, 2, b"/bin/x")], width=64)
    (region,) = vmatlas.replay(made(tmp_path, by.core([Load(0x400000, PAGE, 5)], notes)))
    assert (region.path, region.offset) == ("/bin/x", 2 * PAGE)


@pytest.mark.parametrize("bits", [32, 64])
def test_offsets_that_gdb_may_have_cut_are_said_to_be(bits: int, tmp_path: Path) -> None:
    """Of 0x140001000 it writes 0x40001000 into a core of 32 bits, and nothing tells."""
    by = Made(bits, "<", 3 if bits == 32 else 62)
    files = by.files([(0x10000, 0x11000, 0x40001000, b"/big")], page=1)
    space = vmatlas.replay(made(tmp_path, by.core([Load(0x10000, PAGE)], by.status() + by.psinfo() + files)))
    assert space[0].offset == 0x40001000
    assert ("offsets of files are cut to 32 bits" in (space.incomplete or "")) == (bits == 32)


def test_offsets_in_bytes_are_those_of_gdb(tmp_path: Path) -> None:
    by = Made()
    notes = by.status() + by.psinfo() + by.files([(0x400000, 0x401000, 0x3000, b"/bin/x")], page=1)
    (region,) = vmatlas.replay(made(tmp_path, by.core([Load(0x400000, PAGE, 4)], notes)))
    assert region.offset == 0x3000


def test_that_a_file_is_deleted_is_not_known_but_for_what_never_had_a_name(tmp_path: Path) -> None:
    by = Made()
    files = [(0x1000 * at, 0x1000 * at + PAGE, 0, name) for at, name in
             enumerate((b"/tmp/x (deleted)", b"/memfd:x (deleted)", b"/x (deleted)"), 16)]  # fmt: skip
    notes = by.status() + by.psinfo() + by.files(files)
    file, memory, either = vmatlas.replay(made(tmp_path, by.core([Load(each[0], PAGE) for each in files], notes)))
    assert (file.path, file.deleted, file.kind) == ("/tmp/x (deleted)", None, Kind.FILE)
    assert (memory.path, memory.deleted, memory.kind) == ("/memfd:x", True, Kind.SHARED_MEMORY)
    assert (either.path, either.deleted, either.kind) == ("/x (deleted)", None, Kind.OTHER)


def test_what_never_had_a_name_is_told_alike_live_in_a_text_and_in_a_core(tmp_path: Path) -> None:
    names = (
        b"/memfd:x",
        b"/SYSV0000002a",
        b"/dev/zero",
        b"/anon_hugepage",
        b"/secretmem",
        b"/[aio]",
        b"/i915",
        b"/[new]",
    )
    files = [(0x1000 * at, 0x1000 * at + PAGE, 0, name + b" (deleted)") for at, name in enumerate(names, 16)]
    by = Made()
    notes = by.status() + by.psinfo() + by.files(files)
    core = vmatlas.replay(made(tmp_path, by.core([Load(each[0], PAGE) for each in files], notes)))
    lines = b"".join(b"%x-%x rw-s 00000000 00:0e 7   %s\n" % (start, end, name) for start, end, _, name in files)
    text = of_text(lines)
    told = [(name.decode(), True) for name in names]
    assert [(each.path, each.deleted) for each in text] == told
    assert [(each.path, each.deleted) for each in core] == told
    assert Kind.FILE not in {each.kind for each in (*core, *text)}


def test_signal_thread_and_address_of_a_crash(tmp_path: Path) -> None:
    crash = crash_of(saved("linux-6.18-x86_64-crash-in-thread", tmp_path))
    assert (crash.signal, crash.signal_name, crash.program) == (11, "SIGSEGV", "thr")
    assert crash.fault_address is not None
    assert crash.threads[0].number not in (None, remains.load(tmp_path / "linux-6.18-x86_64-crash-in-thread.core").pid)
    abort = crash_of(saved("linux-6.18-x86_64-abort-in-thread", tmp_path))
    assert (abort.signal_name, abort.fault_address) == ("SIGABRT", None)
    assert "SIGABRT is sent for none" in abort.no_address


def test_address_that_the_processor_does_not_tell_is_none_or_a_page(tmp_path: Path) -> None:
    def told(by: Made, code: int, address: int, signal: int = 11) -> Crash:
        notes = by.status() + by.psinfo() + by.siginfo(signal, code, address)
        return crash_of(made(tmp_path, by.core([Load(0x10000, PAGE)], notes)))

    not_canonical = told(Made(), 128, 0)
    assert (not_canonical.fault_address, not_canonical.code) == (None, 128)
    assert "canonical" in not_canonical.no_address
    page = told(Made(64, ">", 22), 1, 0x3FF9BB3C000)
    assert (page.fault_address, page.fault_span) == (0x3FF9BB3C000, 4096)
    sent = told(Made(), 0, 0x3E8)
    assert (sent.fault_address, sent.no_address) == (None, "the signal was sent by a process, not by an access")
    mips = told(Made(32, ">", 8), 1, 0x1234, signal=10)
    assert (mips.signal_name, mips.code, mips.fault_address) == ("SIGBUS", 1, 0x1234)


def test_core_without_its_leader_has_the_process_number_all_the_same(tmp_path: Path) -> None:
    by = Made()
    notes = by.status(thread=11) + by.psinfo(pid=10) + by.status(thread=12)
    path = made(tmp_path, by.core([Load(0x10000, PAGE)], notes))
    assert remains.load(path).pid == 10
    assert [each.number for each in crash_of(path).threads] == [11, 12]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_core_gives_the_same(pack: object, tmp_path: Path) -> None:
    name = "linux-6.18-x86_64"
    path = saved(name, tmp_path)
    packed = tmp_path / "packed"
    assert callable(pack)
    packed.write_bytes(pack(path.read_bytes()))
    assert list(vmatlas.replay(packed)) == list(vmatlas.replay(path))
    packed.write_bytes(packed.read_bytes()[:-40])
    assert len(vmatlas.replay(packed)) == len(vmatlas.replay(path))


@pytest.mark.parametrize(("magic", "word"), [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4")])
def test_compression_that_nothing_here_unpacks_says_what_to_do(
    magic: bytes, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("compression", "compression.zstd", "zstandard", "lz4", "lz4.frame"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unsupported, match=word) as refused:
        vmatlas.replay(made(tmp_path, magic + bytes(100)))
    assert f"{word} -d" in (refused.value.hint or "")


@pytest.mark.parametrize(("module", "word"), [("zstandard", "zstd"), ("lz4.frame", "lz4")])
def test_core_compressed_by_others_gives_the_same(module: str, word: str, tmp_path: Path) -> None:
    found = pytest.importorskip(module, reason=f"the package for {word} is not installed")
    path = saved("linux-6.18-x86_64", tmp_path)
    content = path.read_bytes()
    packed = tmp_path / "packed"
    packed.write_bytes(found.ZstdCompressor().compress(content) if word == "zstd" else found.compress(content))
    assert list(vmatlas.replay(packed)) == list(vmatlas.replay(path))


BOMB = r"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
import vmatlas
try:
    vmatlas.replay(sys.argv[1])
except vmatlas.MalformedData as error:
    print(error.hint)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def in_little_memory(path: Path) -> list[str]:
    command = [sys.executable, "-c", BOMB, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_file_made_to_fill_memory_is_given_up(tmp_path: Path) -> None:
    by = Made()
    content = bytearray(by.core([Load(0x10000, PAGE)], by.status()))
    content[64 + 8 : 64 + 16] = (1 << 40).to_bytes(8, "little")  # the notes lie a terabyte behind
    *hint, peak = in_little_memory(made(tmp_path, gzip.compress(bytes(content))))
    assert hint == ["unpack it first: gzip -d"]
    assert int(peak) < 100_000


def test_what_a_compressed_file_unpacks_to_goes_by_its_size_on_disk(tmp_path: Path) -> None:
    text = b"00400000-00452000 r-xp 00000000 08:02 173521 /x\n"
    path = made(tmp_path, gzip.compress(text.ljust(ALWAYS_READ)))
    assert len(vmatlas.replay(remains.load(path, lenient=True))) == 1
    path = made(tmp_path, gzip.compress(text.ljust(ALWAYS_READ + (1 << 17))))
    with pytest.raises(MalformedData, match=rf"within the first {ALWAYS_READ:,} bytes that it unpacks to") as refused:
        remains.load(path, lenient=True)
    assert refused.value.hint == "unpack it first: gzip -d"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_streams_in_which_nothing_is_come_to_an_end(
    pack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmatlas.files.packed._MOST_STREAMS", 50)
    assert callable(pack)
    text = pack(b"00400000-00452000 r-xp 00000000 08:02 173521 /x\n")
    assert len(vmatlas.replay(made(tmp_path, pack(b"") * 49 + text))) == 1
    with pytest.raises(MalformedData, match=r"at most 50 streams of (gzip|xz), one behind another"):
        vmatlas.replay(made(tmp_path, pack(b"") * 50 + text))


@pytest.mark.parametrize(("module", "word"), [("zstandard", "zstd"), ("lz4.frame", "lz4")])
def test_holes_of_a_compressed_file_come_to_an_end(module: str, word: str, tmp_path: Path) -> None:
    found = pytest.importorskip(module, reason=f"the package for {word} is not installed")
    pack = found.ZstdCompressor().compress if word == "zstd" else found.compress
    text = b"00400000-00452000 r-xp 00000000 08:02 173521 /x\n"
    for hole, is_read in ((1 << 20, True), (1 << 30, False)):
        path = made(tmp_path, pack(b"") + struct.pack("<II", 0x184D2A50, hole))
        with path.open("r+b") as file:
            file.seek(hole, os.SEEK_END)
            file.write(pack(text))
        if is_read:
            assert len(vmatlas.replay(path)) == 1
        else:
            with pytest.raises(MalformedData, match=f"something of {word} within {ALWAYS_READ:,} bytes that are 0"):
                vmatlas.replay(path)


def test_of_a_sparse_core_of_60_gigabytes_only_headers_and_notes_are_read(tmp_path: Path) -> None:
    by = Made()
    loads = [Load(0x10000 + each * (1 << 31), 1 << 30, offset=(1 << 16) + each * (1 << 30), file_size=1 << 30)
             for each in range(60)]  # fmt: skip
    path = made(tmp_path, by.core(loads, by.status() + by.psinfo() + by.files([])))
    os.truncate(path, 60 * (1 << 30) + (1 << 16))
    found = remains.read(path)
    assert found.size > 60 * 10**9
    assert found.bytes_read < 200_000
    assert len(vmatlas.replay(path)) == 60
    *_, peak = in_little_memory(path)
    assert int(peak) < 50_000


@pytest.mark.parametrize("name", ["linux-6.18-x86_64", "gcore-13.1-i386", "qemu-user-11.1-ppc"])
def test_core_cut_anywhere_is_told_as_far_as_it_goes_or_refused_with_the_byte(name: str, tmp_path: Path) -> None:
    content = saved(name, tmp_path).read_bytes()
    whole = {(each.start, each.end) for each in vmatlas.replay(tmp_path / f"{name}.core")}
    path = tmp_path / "cut"
    for size in [*range(0, 400, 13), *range(400, min(len(content), 16_000), 331)]:
        path.write_bytes(content[:size])
        try:
            space = vmatlas.replay(path)
        except MalformedData as error:
            assert error.offset <= size
        else:
            assert {(each.start, each.end) for each in space} <= whole
            assert space.incomplete is not None
            assert "cut" in space.incomplete


HOSTILE = {
    "sizes that wrap": ([Load(2**64 - PAGE, 2 * PAGE)], b"", "below 2\\^64"),
    "overlapping": ([Load(0x10000, 2 * PAGE), Load(0x11000, PAGE)], b"", "overlap"),
    "a count of files beyond the note": ([Load(0x10000, PAGE)], Made().note(0x46494C45, b"\xff" * 16), "NT_FILE"),
    "names that are missing": (
        [Load(0x10000, PAGE)],
        Made().note(0x46494C45, (1).to_bytes(8, "little") + (1).to_bytes(8, "little") + bytes(range(1, 25))),
        "names",
    ),
    "a thread without a number": ([Load(0x10000, PAGE)], Made().note(1, bytes(20)), "NT_PRSTATUS"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_core_is_refused_with_where(what: str, tmp_path: Path) -> None:
    loads, note, words = HOSTILE[what]
    path = made(tmp_path, Made().core(loads, Made().status() + note))
    with pytest.raises(MalformedData, match=words) as refused:
        vmatlas.replay(path)
    assert refused.value.offset >= 0


def test_four_billion_notes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by = Made()
    content = bytearray(by.core([Load(0x10000, PAGE)], by.status() + by.note(9, b"") * 1000))
    content[64 + 32 : 64 + 40] = (12 * 2**32).to_bytes(8, "little")
    path = made(tmp_path, bytes(content))
    os.truncate(path, len(content) + 12 * 2**32)
    assert len(vmatlas.replay(path)) == 1  # zeros end the notes
    monkeypatch.setattr(elf_core, "MOST_NOTES", 1000)
    path = made(tmp_path, by.core([Load(0x10000, PAGE)], by.status() + by.note(9, b"", b"") * 1001))
    assert "more than are read" in (vmatlas.replay(path).incomplete or "")


def test_what_is_no_core_of_a_process_is_refused_by_name(tmp_path: Path) -> None:
    by = Made()
    dump = made(tmp_path, by.core([Load(0x10000, PAGE)], by.status() + by.note(0, b"x", b"VMCOREINFO\0")))
    with pytest.raises(Unsupported, match="whole machine"):
        vmatlas.replay(dump)
    with pytest.raises(Unsupported, match="no core file"):
        vmatlas.replay(sys.executable)


def test_fifo_and_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="pipe or a device"):
        remains.read(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        remains.read(tmp_path)


def test_file_that_is_written_to_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmatlas.files.source import FileSource

    path = saved("linux-6.18-x86_64", tmp_path)
    read = FileSource.read

    def read_and_grow(self: FileSource, offset: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        return read(self, offset, size)

    monkeypatch.setattr(FileSource, "read", read_and_grow)
    assert "while it was read" in (vmatlas.replay(path).incomplete or "")


def test_capture_of_a_core_is_saved_and_read_again(tmp_path: Path) -> None:
    path = saved("linux-6.18-x86_64", tmp_path)
    capture = remains.load(path)
    capture.save(tmp_path / "saved.vmatlas")
    again = vmatlas.replay(tmp_path / "saved.vmatlas")
    assert list(again) == list(vmatlas.replay(path))
    assert again.origin == vmatlas.replay(path).origin
