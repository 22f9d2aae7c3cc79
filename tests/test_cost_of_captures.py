"""What a capture may cost: for every decoder, with its compiled twin and without, memory and time are bounded by what
the capture has in bytes, and by a stated maximum; whatever is wrong with it is said within that.

Each decoder is given streams that were made to cost, in a child that may not have more than the bound.
"""

from __future__ import annotations

import contextlib
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
from vmatlas import Capture, registry
from vmatlas.capture import ALWAYS_READ, DENSEST, LARGEST, MOST_REGIONS, check_count
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


def costly_series() -> dict[str, bytes]:
    """By what is done to cost: moments by the thousand, steps of a delta, streams, bytes that are all the same."""
    base = moments.State.of(replace(base_of("linux-procfs"), streams={"maps": random.Random(7).randbytes(SIZE // 8)}))
    whole, times = moments.whole(base, 1.0), moments._TIMES.pack(2.0, 2.0)
    size = SIZE // 8
    steps = b"\0\x10\0" * (size // 16)
    deflate = zlib.compressobj(zdict=base.streams[0][1][: moments._DICTIONARY])
    told = deflate.compress(steps) + deflate.flush()
    changed = b"".join(map(delta.number, (0, 1, 1, 0, size, len(steps), len(told)))) + told
    empty = moments.whole(base._replace(streams=()), 1.0)[1][:-1]
    return {
        "many moments": series_of([whole, *[moments.same(base, float(n)) for n in range(3_000)]]),
        "many steps": series_of([whole, *[(b"D", times + changed)] * 2]),
        "many streams": series_of([(b"W", empty + streams_of(1000, b"\x03"))]),
        "too many streams": series_of([(b"W", empty + streams_of(5000, b"\x03"))]),
        "one byte": series_of([moments.whole(base._replace(streams=(("maps", bytes(SIZE)),)), 1.0)]),
    }


@pytest.mark.parametrize("shape", ["many moments", "many steps", "many streams", "too many streams", "one byte"])
def test_a_series_costs_no_more_than_a_small_multiple_of_its_size(shape: str) -> None:
    content = costly_series()[shape]
    tracemalloc.start()
    try:
        with contextlib.suppress(MalformedData):
            series = Series.read(io.BytesIO(content))
            assert len(series.moments) == len(series)
            series.state(len(series) - 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BASE + MULTIPLE * len(content), f"{peak / len(content):.1f} times"
