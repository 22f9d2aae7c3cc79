"""The text's decoder is pure: what the kernel can write is read back, and what it cannot have written is refused."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas import AddressSpace, Capture, Disordered, Kind, MalformedData, NoSuchProcess, Query, SystemInfo
from vmatlas.conformance.thorough import examples
from vmatlas_freebsd import PROCFS
from vmatlas_freebsd.decode.map_text import CUT, CUT_AT
from vmatlas_freebsd.layout import PROC_SIZE

CAPTURES = Path(__file__).parent / "captures"
SYSTEM = SystemInfo("freebsd", "13.2-RELEASE", "", "amd64", "little", 64, 4096)
GOOD = b"0x400000 0x401000 1 0 0xfffff80001c6b318 r-x 4 0 0x1000 COW NC vnode %s NCH -1\n"


def captured(text: bytes, release: str = "13.2-RELEASE", **streams: bytes) -> Capture:
    system = replace(SYSTEM, release=release)
    return Capture({"map": text, **streams}, system, 7, "freebsd-procfs", "vmatlas-freebsd", Query(), time.time())


def decoded(text: bytes, release: str = "13.2-RELEASE", **streams: bytes) -> AddressSpace:
    return PROCFS.decode(captured(text, release, **streams))


PATHS = st.one_of(
    st.just(b"-"),
    st.binary(max_size=80).map(lambda name: b"/" + name.replace(b"\0", b"").replace(b"\n", b" CH 0 ")),
    st.sampled_from([b"/a b  c ", b"/x NCH -1", b"/x CH 0", b"/0x1 0x2 3", b"/\xff\xfe"]),
)


@st.composite
def texts(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int, str, bytes, bool]]]:
    bounds = sorted(draw(st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=16)))
    text, wanted = b"", []
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        rights = "".join(draw(st.sampled_from([letter, "-"])) for letter in "rwx")
        path = draw(PATHS)
        cow = draw(st.booleans())
        counts = [draw(st.integers(-(2**31), 2**31 - 1)) for _ in range(4)]
        tail = draw(st.sampled_from([b"CH 0", b"CH 4294967295", b"NCH -1"]))
        text += b"0x%x 0x%x %d %d 0x%x %s %d %d 0x%x %s %s %s %s %s\n" % (
            start, end, counts[0], counts[1], draw(st.integers(1, 2**64 - 1)), rights.encode(), counts[2], counts[3],
            draw(st.integers(0, 2**32 - 1)), b"COW" if cow else b"NCOW", draw(st.sampled_from([b"NC", b"NNC"])),
            b"vnode", path, tail,
        )  # fmt: skip
        wanted.append((start, end, rights, path, cow))
    return text, wanted


@given(texts())
@settings(max_examples=examples(300), deadline=None)
def test_lines_read_back_as_they_were_written(made: tuple[bytes, list[tuple[int, int, str, bytes, bool]]]) -> None:
    text, wanted = made
    assert [
        (r.start, r.end, r.protection.letters, b"-" if r.path_bytes is None else r.path_bytes, r.shared is False)
        for r in decoded(text)
    ] == wanted


def survives(text: bytes, **streams: bytes) -> None:
    try:
        space = decoded(text, **streams)
    except MalformedData as error:
        assert error.stream in ("map", "proc")
        assert 0 <= error.offset <= max(len(text), *(len(each) for each in streams.values()), 0)
    except NoSuchProcess:
        assert streams["proc"]
    else:
        assert all(a.end <= b.start for a, b in pairwise(space))
        list(space)


@given(st.binary(max_size=300), st.one_of(st.none(), st.binary(max_size=1200)))
@settings(max_examples=examples(300), deadline=None)
def test_arbitrary_bytes_are_malformed_or_read(text: bytes, proc: bytes | None) -> None:
    survives(text, **({} if proc is None else {"proc": proc}))


@given(
    st.sampled_from(sorted(path.name for path in CAPTURES.glob("*.map.txt"))),
    st.lists(st.tuples(st.integers(0, 2**17), st.integers(0, 255)), max_size=6),
    st.one_of(st.none(), st.integers(0, 90000)),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=3),
)
@settings(max_examples=examples(300), deadline=None)
def test_damaged_recording_is_malformed_or_read(
    name: str, changes: list[tuple[int, int]], cut: int | None, moved: list[tuple[int, int]]
) -> None:
    lines = (CAPTURES / name).read_bytes()[:cut].splitlines(keepends=True)
    for one, other in moved:
        if lines:
            lines.insert(one % len(lines), lines[other % len(lines)])
    text = bytearray(b"".join(lines))
    for at, value in changes:
        if text:
            text[at % len(text)] = value
    survives(bytes(text))


FIRST = GOOD % b"/bin/x"


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (FIRST[:-1], 0),
        (FIRST + b"\n", len(FIRST)),
        (b"\n" + FIRST, 0),
        (FIRST + FIRST[:30], len(FIRST)),
        (FIRST.replace(b" r-x ", b" rzx "), 0),
        (FIRST.replace(b" COW ", b" MOO "), 0),
        (FIRST.replace(b"NCH -1", b"NCH 0"), 0),
        (FIRST.replace(b"NCH -1", b"CH -1"), 0),
        (FIRST.replace(b"0x400000 ", b"0x00000000000400000 "), 0),
        (FIRST.replace(b"0x400000 ", b"400000 "), 0),
        (FIRST.replace(b"/bin/x", b"bin/x"), 0),
        (FIRST.replace(b" 1 0 ", b" 99999999999 0 "), 0),
        (FIRST.replace(b"\n", b"\r\n"), 0),
        (FIRST.replace(b"/bin/x", b"/bin/new\nline"), 0),
    ],
)
def test_malformed_text_is_told_with_its_place_and_the_way_out(text: bytes, offset: int) -> None:
    with pytest.raises(MalformedData) as raised:
        decoded(text)
    assert (raised.value.stream, raised.value.offset) == ("map", offset)
    assert "freebsd-sysctl" in str(raised.value.hint)


@pytest.mark.parametrize(
    "addresses", [b"0x400000 0x401000", b"0x4ff000 0x500001", b"0x600000 0x601000", b"0x402000 0x402000"]
)
def test_forged_line_that_breaks_order_or_bounds_is_refused(addresses: bytes) -> None:
    text = FIRST.replace(b"/bin/x NCH -1\n", b"/tmp/a NCH -1\n" + FIRST.replace(b"0x400000 0x401000", addresses))
    with pytest.raises(Disordered):
        decoded(text + FIRST.replace(b"0x400000 0x401000", b"0x500000 0x501000"))


def test_forged_line_whose_tail_is_left_over_breaks_the_columns() -> None:
    """The kernel writes its own tail behind a name, so the last piece of the name has to be a line as well."""
    with pytest.raises(MalformedData):
        decoded(FIRST.replace(b"/bin/x NCH -1\n", b"/tmp/a NCH -1\nx NCH -1\n"))


def test_forged_line_between_its_neighbours_cannot_be_noticed() -> None:
    """What this reader cannot know; its README says so, and the automatic choice takes the sysctl."""
    lines = FIRST.replace(b"0x400000 0x401000", b"0x402000 0x403000").replace(b"/bin/x", b"/bin/forged")
    space = decoded(FIRST.replace(b"/bin/x NCH -1\n", b"/tmp/a NCH -1\n" + lines))
    assert [region.path for region in space] == ["/tmp/a", "/bin/forged"]


@pytest.mark.parametrize(
    "second", [b"0x400000 0x401000", b"0x3ff000 0x402000", b"0x400fff 0x402000", b"0x500000 0x500000"]
)
def test_regions_out_of_order_are_disordered(second: bytes) -> None:
    with pytest.raises(Disordered) as raised:
        decoded(FIRST + FIRST.replace(b"0x400000 0x401000", second))
    assert raised.value.offset == len(FIRST)


def test_lines_that_end_in_cr_lf_are_refused_by_name() -> None:
    with pytest.raises(MalformedData, match="CR LF: the text went through Windows or a terminal"):
        decoded(FIRST.replace(b"\n", b"\r\n"))


def test_name_is_read_from_both_ends_of_its_line() -> None:
    for name in (b"/a b", b"/a  b ", b"/x CH 0", b"/x NCH -1 NCH -1", b"/vnode - COW"):
        assert decoded(GOOD % name)[0].path_bytes == name


def long_text(length: int) -> bytes:
    lines = []
    size = number = 0
    while size < length:
        line = FIRST.replace(b"0x400000 0x401000", b"0x%x 0x%x" % (0x10000 + number * 4096, 0x11000 + number * 4096))
        lines.append(line)
        size += len(line)
        number += 1
    return b"".join(lines)[:length]


def test_text_of_the_length_at_which_the_kernel_cuts_is_incomplete() -> None:
    space = decoded(long_text(CUT_AT))
    assert space.incomplete == CUT
    assert len(space) == long_text(CUT_AT).count(b"\n") > 10_000


@pytest.mark.parametrize("length", [CUT_AT - 1, CUT_AT + 1])
def test_text_cut_elsewhere_is_malformed(length: int) -> None:
    text = long_text(length)
    assert not text.endswith(b"\n")
    with pytest.raises(MalformedData, match="a whole line"):
        decoded(text)


def test_text_without_a_line_at_that_length_is_empty_and_incomplete() -> None:
    space = decoded(b"x" * CUT_AT)
    assert (len(space), space.incomplete) == (0, CUT)


def test_backtracking_is_bounded_by_the_line() -> None:
    """Many places where the end could begin; each is tried once (a line that was tried in all ways took for ever)."""
    tails = b" CH 0" * 20_000
    assert decoded(GOOD % (b"/" + tails))[0].path_bytes == b"/" + tails
    with pytest.raises(MalformedData):
        decoded((GOOD % (b"/" + tails)).replace(b" NCH -1\n", b" NCH -2\n"))
    with pytest.raises(MalformedData):
        decoded(b"0x" + b"0" * 1_000_000 + b"\n")


ANONYMOUS = b"0x400000 0x401000 1 0 0xfffff80001c6b318 rw- %d %d %s NCOW NNC swap - CH 0\n"


@pytest.mark.parametrize(
    ("line", "release", "kind", "shared"),
    [
        (ANONYMOUS % (1, 0, b"0x3010"), "13.2-RELEASE", Kind.ANONYMOUS, None),
        (ANONYMOUS % (2, 0, b"0x1010"), "14.3-RELEASE-p1", Kind.SHARED_MEMORY, True),
        (ANONYMOUS % (2, 1, b"0x1010"), "15.0-CURRENT", Kind.SHARED_MEMORY, True),
        (ANONYMOUS % (2, 0, b"0x3010"), "13.2-RELEASE", Kind.ANONYMOUS, None),  # a page fault is being served
        (ANONYMOUS % (1, 0, b"0x1200"), "13.2-RELEASE", Kind.SHARED_MEMORY, True),
        (ANONYMOUS % (1, 0, b"0x1200"), "12.4-RELEASE", Kind.ANONYMOUS, None),
        (ANONYMOUS % (2, 0, b"0x1010"), "unknown", Kind.ANONYMOUS, None),
        (FIRST.replace(b"vnode /bin/x", b"novel -"), "16.0", Kind.OTHER, False),
        (FIRST.replace(b"COW NC vnode /bin/x", b"NCOW NNC phys -"), "13.2", Kind.VDSO, True),
    ],
)
def test_swap_is_told_apart_by_what_its_release_means(
    line: bytes, release: str, kind: Kind, shared: bool | None
) -> None:
    region = decoded(line, release)[0]
    assert (region.kind, region.shared) == (kind, shared)


def test_charged_user_and_objects_are_details() -> None:
    region = decoded(ANONYMOUS % (1, 0, b"0x3010"))[0]
    assert dict(region.details) == {
        "type": "swap",
        "ref_count": 1,
        "shadow_count": 0,
        "object": 0xFFFFF80001C6B318,
        "object_flags": 0x3010,
        "shadowed_resident": 0,
        "charged_user": 0,
    }


def proc(state: int = 3, flag: int = 0) -> bytes:
    record = bytearray(PROC_SIZE)
    record[0:4] = PROC_SIZE.to_bytes(4, "little")
    record[368:376] = flag.to_bytes(8, "little")
    record[388] = state
    record[447:450] = b"abc"
    return bytes(record)


def test_empty_text_is_judged_by_the_process_beside_it() -> None:
    assert len(decoded(b"", proc=proc(flag=0x4 | 0x200))) == 0
    with pytest.raises(NoSuchProcess, match=r"\(abc\) has ended; it is a zombie"):
        decoded(b"", proc=proc(state=5))
    for streams in ({}, {"proc": b""}, {"proc": proc()}, {"proc": proc(flag=0x200)}, {"proc": proc() * 2}):
        with pytest.raises(MalformedData):
            decoded(b"", **streams)
