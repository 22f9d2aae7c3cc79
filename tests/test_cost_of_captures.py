"""What a capture may cost: for every decoder, with its compiled twin and without, memory and time are bounded by what
the capture has in bytes, and by a stated maximum; whatever is wrong with it is said within that.

Each decoder is given streams that were made to cost, in a child that may not have more than the bound.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import resource
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

import vmatlas
from tests.costly import BASE, HERE, MULTIPLE, SIZE, STREAMS, base_of
from vmatlas import Capture, extents, registry
from vmatlas.capture import ALWAYS_READ, DENSEST, LARGEST, LARGEST_MANIFEST, MANIFEST, MOST_REGIONS, check_count
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import MalformedData, UsageError
from vmatlas.series import delta, frames, moments
from vmatlas.series.reader import Series

SECONDS = 200
"""For all streams of one decoder, in seconds of a processor; all of them took 20 of a slow one."""

PROGRAM = r"""
import contextlib, os, resource, sys, time
from dataclasses import replace
import vmatlas
from vmatlas import Capture, Query, registry
from vmatlas.errors import VmatlasError
from tests.costly import BASE, MULTIPLE, SIZE, STREAMS, base_of, costly

name = sys.argv[1]
backend = registry.backend(name)
base = base_of(name)
with contextlib.suppress(VmatlasError):
    backend.decode(base)  # what is made once for all
for stream in STREAMS[name]:
    main = STREAMS[name][0] if stream in ("links", "unsettled", "mounted", "mapdebug") else stream
    for shape, content in costly(stream):
        streams = {main: base.streams.get(main, b""), stream: content}
        capture = replace(base, streams=streams)
        pid = os.fork()
        if pid:
            status = os.waitpid(pid, 0)[1]
            if status:
                sys.exit(f"{stream}, {shape}: ended with {os.waitstatus_to_exitcode(status)}")
            continue
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        most = used + BASE + MULTIPLE * SIZE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        begun = time.process_time()
        try:
            told = f"{len(backend.decode(capture))} regions"
        except VmatlasError as error:
            told = f"{type(error).__name__}: {error}"[:100]
        except MemoryError:
            os.write(2, f"{stream}, {shape}: more than {MULTIPLE} times its size\n".encode())
            os._exit(1)
        peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmPeak")).split()[1]) * 1024
        print(f"{name} {stream} {shape}: {(peak - used) / SIZE:.1f} times, {time.process_time() - begun:.1f} s: {told}")
        sys.stdout.flush()
        os._exit(0)
"""


def test_every_decoder_is_held_to_it() -> None:
    assert set(STREAMS) == set(registry.entries(registry.BACKENDS))


@pytest.mark.parametrize("pure", ["", "1"], ids=["compiled", "python"])
@pytest.mark.parametrize("backend", STREAMS)
def test_no_stream_costs_more_than_a_small_multiple_of_its_size(backend: str, pure: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend],
        env=os.environ | {"VMATLAS_PURE": pure},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}"


# ---- the file ----


def zipped(path: Path, streams: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A capture of somebody who means harm."""
    base_of("linux-procfs").save(path)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["streams"] = {name: len(content) for name, content in streams.items()}
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in streams.items():
            archive.writestr(f"streams/{name}", content)
    return path


@pytest.mark.parametrize("line", [b"\0", b"00400000-00452000 r-xp 00000000 08:02 173521 /x\n"])
def test_small_file_does_not_unpack_to_much(tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "bomb.vmatlas", {"maps": line * (8 * ALWAYS_READ // len(line))})
    assert path.stat().st_size * DENSEST < 8 * ALWAYS_READ
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(MalformedData, match="unpacks to at most"):
        vmatlas.replay(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_cannot_be_unpacked_by_and_by_is_not_unpacked(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path / "other.vmatlas", {"maps": bytes(100)}, method)
    with pytest.raises(MalformedData, match="deflated, or stored"):
        vmatlas.replay(path)


def test_many_members_are_not_read_one_by_one(tmp_path: Path) -> None:
    path = zipped(tmp_path / "many.vmatlas", {f"s{number}": b"" for number in range(2000)})
    with pytest.raises(MalformedData, match="at most 1,000 members"):
        vmatlas.replay(path)


def test_member_that_hides_more_than_it_says_is_unpacked_no_further(tmp_path: Path) -> None:
    size = 3 * ALWAYS_READ
    path = zipped(tmp_path / "lie.vmatlas", {"maps": bytes(size)})
    whole = path.read_bytes().replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(whole)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedData):
            vmatlas.replay(path)
        assert tracemalloc.get_traced_memory()[1] < ALWAYS_READ
    finally:
        tracemalloc.stop()


def smaps(regions: int) -> bytes:
    keys = b"".join(b"%s: %8d kB\n" % (key, 0) for key in b"Size KernelPageSize MMUPageSize Rss Pss Pss_Dirty".split())
    keys += b"".join(b"Key%d: %15d kB\n" % (number, 0) for number in range(17)) + b"VmFlags: rd wr mr mw me ac sd\n"
    return b"".join(
        b"7f%010x-7f%010x rw-p 00000000 00:00 0 \n%s" % (n << 13, (n << 13) + 4096, keys) for n in range(regions)
    )


def test_map_of_100_000_regions_with_residency_is_saved_and_loaded(tmp_path: Path) -> None:
    saved = replace(base_of("linux-procfs"), streams={"smaps": smaps(100_000)})
    saved.save(tmp_path / "large.vmatlas")
    assert len(vmatlas.replay(tmp_path / "large.vmatlas")) == 100_000


def test_what_is_denser_than_a_reader_takes_is_saved_as_it_is(tmp_path: Path) -> None:
    line = b"%x-%x r-xp 00000000 08:02 173521 /" + b"x" * 8000 + b"\n"
    text = b"".join(line % (n << 13, (n << 13) + 4096) for n in range(1, 3000))
    assert len(zlib.compress(text)) * DENSEST < len(text) > ALWAYS_READ
    saved = replace(base_of("linux-procfs"), streams={"maps": text})
    saved.save(tmp_path / "dense.vmatlas")
    assert Capture.load(tmp_path / "dense.vmatlas") == saved
    assert [each.name for each in tmp_path.iterdir()] == ["dense.vmatlas"]


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    saved = replace(base_of("linux-procfs"), streams={"smaps": bytes(LARGEST + 1)})
    with pytest.raises(UsageError, match="may have 268,435,456"):
        saved.save(tmp_path / "large.vmatlas")
    for time in (1e300, float("nan"), -1e15):
        with pytest.raises(UsageError, match="in no calendar"):
            replace(base_of("linux-procfs"), time=time).save(tmp_path / "late.vmatlas")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59.999999+00:00", "0001-01-01T00:00:00+23:59", "2024-01-01"])
def test_time_at_the_edge_of_the_calendar_is_malformed(tmp_path: Path, time: str) -> None:
    path = zipped(tmp_path / "time.vmatlas", {"maps": b""})
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json")) | {"time": time}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("streams/maps", b"")
    with pytest.raises(MalformedData, match="of the years 2 to 9998"):
        vmatlas.replay(path)


def test_more_regions_than_any_process_has_are_not_taken_apart() -> None:
    check_count("maps", MOST_REGIONS)
    with pytest.raises(MalformedData, match="at most 1,250,000 regions, not 1,250,001"):
        check_count("maps", MOST_REGIONS + 1)


# ---- series ----


def series_of(frames_of: list[tuple[bytes, bytes]]) -> bytes:
    return frames.MAGIC + b"".join(frames.packed(kind, content) for kind, content in frames_of)


def streams_of(number: int, how: bytes) -> bytes:
    """So many streams of next to nothing."""
    return delta.number(number) + b"".join(how + delta.number(4) + b"%04d" % name + b"\0" for name in range(number))


def brought_by(manifest: bytes = b"", size: int = 0) -> tuple[bytes, bytes]:
    """A moment told by the one before, that brings fields of a manifest, and a stream of its own."""
    content = delta.number(len(packed := zlib.compress(manifest))) + packed if manifest else b"\0"
    told = zlib.compress(bytes(size))
    stream = b"\x02" + delta.number(4) + b"maps" + delta.number(size) + delta.number(len(told)) + told
    return frames.CHANGED, moments._TIMES.pack(2.0, 2.0) + content + delta.number(1) + stream


def crowded(number: int) -> list[bytes]:
    """Manifests of which Python makes much: fields that there are not, what is no value of a field, many of them."""
    most = LARGEST_MANIFEST - 99
    return [
        b'{"k%d":[%s0]}' % (number, b"{}," * (most // 3)),
        b'{"pid":[%s0]}' % (b"[]," * (most // 3)),
        b'{"query":{%s"x":0}}' % b"".join(b'"%x":0,' % each for each in range(most // 9)),
        b'{"%s":"%s"}' % (["name", "target", "time"][number % 3].encode(), "\U0001f5fa".encode() * (most // 4)),
    ]


@functools.cache
def costly_series() -> dict[str, bytes]:
    """By what is done to cost, with every kind of frame: moments by the thousand, steps of a delta, streams, bytes that
    are all the same, fields of manifests, who recorded."""
    base = moments.State.of(replace(base_of("linux-procfs"), streams={"maps": random.Random(7).randbytes(SIZE // 8)}))
    whole, times = moments.whole(base, 1.0), moments._TIMES.pack(2.0, 2.0)
    size = SIZE // 8
    steps = b"\0\x10\0" * (size // 16)
    deflate = zlib.compressobj(zdict=base.streams[0][1][: moments._DICTIONARY])
    told = deflate.compress(steps) + deflate.flush()
    changed = b"".join(map(delta.number, (0, 1, 1, 0, size, len(steps), len(told)))) + told
    empty = moments.whole(base._replace(streams=()), 1.0)[1][:-1]
    sessions = [(frames.SESSION, b'{"boot":null,"a":[' + b"{}," * 20_000 + b"0]}")] * 8
    return {
        "sessions": series_of([*sessions, whole]),
        "streams brought": series_of([whole, *[brought_by(size=ALWAYS_READ // 4)] * 5]),
        **{
            f"manifests of kind {kind}": series_of([whole, *[brought_by(crowded(n)[kind]) for n in range(12)]])
            for kind in range(4)
        },
        "many moments": series_of([whole, *[moments.same(base, float(n)) for n in range(3_000)]]),
        "many steps": series_of([whole, *[(b"D", times + changed)] * 2]),
        "many streams": series_of([(b"W", empty + streams_of(1000, b"\x03"))]),
        "too many streams": series_of([(b"W", empty + streams_of(5000, b"\x03"))]),
        "one byte": series_of([moments.whole(base._replace(streams=(("maps", bytes(SIZE)),)), 1.0)]),
    }


REFUSED = ["too many streams", "streams brought", *[f"manifests of kind {kind}" for kind in range(4)]]


@pytest.mark.parametrize("shape", ["many moments", "many steps", "many streams", "one byte", "sessions", *REFUSED])
def test_a_series_costs_no_more_than_a_small_multiple_of_its_size(shape: str) -> None:
    content = costly_series()[shape]
    most = ALWAYS_READ * 2 if shape == "streams brought" else 0  # what any capture may have
    error = None
    tracemalloc.start()
    try:
        try:
            series = Series.read(io.BytesIO(content))
            assert len(series.moments) == len(series)
            series.state(len(series) - 1)
        except MalformedData as caught:
            error = caught
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BASE + MULTIPLE * len(content) + most, f"{peak / len(content):.1f} times"
    assert (error is not None and error.offset > 0) == (shape in REFUSED), error


def test_what_moments_bring_is_counted_whatever_brings_it() -> None:
    """Each alone is within its bound, and all of them together are not."""
    base = moments.State.of(replace(base_of("linux-procfs"), streams={"maps": b""}))
    name = b'{"name":"%s"}' % (b"x" * (LARGEST_MANIFEST - 99))
    for one, bound in ((brought_by(size=ALWAYS_READ // 4), 4), (brought_by(name), moments.MOST_FIELDS // len(name))):
        series = Series.read(io.BytesIO(series_of([moments.whole(base, 1.0), *[one] * (bound + 1)])))
        assert series.state(bound).time == 2.0
        with pytest.raises(MalformedData, match="a moment that stands by itself, after so many") as caught:
            series.state(bound + 1)
        assert caught.value.offset == series._offsets[bound + 1]


# ---- holes: a file is worth what it occupies ----


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A file of which no byte is written; a file system that does not tell holes is no place for these tests."""
    path = tmp_path / "sparse.vmatlas"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    with open(path, "rb") as file:
        if extents.occupied(file, 1 << 30, 1 << 30):
            pytest.skip("this file system does not tell what of a file is a hole")
    return path


def base_frame() -> tuple[bytes, bytes]:
    return moments.whole(moments.State.of(base_of("linux-procfs")), 1.0)


def test_a_hole_behind_the_last_moment_is_not_read(sparse: Path) -> None:
    sparse.write_bytes(series_of([base_frame()]))
    os.truncate(sparse, 1 << 42)
    with Series.open(sparse) as series:
        assert len(series) == 1 and series.incomplete is not None


def test_zeros_without_an_end_are_no_moment_that_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST_FILE", 1 << 16)
    content = series_of([base_frame()])
    assert len(Series.read(io.BytesIO(content + bytes(1 << 16)))) == 1
    with pytest.raises(MalformedData, match="the head of a frame"):
        Series.read(io.BytesIO(content + bytes((1 << 16) + 1)))


@pytest.mark.parametrize("kind", [frames.WHOLE, frames.SAME, frames.CHANGED, frames.SESSION])
def test_frames_of_holes_are_read_for_what_the_file_occupies(sparse: Path, kind: bytes) -> None:
    size = ALWAYS_READ
    with open(sparse, "wb") as file:
        file.write(series_of([base_frame()]))
        for _ in range(3):
            file.write(frames.packed(kind, bytes(size))[:-size])
            file.seek(size, os.SEEK_CUR)
        file.truncate()
    with pytest.raises(MalformedData, match=r"the file occupies|who recorded") as caught:
        Series.open(sparse)
    assert caught.value.offset > 0


def test_a_capture_unpacks_to_what_it_occupies(tmp_path: Path, sparse: Path) -> None:
    path = zipped(tmp_path / "zeros.vmatlas", {"maps": bytes(2 * ALWAYS_READ)}, zipfile.ZIP_STORED)
    assert vmatlas.Capture.load(path)
    with open(path, "rb") as file, open(sparse, "wb") as copy:
        while piece := file.read(1 << 16):
            if piece.strip(b"\0"):
                copy.write(piece)
            else:
                copy.seek(len(piece), os.SEEK_CUR)
    assert sparse.read_bytes() == path.read_bytes()
    with pytest.raises(MalformedData, match="unpacks to at most 16,777,216 bytes"):
        vmatlas.Capture.load(sparse)


def test_a_list_of_members_without_an_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "members.vmatlas"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100):
            archive.writestr(f"{number:060000}", b"")
    with pytest.raises(MalformedData, match="a list of members of at most 1,048,576 bytes"):
        vmatlas.Capture.load(path)


@pytest.mark.parametrize("bits", [0, 63, 128, 2 * 10**10, 10**30])
def test_the_width_of_a_pointer_is_one_that_there_is(tmp_path: Path, bits: int) -> None:
    capture = base_of("qnx-mapinfo")
    for given in (
        replace(capture, pointer_width=bits),
        replace(capture, system=replace(capture.system, pointer_width=bits)),
    ):
        given.save(tmp_path / "wide.vmatlas")
        with pytest.raises(MalformedData, match="'pointer_width'"):
            vmatlas.replay(tmp_path / "wide.vmatlas")


@pytest.mark.parametrize("value", ["[" * 960 + "]" * 960, "9" * 30, "[1]", '{"a": 1}'])
def test_what_is_no_number_of_a_manifest_is_refused_in_a_line(tmp_path: Path, value: str) -> None:
    path = zipped(tmp_path / "pid.vmatlas", {"maps": b""})
    with zipfile.ZipFile(path) as archive:
        manifest = archive.read("manifest.json").decode()
    pid = json.loads(manifest)["pid"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest.replace(f'"pid": {pid}', f'"pid": {value}'))
        archive.writestr("streams/maps", b"")
    with pytest.raises(MalformedData) as caught:
        vmatlas.replay(path)
    assert ("'pid'" in str(caught.value) or "JSON" in str(caught.value)) and "\n" not in str(caught.value)


def test_the_manifest_that_is_written_has_the_fields_that_are_read_and_no_more_than_is_read(tmp_path: Path) -> None:
    capture = base_of("linux-procfs")
    manifest = replace(capture, query=replace(capture.query, totals=True)).manifest()
    assert set(manifest) == set(MANIFEST)
    for name in ("system", "query"):
        assert set(manifest[name]) == set(MANIFEST[name] or ())
    with pytest.raises(UsageError, match="of 131,072"):
        replace(capture, incomplete="x" * LARGEST_MANIFEST).save(tmp_path / "words.vmatlas")
