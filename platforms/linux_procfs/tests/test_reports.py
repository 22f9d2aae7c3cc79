"""What other programs print of a map or a crash, read: as much as each tells, and nothing more."""

from __future__ import annotations

import json
import lzma
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import (
    AddressSpace,
    Capture,
    Consistency,
    Kind,
    MalformedData,
    Protection,
    Unsupported,
    VmatlasError,
    operations,
    remains,
)
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program
from vmatlas.conformance.thorough import examples
from vmatlas_linux_procfs import BACKEND

from .test_reports_of_versions import CASES as OTHERS

REPORTS = Path(__file__).parent / "reports"

TOMBSTONE = b"""*** *** *** *** *** *** *** *** *** *** *** *** *** *** *** ***
Build fingerprint: 'x'
pid: 4242, tid: 4243, name: worker  >>> com.example.app <<<
signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x18
    x0  0000000000000018  x1  0000007b1c4000a0
    sp  0000007ffc000800  lr  0000007b1c400020  pc  0000007b1c400124

backtrace:
      #00 pc 0000000000000124  /system/lib64/x.so (f+4) (BuildId: 00ff)

memory map (6 entries):
--->Fault address falls at 00000000'00000018 before any mapped regions
    00000000'12c00000-00000000'2abfffff rw-         0  18000000  [anon:dalvik-main space (region space)]
    0000007b'1c400000-0000007b'1c400fff r-x      1000      1000  /system/lib64/x.so (BuildId: 00ff) (load bias 0x1000)
    0000007b'1c401000-0000007b'1c401fff ---         0      1000
    0000007b'1c402000-0000007b'1c402fff rw-         0      1000  [anon:stack_and_tls:4243]
    0000007b'1c403000-0000007b'1c403fff rw-         0      1000  /data/x y (deleted)
    0000007f'fc000000-0000007f'fc000fff rw-         0      1000  [stack]

open files:
    fd 0: /dev/null
"""
GO = b"""panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x45e2b3]

goroutine 1 [running]:
main.main()
\t/tmp/x.go:5 +0x13
"""


def text(name: str) -> bytes:
    content = (REPORTS / name).read_bytes()
    return lzma.decompress(content) if name.endswith(".xz") else content


def capture_of(content: bytes, *, lenient: bool = False) -> Capture:
    found = remains.read_bytes(content, "text", 0.0, lenient=lenient)
    assert found is not None
    return found


def space_of(content: bytes, *, lenient: bool = False) -> AddressSpace:
    return vmatlas.replay(capture_of(content, lenient=lenient))


def test_pmap_tells_what_smaps_does() -> None:
    truth = list(space_of(text("pmap.smaps")))
    whole = space_of(text("pmap-XX-p.txt"))
    for ours, theirs in zip(whole, truth, strict=True):
        assert ours[:12] == theirs[:12]
        assert (ours.resident, ours.private_resident) == (theirs.resident, theirs.private_resident)
    short = space_of(text("pmap-X.txt"))
    assert (short.pid, short.origin.name, short.consistency) == (27903, "sleep", Consistency.PER_REGION)
    for ours, theirs in zip(short, truth, strict=True):
        assert (ours[:7], ours.resident, ours.kind) == (theirs[:7], theirs.resident, theirs.kind)
        assert (ours.path, ours.name) == (None, (theirs.path or theirs.label).rpartition("/")[2] or None)
    assert "the last part of the files' names" in (short.incomplete or "")


def test_odd_line_of_pmap_is_an_error_with_the_byte_or_counted() -> None:
    content = text("pmap-X.txt")
    lines = content.split(b"\n")
    odd = b"\n".join([*lines[:5], b"-- more --", *lines[5:]])
    with pytest.raises(MalformedData) as refused:
        capture_of(odd)
    assert refused.value.offset == len(b"\n".join(lines[:5])) + 1
    space = space_of(odd, lenient=True)
    assert len(space) == len(space_of(content))
    assert "1 odd line was passed over (the first: line 6)" in (space.incomplete or "")


@pytest.mark.parametrize("name", ["pmap-X.txt", "pmap-XX-p.txt"])
@pytest.mark.parametrize("lenient", [False, True])
def test_pmap_of_several_processes_is_refused_and_never_the_first_of_them(name: str, lenient: bool) -> None:
    content = text(name)
    other = content.replace(b"27903:", b"27904:")
    with pytest.raises(Unsupported, match=r"the maps of 2 processes \(27903: .*, 27904: .*\): one file holds one"):
        capture_of(content + other, lenient=lenient)
    tail = content.split(b"\n", 8)[8]  # the beginning was scrolled away
    with pytest.raises(Unsupported, match="regions above the columns of pmap"):
        capture_of(tail + other, lenient=lenient)


def test_report_that_ends_within_its_map_says_so() -> None:
    content = text("pmap-X.txt")
    sums = "the sums with which pmap ends are not there"
    assert sums not in (space_of(content).incomplete or "")
    assert sums in (space_of(b"\n".join(content.split(b"\n")[:20])).incomplete or "")
    within = "it ends within the map"
    assert within not in (space_of(TOMBSTONE).incomplete or "")
    assert within in (space_of(TOMBSTONE[: TOMBSTONE.index(b"1000  [stack]") + 4]).incomplete or "")
    for name, last in (("hs_err-25.log.xz", b"[vsyscall]"), ("asan-map.txt", b"/libc.so.6\n")):
        whole = text(name)
        assert within not in (space_of(whole).incomplete or "")
        assert within in (space_of(whole[: whole.rindex(last) + len(last)]).incomplete or "")


@pytest.mark.parametrize("name", ["journal.json.xz", "journal.export.xz"])
def test_entry_of_the_journal_holds_the_whole_map(name: str) -> None:
    capture = capture_of(text(name))
    assert capture.streams["maps"] == text("journal.maps")
    space = vmatlas.replay(capture)
    assert (space.pid, space.origin.name, space.consistency) == (24607, "mini", Consistency.FROZEN)
    assert (space.system.page_size, space.incomplete, capture.time) == (4096, None, 1795975400.0)
    assert "SIGSEGV" in operations.explain(capture).text
    assert not any(b"PATH=" in content for content in capture.streams.values())


def test_map_of_which_systemd_kept_one_page_is_said_to_be_its_beginning() -> None:
    entry = json.loads(text("journal.json.xz"))
    whole = text("journal.maps").decode()
    assert "beginning" not in (capture_of(json.dumps(entry).encode()).incomplete or "")
    line = "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
    for maps in (whole[: whole.index("[stack]")].rpartition("\n")[0] + "\n", line * (4050 // len(line)) + whole[-40:]):
        entry["COREDUMP_PROC_MAPS"] = maps
        found = capture_of(json.dumps(entry).encode())
        assert "the beginning of the map alone" in (found.incomplete or "")


def test_field_that_journalctl_left_out_is_told_with_what_to_do() -> None:
    entry = json.loads(text("journal.json.xz"))
    entry["COREDUMP_PROC_MAPS"] = None
    with pytest.raises(Unsupported, match="4,096 bytes") as refused:
        capture_of(json.dumps(entry).encode())
    assert "--all" in (refused.value.hint or "")


def test_field_of_the_journal_that_is_no_text_is_a_list_of_its_bytes() -> None:
    entry = json.loads(text("journal.json.xz"))
    maps = b"00400000-00401000 r-xp 00000000 08:01 77                         /bin/\xe9\tx\n"
    entry["COREDUMP_PROC_MAPS"] = list(maps)
    for written in (json.dumps(entry), json.dumps(entry, indent=8), json.dumps([entry])):
        (region,) = space_of(written.encode())
        assert region.path_bytes == b"/bin/\xe9\tx"
    both = json.dumps(json.loads(text("journal.json.xz"))) + "\n" + json.dumps(entry)
    assert "of 2 crashes it is the last" in (space_of(both.encode()).incomplete or "")


def test_entry_of_the_journal_that_tells_of_no_core_is_refused() -> None:
    for content in (b'{"MESSAGE_ID": "1", "MESSAGE": "hello"}', b"__CURSOR=s\nMESSAGE=x\n\n"):
        with pytest.raises(Unsupported, match="no core"):
            capture_of(content)
    with pytest.raises(MalformedData):
        capture_of(text("journal.export.xz")[:4000])


@pytest.mark.parametrize("version", ["17", "25"])
def test_jvms_report_has_its_map_its_signal_and_its_thread(version: str) -> None:
    content = text(f"hs_err-{version}.log.xz")
    capture = capture_of(content)
    space = vmatlas.replay(capture)
    assert any((each.path or "").endswith("libjvm.so") for each in space)
    assert space[-1].name == "[vsyscall]"
    found = operations.explain(capture)
    assert (found.crash.signal_name, found.crash.code, found.crash.fault_address) == ("SIGSEGV", 1, 0x18)
    assert found.instruction is not None
    assert found.instruction.region is not None
    assert (found.instruction.region.path or "").endswith("libjvm.so")
    assert found.threads[0].stack is not None
    assert space.pid + 1 == found.threads[0].number
    assert "a null pointer and an offset of 24" in found.text


def test_sanitizers_map_has_ranges_and_names_alone() -> None:
    space = space_of(text("asan-map.txt"))
    assert {each.protection for each in space} == {Protection.UNTOLD}
    assert {(each.shared, each.offset, each.inode) for each in space} == {(None, None, None)}
    assert (space[0].path, space[0].kind, space[-2].kind) == ("/tmp/test/b.asan", Kind.FILE, Kind.STACK)
    assert {each.kind for each in space if not each.label} == {Kind.OTHER}
    assert len(space) == text("asan-map.txt").count(b"\t0x")


def test_sanitizers_finding_is_explained_without_a_map(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = operations.explain(capture_of(text("asan-use-after-free.txt")))
    assert (found.crash.signal, found.space.pid, found.crash.said) == (
        None,
        20577,
        "AddressSanitizer: heap-use-after-free on address 0x602000000010",
    )
    path = tmp_path / "asan.txt"
    path.write_bytes(text("asan-use-after-free.txt"))
    assert program.run(["maps", str(path)]) == Exit.UNSUPPORTED
    assert "tells no map" in capsys.readouterr().err
    assert program.run(["explain", str(path), "--json"]) == Exit.OK
    assert "heap-use-after-free" in json.loads(capsys.readouterr().out)["said"]


def test_sanitizers_signal_has_its_address_where_there_is_one() -> None:
    access = BACKEND.crash(capture_of(text("asan-segv.txt")))
    assert (access.signal, access.signal_name, access.fault_address) == (11, "SIGSEGV", 0x18)
    assert access.threads[0].stack_pointer is not None
    high = BACKEND.crash(capture_of(text("asan-high.txt")))
    assert (high.signal_name, high.fault_address) == ("SIGSEGV", None)
    assert "canonical" in high.no_address


def test_tombstone_has_its_map_and_how_it_ended() -> None:
    capture = capture_of(TOMBSTONE)
    space = vmatlas.replay(capture)
    assert [(each.start, each.end, each.permissions, each.label, each.offset) for each in space] == [
        (0x12C00000, 0x2AC00000, "rw-?", "[anon:dalvik-main space (region space)]", None),
        (0x7B1C400000, 0x7B1C401000, "r-x?", "/system/lib64/x.so", 0x1000),
        (0x7B1C401000, 0x7B1C402000, "---?", "", None),
        (0x7B1C402000, 0x7B1C403000, "rw-?", "[anon:stack_and_tls:4243]", None),
        (0x7B1C403000, 0x7B1C404000, "rw-?", "/data/x y (deleted)", 0),
        (0x7FFC000000, 0x7FFC001000, "rw-?", "[stack]", None),
    ]
    assert (space.pid, space.origin.name, space.consistency) == (4242, "worker", Consistency.FROZEN)
    assert (space[4].deleted, space[3].kind) == (None, Kind.STACK)
    found = operations.explain(capture)
    assert (found.threads[0].number, found.crash.signal_name, found.crash.fault_address) == (4243, "SIGSEGV", 0x18)
    assert found.instruction is not None
    assert (found.instruction.address, found.instruction.file_offset) == (0x7B1C400124, 0x1124)
    old = TOMBSTONE.replace(b"0000007b'1", b"5").replace(b"0000007f'", b"").replace(b"00000000'", b"")
    assert [each.start for each in space_of(old)][:2] == [0x12C00000, 0x5C400000]


def test_odd_line_of_a_tombstone_is_an_error_with_the_byte_or_counted() -> None:
    odd = TOMBSTONE.replace(b"    0000007b'1c401000", b"logcat was here\n    0000007b'1c401000")
    with pytest.raises(MalformedData) as refused:
        capture_of(odd)
    assert refused.value.offset == odd.index(b"logcat")
    space = space_of(odd, lenient=True)
    assert len(space) == 6
    assert "1 odd line was passed over" in (space.incomplete or "")


def test_crash_of_go_is_explained_and_tells_no_map() -> None:
    capture = capture_of(GO)
    with pytest.raises(Unsupported, match="Go tells no map"):
        vmatlas.replay(capture)
    found = operations.explain(capture)
    assert (found.crash.signal_name, found.crash.fault_address, found.crash.code) == ("SIGSEGV", 0x18, 1)
    assert found.instruction is not None
    assert found.instruction.address == 0x45E2B3
    assert "nil pointer dereference" in found.text


def test_windows_line_ends_do_not_matter() -> None:
    for content in (TOMBSTONE, text("pmap-X.txt"), text("asan-map.txt"), text("hs_err-17.log.xz")):
        assert list(space_of(content.replace(b"\n", b"\r\n"))) == list(space_of(content))


def test_what_only_looks_like_a_crash_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    for content in (b"panic: not of Go\n", b"Address Perm\n", b"{}\n", b""):
        path.write_bytes(content)
        with pytest.raises(MalformedData, match="no capture of vmatlas"):
            vmatlas.replay(path)


SOURCES = [
    TOMBSTONE,
    GO,
    *(told.text for told in OTHERS.values()),
    *(text(name) for name in ("pmap-X.txt", "pmap-XX-p.txt", "asan-map.txt", "asan-segv.txt")),
    *(text(name) for name in ("journal.json.xz", "journal.export.xz", "hs_err-25.log.xz")),
]


@settings(max_examples=examples(150), deadline=None)
@given(
    st.sampled_from(SOURCES),
    st.lists(st.tuples(st.integers(0, 60_000), st.binary(max_size=6)), max_size=5),
    st.integers(0, 60_000),
    st.booleans(),
)
def test_report_of_any_bytes_gives_a_map_in_order_or_an_error_of_ours(
    content: bytes, changes: list[tuple[int, bytes]], cut: int, lenient: bool
) -> None:
    damaged = bytearray(content)
    for place, piece in changes:
        at = place % len(damaged)
        damaged[at : at + len(piece)] = piece
    for each in (bytes(damaged), bytes(damaged[:cut])):
        with suppress(VmatlasError):
            capture = remains.read_bytes(each, "text", 0.0, lenient=lenient)
            if capture is None:
                continue
            with suppress(VmatlasError):
                operations.explain(capture)
            assert vmatlas.replay(capture).columns.first_disorder() is None
