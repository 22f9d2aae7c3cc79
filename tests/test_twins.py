"""The compiled decoders and their twins in Python give equal columns and equal errors, offsets included: for every
capture in the repository, every process that lives here, and whatever bytes hypothesis comes upon."""

from __future__ import annotations

import importlib
import os
import subprocess
import time
from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from tests.conftest import offered
from tests.standing import agree_while_still
from vmatlas import AddressSpace, Capture, Query, SystemInfo, compiled
from vmatlas.conformance.thorough import THOROUGH, examples
from vmatlas.errors import MalformedData, VmatlasError
from vmatlas.model import columns as model_columns
from vmatlas.registry import backend as backend_named
from vmatlas.systems.linux import LINUX as LINUX_SYSTEM
from vmatlas.systems.linux import links

HERE = Path(__file__).parents[1]
CAPTURES = sorted(file for kind in ("zip", "vmatlas") for file in HERE.glob(f"**/tests/captures/**/*.{kind}"))
LINUX = SystemInfo("linux", "6.12", "", "x86_64", "little", 64, 4096)
DECODERS = {
    "linux-procfs": "vmatlas_linux_procfs.decode",
    "linux-ioctl": "vmatlas_linux_ioctl.decode",
    "freebsd-sysctl": "vmatlas_freebsd.decode.vmmap",
    "qnx-mapinfo": "vmatlas_qnx.decode",
    "qnx-pagedata": "vmatlas_qnx.decode",
}
"""The module of each backend that has a compiled twin; its NATIVE is the twin."""

needs_twins = pytest.mark.skipif(
    not all(compiled.twin(f"{module.partition('.')[0]}._native").serves for module in DECODERS.values()),
    reason="a compiled twin does not serve here: " + "; ".join(
        compiled.twin(f"{module.partition('.')[0]}._native").reason for module in DECODERS.values()
    ),
)  # fmt: skip

Outcome = dict[str, Any] | tuple[Any, ...]


def plain(column: object) -> object:
    return (column.typecode, column.tolist()) if isinstance(column, array) else column


def outcome(capture: Capture) -> Outcome:
    """All columns, or all of an error."""
    try:
        space = backend_named(capture.backend).decode(capture)
    except MalformedData as error:
        return type(error), error.stream, error.offset, error.expected, error.found, error.message
    except VmatlasError as error:
        return type(error), error.message
    entries = space.entries()
    return told(space) if entries is space else told(space) | {"entries": told(entries)}


def told(space: AddressSpace) -> dict[str, Any]:
    found = {name: plain(getattr(space.columns, name)) for name in space.columns.__slots__ if name != "label"}
    labels = [space.columns.labels[number] for number in space.columns.label]
    assert len(set(space.columns.labels)) == len(space.columns.labels), "each label is there once"
    details = {key: plain(column) for key, column in space.columns.details.items()}
    return found | {"labels": labels, "details": details, "incomplete": space.incomplete}


@contextmanager
def python_alone(backend: str) -> Iterator[None]:
    module = importlib.import_module(DECODERS[backend])
    twin, module.NATIVE = module.NATIVE, None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.NATIVE = twin  # type: ignore[attr-defined]


def both(capture: Capture) -> tuple[Outcome, Outcome]:
    by_twin = outcome(capture)
    with python_alone(capture.backend):
        return by_twin, outcome(capture)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process of our own: whoever runs the tests may read it."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        yield process.pid
        process.kill()


def captured(backend: str, **streams: bytes) -> Capture:
    return Capture(streams, LINUX, 7, backend, f"vmatlas-{backend}", Query(), time.time())


@needs_twins
@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: f"{file.stem}")
def test_every_capture_decodes_alike(file: Path):
    capture = Capture.load(file)
    if capture.backend not in DECODERS:
        pytest.skip(f"the backend {capture.backend} has no compiled twin")
    by_twin, by_python = both(capture)
    assert by_twin == by_python
    assert isinstance(by_twin, dict)


@needs_twins
@pytest.mark.parametrize(
    ("backend", "residency"), [("linux-procfs", False), ("linux-procfs", True), ("linux-ioctl", False)]
)
def test_every_living_process_reads_alike(sleeper: int, backend: str, residency: bool):
    """The bytes of each by both decoders; and by the short way, where the map stood still meanwhile. Each process is
    one of ours; in a thorough run, of this machine."""
    compared = short = 0
    for process in vmatlas.processes():
        if not THOROUGH and process.pid not in (sleeper, os.getpid()):
            continue
        try:
            with vmatlas.open(process.pid, backend=backend) as asked:
                by_twin, by_python = both(asked.capture(residency=residency))
                assert by_twin == by_python
                compared += 1
                short += short_way_agrees(asked, residency, looks=3)
        except vmatlas.Unsupported as error:
            pytest.skip(str(error))
        except VmatlasError:
            continue
    assert compared and (short or residency)


@needs_twins
@pytest.mark.parametrize("residency", [False, True])
def test_a_process_that_sleeps_reads_alike_by_the_short_way(sleeper: int, residency: bool):
    with vmatlas.open(sleeper, backend="linux-procfs") as asked:
        assert short_way_agrees(asked, residency, looks=1000)


@needs_twins
@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(build_ids=True),
        Query(where=vmatlas.Filter.parse("x,file")),
        Query(address=1 << 20, or_next=True, limit=5, build_ids=True),
    ],
    ids=["whole", "build ids", "filtered", "some from an address"],
)
def test_records_are_the_same_by_both_walks(sleeper: int, query: Query, monkeypatch: pytest.MonkeyPatch):
    offered("linux-ioctl")
    from vmatlas_linux_ioctl import acquire

    with closing(LINUX_SYSTEM.open(sleeper, None)) as process:

        def streams() -> dict[str, bytes]:
            return dict(acquire.acquire(process, query).streams)

        by_twin = agreed = None
        for _ in range(50):  # a program that has only just begun may map more yet
            by_twin = streams()
            with monkeypatch.context() as without:
                without.setattr(acquire, "NATIVE", None)
                agreed = streams()
            if by_twin == agreed:
                break
            time.sleep(0.01)
    assert by_twin == agreed
    assert by_twin is not None and by_twin["vmas"]


def short_way_agrees(asked: vmatlas.Process, residency: bool, *, looks: int) -> bool:
    """Whether there is a short way, and the process stood still for it: then it gives what two steps in Python give."""
    query = Query(residency=residency)
    backend = asked.choice(query).backend
    direct = asked._reader._direct
    assert direct is not None

    def check(capture: Capture, space: AddressSpace) -> None:
        with python_alone(capture.backend):
            assert told(space) == outcome(capture)

    return agree_while_still(
        lambda: asked.capture(residency=residency),
        lambda: direct.read(backend, query, 0),  # type: ignore[arg-type]
        check,
        same=lambda before, after: before.streams == after.streams,
        looks=looks,
    )


NAMES = st.sampled_from(
    [
        b"",
        b"[heap]",
        b"/bin/a",
        b"/bin/a (deleted)",
        b"/a\\012b",
        b"/memfd:x (deleted)",
        b"/x y ",
        b"[anon:y]",
        b"\xff",
        b"/[aio] (deleted)",
        b"/i915 (deleted)",
        b"/dev/shm/x (deleted)",
        b"/dmabuf:x",
    ]
)
EDGES = st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1, 2**64]) | st.integers(0, 2**64)
RIGHTS = st.sampled_from([b"r-xp", b"rw-s", b"rw-S", b"---p", b"rwxp", b"r-xq", b"R--p", b"r-x", b"rr-p"])
SOME_BYTES = st.binary(max_size=6) | st.sampled_from([b" ", b"\n", b"\0", b":", b"-", b"kB", b"\r", b"\r\n", b"\t"])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    bounds = sorted(draw(st.lists(EDGES, min_size=2, max_size=2)))
    device = draw(
        st.sampled_from([b"00:00", b"fd:01", b"00:20", b"00:21", b"fffff:100000", b"0:0", b"123456789:0", b"00"])
    )
    inode = draw(st.sampled_from([b"0", b"7", b"18446744073709551615", b"18446744073709551616", b"x", b"00007"]))
    pad = draw(st.sampled_from([b" ", b"   ", b"", b"\t"]))
    return b"%x-%x %s %08x %s %s%s%s" % (
        *bounds, draw(RIGHTS.filter(lambda each: draw(st.integers(0, 9)) == 0 or each in GOOD)),
        draw(EDGES), device, inode, pad, draw(NAMES),
    )  # fmt: skip


GOOD = (b"r-xp", b"rw-s", b"rw-S", b"---p", b"rwxp")
KEYS = (
    b"Size", b"Rss", b"KernelPageSize", b"Private_Clean", b"Private_Dirty", b"Private_Hugetlb", b"Shared_Hugetlb",
    b"THPeligible", b"VmFlags", b"A(b)_1",
)  # fmt: skip
VALUES = st.sampled_from(
    [
        b"           4 kB", b" 0", b"rd ex mr", b"", b"18446744073709551615", b"18014398509481983 kB", b"1 MB",
        b"18014398509481984 kB", b"000000000000000000001", b"12 kB ", b"rd !? zz", b"rdx", b"rd ex \r", b"4 kB\r",
    ]
)  # fmt: skip


@st.composite
def texts(draw: st.DrawFn, *, with_details: bool) -> bytes:
    """Texts that are nearly right: a line changed here, some bytes lost or put in there."""
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=7)) if with_details else []
    found = []
    for line in draw(st.lists(lines(), max_size=5)):
        found.append(line)
        own = draw(st.lists(st.sampled_from(KEYS), max_size=5)) if draw(st.integers(0, 9)) == 0 else keys
        for key in own if with_details else []:
            flags = draw(st.sampled_from([b" rd ex mr", b"", b" rd", b" rd !?"]))
            usual = flags if key == b"VmFlags" else b"   4 kB"
            found.append(key + b":" + (usual if draw(st.integers(0, 9)) else draw(VALUES)))
    text = b"\n".join(found) + (b"\n" if draw(st.integers(0, 9)) else b"")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(SOME_BYTES) + text[at + draw(st.integers(0, 3)) :]
    return text


LINKED = links.encode({(b"/bin/a (deleted)", 7): True, (b"/a\nb", 7): False, (b"/a\\012b", 0): True})


@needs_twins
@given(texts(with_details=False) | st.binary(max_size=200), st.booleans())
@settings(max_examples=examples(500), deadline=None)
def test_any_text_of_maps_decodes_alike(text: bytes, linked: bool):
    streams = {"links": LINKED, "mounted": b"1 0:32\x000 0:33\0"} if linked else {}
    by_twin, by_python = both(captured("linux-procfs", maps=text, **streams))
    assert by_twin == by_python


@needs_twins
@given(texts(with_details=True) | st.binary(max_size=200))
@settings(max_examples=examples(500), deadline=None)
def test_any_text_of_smaps_decodes_alike(text: bytes):
    by_twin, by_python = both(captured("linux-procfs", smaps=text))
    assert by_twin == by_python


@st.composite
def record_streams(draw: st.DrawFn) -> bytes:
    from vmatlas.systems.linux.procmap import SIZE, record

    layout, records, names = record("little"), b"", b""
    position = draw(st.integers(0, 2**20))
    for _ in range(draw(st.integers(0, 5))):
        start = position + draw(st.sampled_from([0, 0, 4096, 2**40]))
        position = start + draw(st.sampled_from([4096, 4096, 8192, 0]) if draw(st.integers(0, 9)) == 0 else st.just(9))
        name = draw(st.sampled_from([b"", b"/bin/a\0", b"[heap]\0", b"/x (deleted)\0", b"/n\0m\0", b"/no end", b"\0"]))
        build_id = draw(st.sampled_from([b"", b"", b"", b"\1\2\3"]))
        size = SIZE if draw(st.integers(0, 20)) else draw(st.integers(0, 200))
        inode, device = draw(st.sampled_from([(0, 0), (7, 8), (2**64 - 1, 2**32 - 1)]))
        records += layout.pack(
            size, 0x10, start, start, position, draw(st.integers(0, 15)), 4096, draw(st.integers(0, 2**64 - 1)), inode,
            device, 1 if device else 0, len(name), len(build_id), 0, 0,
        )  # fmt: skip
        names += name + build_id
    data = records + names
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(SOME_BYTES) + data[at + draw(st.integers(0, 3)) :]
    return data


@needs_twins
@given(record_streams() | st.binary(max_size=400))
@settings(max_examples=examples(500), deadline=None)
def test_any_records_of_the_ioctl_decode_alike(data: bytes):
    by_twin, by_python = both(captured("linux-ioctl", vmas=data))
    assert by_twin == by_python


FREEBSD = SystemInfo("freebsd", "13.2-RELEASE", "", "amd64", "little", 64, 4096)
WORDS = st.integers(0, 4) | st.integers(0, 2**32 - 1)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """Records of KERN_PROC_VMMAP, most of them sound."""
    from vmatlas_freebsd.layout import vmentry

    data, position = b"", draw(st.integers(0, 2**20)) * 4096
    for _ in range(draw(st.integers(0, 5))):
        start = position + draw(st.sampled_from([0, 0, 4096]))
        position = start + draw(st.sampled_from([4096, 8192] if draw(st.integers(0, 9)) else [0, 1, 2**63]))
        path = draw(st.sampled_from([b"", b"/bin/sh", b"/\xff\xfe", b"x" * 24, b"/a\0b"]))
        size = (136 + len(path) + 1 + 7) // 8 * 8 if draw(st.integers(0, 20)) else draw(st.integers(0, 1300))
        type, flags, protection, status = draw(st.tuples(st.integers(0, 12), WORDS, WORDS, st.integers(0, 3)))
        counts = draw(st.tuples(WORDS, WORDS, WORDS, WORDS, WORDS))
        wide = draw(st.tuples(*[st.sampled_from([0, 0, 7, 2**40 + 5, 2**64 - 1])] * 5))
        fields = (
            size, type, start % 2**64, position % 2**64, wide[0], wide[1], counts[0], flags, counts[1], counts[2],
            protection, counts[3], counts[4], draw(st.integers(0, 9)), wide[2], 0, draw(st.integers(0, 65535)), status,
            wide[3], wide[4],
        )  # fmt: skip
        record = vmentry("little").pack(*fields)
        record += bytes(136 - len(record)) + path
        data += record + bytes(-len(record) % 8 or 8) if len(path) % 8 else record + bytes(8)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(SOME_BYTES) + data[at + draw(st.integers(0, 3)) :]
    return data


@needs_twins
@given(entries() | st.binary(max_size=400))
@settings(max_examples=examples(500), deadline=None)
def test_any_records_of_freebsd_decode_alike(data: bytes):
    capture = Capture({"vmmap": data}, FREEBSD, 7, "freebsd-sysctl", "vmatlas-freebsd", Query(), time.time())
    by_twin, by_python = both(capture)
    assert by_twin == by_python


QNX = SystemInfo("qnx", "6.4.1", "", "x86pc", "little", 32, 4096)
QNX_FLAGS = st.sampled_from(
    [0x1080302, 0x1080302, 0x81302, 0x80002, 0x1000301, 0x1000122, 0x1000122, 0x80312, 0x10080303, 3]
)
RESIDENCY_BITS = st.sampled_from([0, 0x100000, 0x400000, 0x700000])


@st.composite
def mapinfos(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Entries of QNX, many of them split by residency alone, most of them sound; and answers of MAPDEBUG."""
    from vmatlas_qnx import names
    from vmatlas_qnx.layout import Entry, pack_entry

    data, answers, position = b"", b"", draw(st.integers(0, 2**20)) * 4096
    entry = Entry(0, 0, draw(QNX_FLAGS), 2, 0, draw(st.integers(0, 9)), 0)
    for _ in range(draw(st.integers(0, 8))):
        sound = draw(st.integers(0, 19))
        size = draw(st.sampled_from([4096, 8192, 2**31])) if sound else draw(st.sampled_from([0, 1, 2**63, 2**64 - 1]))
        start = position + draw(st.sampled_from([0, 0, 0, 4096]))
        if draw(st.booleans()):
            flags = entry.flags & ~0x700000 | draw(RESIDENCY_BITS)
            entry = entry._replace(flags=flags, offset=(entry.offset + entry.size) % 2**64)
            entry = entry._replace(ino=draw(st.sampled_from([entry.ino, entry.ino, entry.ino ^ 1])))
        else:
            wide = st.sampled_from([0, 0, 4096, 2**63, 2**64 - 4096])
            paddr = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 4096, 2**64 - 1]))
            flags = draw(QNX_FLAGS if draw(st.integers(0, 9)) else st.integers(0, 2**32 - 1))
            dev = draw(st.sampled_from([2, 2, 2, 0, 1, 3, 4, 5]))
            entry = Entry(0, 0, flags, dev, draw(wide), draw(st.integers(0, 9)), paddr)
        entry = entry._replace(vaddr=start % 2**64, size=size)
        position = start + size
        data += pack_entry(entry)
        for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
            path = draw(st.sampled_from([b"proc/boot/x", b"/dev/shmem/a", b"/dev/mem", b"", b"/\xff", b"/dev/zero"]))
            errno = draw(st.sampled_from([0, 0, 0, 22]))
            answers += names.pack(entry.vaddr, errno, bytes(8) + path + b"\0", "little")
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(SOME_BYTES) + data[at + draw(st.integers(0, 3)) :]
    return data, answers[: draw(st.integers(0, len(answers)))] if draw(st.integers(0, 9)) == 0 else answers


@needs_twins
@given(mapinfos(), st.sampled_from(["mapinfo", "pagedata"]), st.sampled_from([32, 64]))
@settings(max_examples=examples(500), deadline=None)
def test_any_entries_of_qnx_decode_alike(both_streams: tuple[bytes, bytes], stream: str, width: int):
    data, answers = both_streams
    system = replace(QNX, pointer_width=width)
    streams = {stream: data, "mapdebug": answers}
    by_twin, by_python = both(Capture(streams, system, 7, f"qnx-{stream}", "vmatlas-qnx", Query(), time.time()))
    assert by_twin == by_python


@needs_twins
def test_all_neighbours_above_a_program_of_qnx_decode_alike():
    """What is merged and what is the heap hangs on neighbours: each pair of these, in one piece or apart."""
    from vmatlas_qnx.layout import Entry, pack_entry

    text = Entry(0x8000000, 4096, 0x1000122, 4, 0, 7, 0)
    flags = (0x1000122, 0x1080302, 0x1080312, 0x80002, 0x1081302, 0x1000301)
    for one, other in product(product(flags, (0, 4096), (0, 2, 3, 4)), repeat=2):
        for inodes in ((1, 1), (1, 0), (6, 7)):
            data, position = pack_entry(text), text.vaddr + text.size
            for (bits, gap, dev), ino in zip((one, other), inodes, strict=True):
                data += pack_entry(Entry(position + gap, 4096, bits, dev, 0, ino, 0))
                position += gap + 4096
            capture = Capture({"pagedata": data}, QNX, 7, "qnx-pagedata", "vmatlas-qnx", Query(), 0.0)
            by_twin, by_python = both(capture)
            assert by_twin == by_python


@needs_twins
def test_the_twins_do_the_work_for_whatever_is_usual():
    """A twin that always gave up would pass all of the above."""
    from vmatlas_freebsd.decode import vmmap as freebsd
    from vmatlas_linux_ioctl import decode as ioctl
    from vmatlas_linux_procfs import decode as procfs
    from vmatlas_qnx import decode as qnx

    for file in CAPTURES:
        capture = Capture.load(file)
        for stream, data in capture.streams.items():
            if stream == "maps":
                assert len(procfs.NATIVE.decode_maps(data)) == len(vmatlas.replay(file))
            if stream == "smaps":
                assert len(procfs.NATIVE.decode_smaps(data)[0]) == len(vmatlas.replay(file))
            if stream == "vmmap":
                assert len(freebsd.NATIVE.decode_vmmap(data, capture.system.page_size)) == len(vmatlas.replay(file))
            if stream in ("mapinfo", "pagedata") and data:
                regions, entries = qnx.NATIVE.decode(data, array("Q"), 2**32, stream == "pagedata")
                assert (len(regions), len(entries)) == (len(vmatlas.replay(file)), len(data) // 48)
            if stream == "vmas" and capture.system.byte_order == "little" and not capture.query.build_ids:
                assert len(ioctl.NATIVE.decode(data)) == len(vmatlas.replay(file))


@pytest.mark.skipif(not compiled.twin("vmatlas.model._native").serves, reason="the model's twin does not serve here")
@pytest.mark.parametrize("residency", [False, True])
def test_regions_made_by_the_twin_are_those_that_python_makes(
    sleeper: int, residency: bool, monkeypatch: pytest.MonkeyPatch
):
    spaces = [vmatlas.snapshot(sleeper, residency=residency), *(vmatlas.replay(file) for file in CAPTURES)]
    by_twin = [list(space) for space in spaces]
    asked = [
        array("Q", [edge for region in space for edge in (region.start, region.end, region.end - 1)] + [0, 2**64 - 1])
        for space in spaces
    ]
    found = [space.columns.find_many(addresses) for space, addresses in zip(spaces, asked, strict=True)]
    monkeypatch.setattr(model_columns, "NATIVE", None)
    assert by_twin == [list(space) for space in spaces]
    assert found == [space.columns.find_many(addresses) for space, addresses in zip(spaces, asked, strict=True)]
    types = [[type(field) for region in regions for field in region] for regions in by_twin]
    assert types == [[type(field) for region in space for field in region] for space in spaces]
    assert all(type(region) is vmatlas.Region for regions in by_twin for region in regions)
