"""The text decoder is pure: all that the kernel can write is read back exactly, all else is MalformedData."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vmatlas import (
    AddressSpace,
    Capture,
    Disordered,
    Kind,
    MalformedData,
    NoSuchProcess,
    Query,
    Region,
    SystemInfo,
    UsageError,
    Use,
    summarize,
)
from vmatlas.conformance.thorough import examples
from vmatlas.systems.linux import links
from vmatlas_linux_procfs import BACKEND
from vmatlas_linux_procfs.flags import VmFlags

CAPTURES = sorted((Path(__file__).parent / "captures").glob("*.zip"))
SYSTEM = SystemInfo("linux", "6.12", "", "x86_64", "little", 64, 4096)


def captured(**streams: bytes) -> Capture:
    return Capture(streams, SYSTEM, 7, "linux-procfs", "vmatlas-linux-procfs", Query(), time.time())


def decoded(**streams: bytes) -> AddressSpace:
    return BACKEND.decode(captured(**streams))


def line(region: Region) -> bytes:
    """As fs/proc/task_mmu.c writes it (show_vma_header_prefix, seq_pad): the oracle of the round trip."""
    major, minor = region.device or (0, 0)
    head = f"{region.start:08x}-{region.end:08x} {region.permissions} {region.offset or 0:08x} "
    head += f"{major:02x}:{minor:02x} {region.inode or 0} "
    name = region.label.encode("utf-8", "surrogateescape").replace(b"\n", b"\\012")
    return (head.ljust(73).encode() + name if name else head.encode()) + b"\n"


PATH = st.binary(min_size=1, max_size=60).map(lambda name: b"/" + name.replace(b"\0", b""))
NAME = st.one_of(
    PATH,
    PATH.map(lambda path: path + b" (deleted)"),
    st.sampled_from(
        [b"/a\\012b", b"/a\nb\\012c", b"/memfd:x (deleted)", b"/dev/zero (deleted)", b"/SYSV00000000 (deleted)"]
    ),
    st.sampled_from([b"anon_inode:[perf_event]", b"socket:[123]", b"/d\\012 (deleted)", b"/ \n\t\r\x0b\x85 "]),
)
BRACKETS = st.sampled_from([b"", b"", b"[heap]", b"[stack]", b"[vdso]", b"[vvar]", b"[anon: x y ]", b"[new thing]"])


@st.composite
def maps(draw: st.DrawFn) -> tuple[bytes, dict[links.Name, bool]]:
    """Lines of a map in order, and the file system's word for the names in it."""
    bounds = sorted(draw(st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=20)))
    text = b""
    linked: dict[links.Name, bool] = {}
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        offset = device = inode = 0
        if draw(st.booleans()):
            offset, device, inode = (draw(st.integers(low, 2**bits - 2)) for low, bits in ((0, 64), (1, 32), (0, 64)))
            name = draw(NAME)
            if b"\\012" in name or name.endswith(b" (deleted)"):
                linked.setdefault((name, inode), draw(st.booleans()))
        else:
            name = draw(BRACKETS)
        rights = "".join(draw(st.sampled_from([letter, "-"])) for letter in "rwx") + draw(st.sampled_from("ps"))
        head = f"{start:08x}-{end:08x} {rights} {offset:08x} {device >> 12:02x}:{device & 0xFFF:02x} {inode} "
        text += (head.ljust(73).encode() + name.replace(b"\n", b"\\012") if name else head.encode()) + b"\n"
    return text, linked


@given(maps())
@settings(max_examples=examples(300), deadline=None)
def test_text_to_space_to_text_is_the_same_text(made: tuple[bytes, dict[links.Name, bool]]) -> None:
    text, linked = made
    assume(not text.count(b"\r\n") == text.count(b"\n") > 1)  # every path ends in CR: taken for a text from Windows
    space = decoded(maps=text, links=links.encode(linked))
    assert b"".join(map(line, space)) == text
    for region in space:
        name = region.label.encode("utf-8", "surrogateescape")
        if region.path is not None and name.endswith(b" (deleted)") and region.inode is not None:
            assert region.deleted is not linked[name, region.inode]


KEYS = st.lists(
    st.sampled_from(["Size", "Rss", "Pss", "Private_Clean", "Private_Dirty", "KernelPageSize", "NewKey", "X1(y)"]),
    min_size=1,
    unique=True,
)


@given(maps(), KEYS, st.data())
@settings(max_examples=examples(150), deadline=None)
def test_every_key_of_smaps_survives(
    made: tuple[bytes, dict[links.Name, bool]], keys: list[str], data: st.DataObject
) -> None:
    text, linked = made
    alike = data.draw(st.booleans(), "every region has the same keys")
    smaps, wanted = b"", []
    for header in text.splitlines(keepends=True) if text else []:
        if not re.match(rb"[0-9a-f]+-", header):
            return  # splitlines also ends lines at \r and the like: not the kernel's lines
        own = keys if alike else data.draw(st.lists(st.sampled_from(keys), min_size=1, unique=True))
        values = {key: data.draw(st.integers(0, 2**50)) for key in own}
        flags = data.draw(st.lists(st.sampled_from(["rd", "wr", "mr", "zz", "??", "gd"]), unique=True))
        smaps += header + b"".join(b"%-16s %8d kB\n" % (key.encode() + b":", number) for key, number in values.items())
        smaps += b"THPeligible:    1\nVmFlags: " + " ".join([*flags, ""]).encode() + b"\n"
        wanted.append((values, set(flags)))
    space = decoded(smaps=smaps, links=links.encode(linked))
    assert len(space) == len(wanted)
    for region, (values, flags) in zip(space, wanted, strict=True):
        told = {key: number * 1024 for key, number in values.items()}
        assert dict(region.details) == {**told, "THPeligible": 1}
        assert region.flags is not None
        assert set(region.flags.labels()) == flags
        assert region.resident == told.get("Rss")
        assert region.page_size == told.get("KernelPageSize")
        clean, dirty = told.get("Private_Clean"), told.get("Private_Dirty")
        assert region.private_resident == (None if clean is None or dirty is None else clean + dirty)


def survives(**streams: bytes) -> None:
    """Anything may be read, and nothing but MalformedData raised (or NoSuchProcess, when `stat` tells of a zombie)."""
    try:
        space = decoded(**streams)
    except MalformedData as error:
        assert error.stream in ("maps", "smaps", "links", "mounted", "stat")
        assert 0 <= error.offset <= max(map(len, streams.values()), default=0)
    except NoSuchProcess:
        assert streams["stat"]
    else:
        assert all(a.end <= b.start for a, b in pairwise(space))
        list(space)


STREAMS = st.dictionaries(st.sampled_from(["maps", "smaps", "links", "mounted", "stat"]), st.binary(max_size=200))


@given(STREAMS)
@settings(max_examples=examples(500), deadline=None)
def test_arbitrary_bytes_are_malformed_or_read(streams: dict[str, bytes]) -> None:
    survives(**streams)


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """A real capture: cut, with lines reordered or doubled, with bytes changed."""
    streams = dict(Capture.load(draw(st.sampled_from(CAPTURES))).streams)
    name = draw(st.sampled_from(sorted(streams)))
    lines = streams[name].splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["cut", "swap", "double", "drop", "bytes"])):
            case "cut":
                joined = b"".join(lines)
                lines = joined[: draw(st.integers(0, len(joined)))].splitlines(keepends=True)
            case "swap" if len(lines) > 1:
                a, b = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
                lines[a], lines[b] = lines[b], lines[a]
            case "double" if lines:
                at = draw(st.integers(0, len(lines) - 1))
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case "drop" if lines:
                del lines[draw(st.integers(0, len(lines) - 1))]
            case "bytes" if lines:
                changed = bytearray(b"".join(lines))
                for _ in range(draw(st.integers(1, 5))):
                    changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
                lines = bytes(changed).splitlines(keepends=True)
    streams[name] = b"".join(lines)
    return streams


@given(damaged())
@settings(max_examples=examples(500), deadline=None)
def test_damaged_capture_is_malformed_or_read(streams: dict[str, bytes]) -> None:
    survives(**streams)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_recorded_capture_reads_as_the_text_in_it(path: Path) -> None:
    capture = Capture.load(path)
    space = BACKEND.decode(capture)
    text = capture.streams.get("maps") or b"".join(
        each for each in capture.stream("smaps").splitlines(keepends=True) if re.match(rb"[0-9a-f]+-", each)
    )
    assert b"".join(map(line, space)) == text
    assert {Kind.FILE, Kind.HEAP, Kind.STACK, Kind.VDSO, Kind.VVAR, Kind.GUARD} <= {region.kind for region in space}


def test_there_are_recorded_captures() -> None:
    assert {"linux-6.18-maps", "linux-6.18-smaps"} <= {path.stem for path in CAPTURES}


GOOD = b"00400000-00401000 r-xp 00000000 08:01 12                                 /bin/x\n"


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (GOOD[:-1], 0),
        (GOOD + b"00500000-00501000 r-xp\n", len(GOOD)),
        (GOOD + b"\n", len(GOOD)),
        (b"\n" + GOOD, 0),
        (GOOD + GOOD[:20], len(GOOD)),
        (GOOD.replace(b" 12 ", b" 99999999999999999999 "), 0),
        (GOOD.replace(b"r-xp", b"rwzp"), 0),
        (GOOD.replace(b"00400000-", b"00000000000400000-"), 0),
        (b"Size:  4 kB\n" + GOOD, 0),
    ],
)
@pytest.mark.parametrize("stream", ["maps", "smaps"])
def test_malformed_text_is_told_with_its_place(stream: str, text: bytes, offset: int) -> None:
    with pytest.raises(MalformedData) as raised:
        decoded(**{stream: text})
    assert (raised.value.stream, raised.value.offset) == (stream, offset)


@pytest.mark.parametrize(
    "second", [b"00400000-00401000", b"003ff000-00402000", b"00400fff-00402000", b"00500000-004fffff"]
)
def test_regions_out_of_order_are_disordered(second: bytes) -> None:
    with pytest.raises(Disordered) as raised:
        decoded(maps=GOOD + GOOD.replace(b"00400000-00401000", second))
    assert raised.value.offset == len(GOOD)


EMPTY = b"00500000-00500000 rw-p 00000000 00:00 0 \n"


def test_region_of_no_bytes_is_left_out_and_said_to_be() -> None:
    """Linux of some years (believed: 2.6.36 to 4.11) left the guard page of a growing stack out of what it told."""
    stack = b"7ffe33331000-7ffe33351000 rw-p 00000000 00:00 0                          [stack]\n"
    above = b"7ffe33360000-7ffe33360000 rwxp 00000000 00:00 0                          [stack]\n"
    space = decoded(maps=GOOD + EMPTY + stack + above)
    assert [region.label for region in space] == ["/bin/x", "[stack]"]
    assert "2 regions of no bytes" in (space.incomplete or "")
    assert "0x500000, 0x7ffe33360000" in (space.incomplete or "")
    alone = decoded(smaps=EMPTY + b"Rss:  0 kB\n" + GOOD.replace(b"0040", b"0060") + b"Rss:  4 kB\n")
    assert [(region.start, region.resident) for region in alone] == [(0x600000, 4096)]
    assert (alone.incomplete or "").startswith("1 region of no bytes")


def test_place_of_a_disorder_counts_the_regions_of_no_bytes_too() -> None:
    with pytest.raises(Disordered) as raised:
        decoded(maps=GOOD + EMPTY + GOOD)
    assert raised.value.offset == len(GOOD + EMPTY)


def test_offset_beside_a_path_is_kept_where_no_device_is_told() -> None:
    """As kernels and emulators without device numbers write it; beside no path it may be an address of old kernels."""
    zeros = GOOD.replace(b"00000000 08:01 12 ", b"00009000 00:00 0 ")
    region = decoded(maps=zeros)[0]
    assert (region.offset, region.device, region.inode, region.path) == (0x9000, None, None, "/bin/x")
    assert decoded(maps=zeros.replace(b"/bin/x", b"libx.so"))[0].offset == 0x9000
    for name in (b"", b"[heap]", b"[vsyscall]"):
        assert decoded(maps=zeros.replace(b"/bin/x", name))[0].offset is None


def test_capital_s_of_a_linux_without_an_mmu_is_shared() -> None:
    region = decoded(maps=GOOD.replace(b"r-xp", b"rw-S"))[0]
    assert (region.shared, region.permissions) == (True, "rw-s")


WINDOWS = [
    GOOD.replace(b"\n", b"\r\n") + GOOD.replace(b"0040", b"0050").replace(b"\n", b"\r\n"),
    b"00600000-00621000 rw-p 00000000 00:00 0          [heap]\r\n",
    b"00701000-00702000 rw-p 00000000 00:00 0 \r\n",
    GOOD + b"00701000-00702000 rw-p 00000000 00:00 0 \r\n",
]


@pytest.mark.parametrize("text", WINDOWS)
def test_lines_that_end_in_cr_lf_are_refused_by_name(text: bytes) -> None:
    for streams in ({"maps": text}, {"smaps": text.replace(b"\n", b"\nRss:   4 kB\r\n")}):
        with pytest.raises(MalformedData, match="CR LF: the text went through Windows or a terminal") as raised:
            decoded(**streams)
        (content,) = streams.values()
        assert raised.value.offset == content.find(b"\r\n")


def test_values_that_end_in_cr_are_refused_by_name() -> None:
    for more in (b"Rss:   4 kB\r\n", b"Rss:   4 kB\nVmFlags: rd ex \r\n"):
        with pytest.raises(MalformedData, match="CR LF"):
            decoded(smaps=GOOD + more)


@pytest.mark.parametrize("name", [b"/bin/x\r", b"/bin/x 12\r", b"/bin/[x]\r"])
def test_path_that_ends_in_cr_is_a_path(name: bytes) -> None:
    odd = GOOD.replace(b"/bin/x", name)
    shown = name.decode()
    assert [region.path for region in decoded(maps=odd)] == [shown]
    assert [region.path for region in decoded(maps=odd + GOOD.replace(b"0040", b"0050"))] == [shown, "/bin/x"]


HUGE = b"""7f0000000000-7f0000800000 rw-p 00000000 00:0f 31 /anon_hugepage (deleted)
Rss:                   0 kB
Pss:                   0 kB
Private_Clean:         0 kB
Private_Dirty:         0 kB
Shared_Hugetlb:    %5d kB
Private_Hugetlb:   %5d kB
KernelPageSize:     2048 kB
"""


@pytest.mark.parametrize(
    ("shared", "private", "resident"), [(0, 8192, 8 << 20), (8192, 0, 8 << 20), (2048, 4096, 6 << 20), (0, 0, 0)]
)
def test_huge_pages_in_use_are_resident(shared: int, private: int, resident: int) -> None:
    """The kernel counts them apart: Rss and all other numbers of hugetlb memory are 0."""
    usual = GOOD + re.sub(rb"^.*\n", b"", HUGE % (0, 0), count=1).replace(b"Rss:                   0", b"Rss:  4")
    space = decoded(smaps=usual + HUGE % (shared, private))
    assert (space[1].resident, space[1].private_resident) == (resident, private * 1024)
    assert (space[0].resident, space[0].private_resident) == (4096, 0)
    assert space[1].details["Rss"] == 0
    assert [region.start for region in space.where("resident>1M")] == ([0x7F0000000000] if resident else [])


def test_huge_pages_that_an_old_kernel_does_not_tell_add_nothing() -> None:
    region = decoded(smaps=GOOD + b"Rss: 4 kB\nPrivate_Clean: 0 kB\nPrivate_Dirty: 4 kB\n")[0]
    assert (region.resident, region.private_resident) == (4096, 4096)


def test_number_longer_than_any_is_kept_as_text() -> None:
    region = decoded(smaps=GOOD + b"Rss: " + b"9" * 5000 + b" kB\n")[0]
    assert region.resident is None
    assert region.details["Rss"] == "9" * 5000 + " kB"


def test_smaps_of_more_keys_than_any_kernel_has_is_refused() -> None:
    """Each key takes a column: a small text must not take all memory."""
    keys = b"".join(b"K%d: 1\n" % number for number in range(300))
    with pytest.raises(MalformedData, match="different keys"):
        decoded(smaps=GOOD + keys)


def test_flags_without_a_name_are_kept_and_shown() -> None:
    region = decoded(smaps=GOOD + b"VmFlags: rd q7 mr \n")[0]
    assert region.flags is not None
    assert VmFlags.READABLE in region.flags
    assert region.flags.labels() == ["rd", "mr", "q7"]


def test_letters_that_no_region_has_and_no_kernel_is_known_to_write_are_no_flag() -> None:
    space = decoded(smaps=GOOD + b"Rss: 0 kB\nVmFlags: rd mr q7 \n")
    assert list(space.where("flag=q7")) == list(space)
    assert not space.where("flag=lo")
    for text in ("flag=zz", "!flag=zz", "flag=lo|zz"):
        with pytest.raises(UsageError, match="unknown flag 'zz'") as caught:
            space.where(text)
        assert "locked" in (caught.value.hint or "")


def test_flags_that_are_no_pairs_of_letters_are_kept_as_text() -> None:
    region = decoded(smaps=GOOD + b"VmFlags: rd long mr \n")[0]
    assert region.flags is None
    assert region.details["VmFlags"] == "rd long mr "


def test_flags_that_are_not_told_are_none_and_empty_ones_are_empty() -> None:
    """Kernels before 3.8 have no such line; what has no flag has an empty one."""
    second = GOOD.replace(b"0040", b"0050")
    assert decoded(maps=GOOD)[0].flags is None
    for empty in (b"VmFlags:\n", b"VmFlags: \n"):
        told = decoded(smaps=GOOD + b"Rss: 4 kB\n" + second + b"Rss: 0 kB\n" + empty)
        assert [region.flags for region in told] == [None, VmFlags(0)]
        assert [each["flags"] for each in json.loads(told.to_json())] == [None, []]
        assert decoded(smaps=second + b"Rss: 0 kB\n" + empty)[0].flags == VmFlags(0)


def test_flags_without_a_name_are_shown_in_a_line() -> None:
    region = decoded(smaps=GOOD + b"VmFlags: rd zz ur \n")[0]
    assert region.flags is not None
    assert VmFlags.USERFAULTFD_READ_WRITE_PROTECT in region.flags
    assert (str(region.flags), repr(region.flags), f"{region.flags}") == ("rd,ur,zz", "<VmFlags: rd,ur,zz>", "rd,ur,zz")
    assert len(repr(region)) < 600


STAT = b"7 (a) b) %s 1 1 1 0 -1 %d 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0\n"


def test_empty_text_is_judged_by_the_process_s_state() -> None:
    assert len(decoded(maps=b"", stat=STAT % (b"S", 0x00200000))) == 0
    for stat in (STAT % (b"Z", 0), STAT % (b"X", 0), STAT % (b"R", 4)):
        with pytest.raises(NoSuchProcess, match="zombie"):
            decoded(maps=b"", stat=stat)
    for streams in ({}, {"stat": b""}, {"stat": STAT % (b"S", 0)}):
        with pytest.raises(MalformedData):
            decoded(maps=b"", **streams)


def test_two_files_of_one_shown_name_are_told_apart_by_inode() -> None:
    shown = GOOD.replace(b"/bin/x", b"/bin/x (deleted)")
    text = shown + shown.replace(b"00400000-00401000", b"00500000-00501000").replace(b" 12 ", b" 13 ")
    known = links.encode({(b"/bin/x (deleted)", 12): False, (b"/bin/x (deleted)", 13): True})
    assert [(r.path, r.deleted) for r in decoded(maps=text, links=known)] == [
        ("/bin/x", True),
        ("/bin/x (deleted)", False),
    ]


def test_region_that_lacks_the_last_key_of_the_others_costs_no_time() -> None:
    """Spaces that an expression could split in many ways between two of its parts once took for ever here."""
    keys = [b"Key%d:               %d kB\n" % (number, number) for number in range(30)]
    second = GOOD.replace(b"00400000-00401000", b"00500000-00501000")
    space = decoded(smaps=GOOD + b"".join(keys) + second + b"".join(keys[:-1]))
    assert [len(region.details) for region in space] == [30, 29]


def test_a_guard_within_the_main_stack_belongs_to_it() -> None:
    text = b"".join(
        b"%x-%x %s 00000000 00:00 0 %s\nSize:  4 kB\nVmFlags: mr mw me gd ac \n" % each
        for each in (
            (0x7FFC00000000, 0x7FFC00001000, b"rw-p", b""),
            (0x7FFC00001000, 0x7FFC00002000, b"---p", b""),
            (0x7FFC00002000, 0x7FFC00003000, b"rw-p", b"                         [stack]"),
        )
    )
    space = decoded(smaps=text)
    assert [each.kind for each in space] == [Kind.STACK, Kind.GUARD, Kind.STACK]
    assert summarize(space).uses[Use.STACK].size == 3 * 4096
