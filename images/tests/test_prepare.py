"""What QEMU boots from: read back by others than us where there is someone."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import itertools
import lzma
import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pycdlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycdlib.dr import DirectoryRecord

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, FetchError, ImagesError
from vmatlas_images.prepare import preparing
from vmatlas_images.prepare.preparing import _UNPACKERS, Entry, _unpack, cpio, kernel_in, modules, write_cd

from .conftest import deb

PACKERS = {".xz": lzma.compress, ".gz": gzip.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("suffix", PACKERS)
def test_an_image_is_unpacked_with_holes_where_it_is_empty(tmp_path: Path, suffix: str) -> None:
    packed, to = tmp_path / f"disk{suffix}", tmp_path / "disk"
    first, second = b"boot" + bytes(3 << 20) + b"data", os.urandom(100_000) + bytes(2 << 20)
    between = bytes(8) if suffix != ".bz2" else b""
    packed.write_bytes(PACKERS[suffix](first) + between + PACKERS[suffix](second))
    _unpack(_UNPACKERS[suffix], packed, to, PATIENCE)
    assert to.read_bytes() == first + second
    assert to.stat().st_blocks * 512 < len(first + second)


@pytest.mark.parametrize("suffix", PACKERS)
def test_what_unpacks_to_more_than_an_image_has_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    packed, to = tmp_path / f"disk{suffix}", tmp_path / "disk"
    monkeypatch.setattr("vmatlas_images.prepare.preparing._LARGEST_DISK", 8 << 20)
    monkeypatch.setattr("vmatlas_images.prepare.preparing._MOST_WRITTEN", 4 << 20)
    for content in (bytes(16 << 20), b"x" * (8 << 20)):
        packed.write_bytes(PACKERS[suffix](content))
        with pytest.raises(FetchError, match="unpacks to more than an image may have"):
            _unpack(_UNPACKERS[suffix], packed, to, PATIENCE)
        assert to.stat().st_blocks * 512 <= 6 << 20


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_damaged_image_is_told(tmp_path: Path, suffix: str) -> None:
    packed, to = tmp_path / f"disk{suffix}", tmp_path / "disk"
    whole = PACKERS[suffix](os.urandom(10_000))
    for damaged in (whole[:-5], whole[:100] + bytes(8) + whole[108:], b"no such thing"):
        packed.write_bytes(damaged)
        with pytest.raises(FetchError, match="cannot be unpacked"):
            _unpack(_UNPACKERS[suffix], packed, to, PATIENCE)


@pytest.mark.parametrize("suffix", PACKERS)
def test_an_image_of_streams_in_which_nothing_is_ends_at_the_limit_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    packed, to, clock = tmp_path / f"disk{suffix}", tmp_path / "disk", itertools.count()
    packed.write_bytes(PACKERS[suffix](b"") * 500 + PACKERS[suffix](b"x"))
    _unpack(_UNPACKERS[suffix], packed, to, PATIENCE)
    assert to.read_bytes() == b"x"
    monkeypatch.setattr("vmatlas_images.prepare.preparing.time.monotonic", lambda: float(next(clock)))
    with pytest.raises(ImagesError, match="not unpacked within 100 s"):
        _unpack(_UNPACKERS[suffix], packed, to, 100)


def test_an_image_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    packed = tmp_path / "disk.xz"
    # The dictionary's size stands in the header of the block (xz-file-format 5.3.1): 40 is 4 GiB, 28 is 64 MiB.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 20}]
    whole = bytearray(lzma.compress(b"x" * 100, filters=filters))
    assert whole[14:17] == b"\x21\x01\x10"
    whole[16] = 40
    whole[12 + 8 : 12 + 12] = zlib.crc32(whole[12:20]).to_bytes(4, "little")
    packed.write_bytes(whole)
    with pytest.raises(FetchError, match=r"[Mm]emory usage limit"):
        _unpack(_UNPACKERS[".xz"], packed, tmp_path / "disk", PATIENCE)


def test_cpio_is_what_the_cpio_tool_reads(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("no cpio to read the archive back with: apt-get install cpio")
    files = {"init": Entry(b"program", executable=True), "modules/00-a.ko": Entry(b"x" * 1001), "empty": Entry(b"")}
    archive = b"".join(cpio(files))
    done = subprocess.run(["cpio", "-itv", "--quiet"], input=archive, capture_output=True, check=True, timeout=PATIENCE)
    listed = {line.split()[-1]: line.split()[0] for line in done.stdout.decode().splitlines()}
    assert listed["init"] == "-rwxr-xr-x"
    assert listed["modules/00-a.ko"] == "-rw-r--r--"
    assert listed["dev/console"][0] == "c"
    assert {"dev", "proc", "modules", "empty"} <= listed.keys()
    subprocess.run(
        ["cpio", "-i", "--quiet", "init", "modules/*", "modules"],
        input=archive,
        cwd=tmp_path,
        check=True,
        timeout=PATIENCE,
    )
    assert (tmp_path / "modules/00-a.ko").read_bytes() == b"x" * 1001


@given(st.binary(max_size=64), st.text(alphabet="abc/-.", min_size=1, max_size=20).filter(lambda name: name[0] != "/"))
def test_every_cpio_entry_starts_at_a_multiple_of_four(content: bytes, name: str) -> None:
    """The newc format pads each header and each body to four bytes (initramfs buffer format)."""
    for entry in cpio({name: Entry(content)}):
        assert entry.startswith(b"070701")
        assert len(entry) % 4 == 0


def test_the_same_parts_give_the_same_bytes() -> None:
    files = {"init": Entry(b"program", executable=True), "a/b/c": Entry(b"1")}
    assert b"".join(cpio(files)) == b"".join(cpio(files))


def test_a_cd_has_long_names_and_programs_that_can_run(tmp_path: Path) -> None:
    write_cd(tmp_path / "cd", {"vmatlas-agent-with-a-long.name": Entry(b"program", executable=True), "r": Entry(b"t")})
    iso = pycdlib.PyCdlib()
    iso.open(str(tmp_path / "cd"))
    try:
        content = io.BytesIO()
        iso.get_file_from_iso_fp(content, rr_path="/vmatlas-agent-with-a-long.name")
        assert content.getvalue() == b"program"
        record = iso.get_record(rr_path="/vmatlas-agent-with-a-long.name")
        assert isinstance(record, DirectoryRecord)
        assert record.rock_ridge is not None
        assert record.rock_ridge.get_file_mode() & 0o777 == 0o555
    finally:
        iso.close()


def module(needs: str) -> bytes:
    """As much of a kernel module as tells what it needs."""
    return b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0intree=Y\0"


def test_modules_come_after_those_that_they_need(tmp_path: Path) -> None:
    folder = "lib/modules/6.1/kernel"
    content = deb(
        tmp_path, "linux-image-6.1", "6.1-1",
        {f"{folder}/fs/isofs.ko.xz": lzma.compress(module("cdrom")), f"{folder}/cdrom.ko": module(""),
         f"{folder}/virtio-console.ko": module("virtio_ring,virtio"), f"{folder}/virtio_ring.ko": module("virtio"),
         f"{folder}/virtio.ko": module(""), f"{folder}/unwanted.ko": module("")},
    )  # fmt: skip
    (tmp_path / "p.deb").write_bytes(content)
    found = modules(tmp_path / "p.deb", ["virtio_console", "isofs"])
    assert [name for name, _ in found] == ["virtio", "virtio_ring", "virtio_console", "cdrom", "isofs"]
    assert dict(found)["isofs"] == module("cdrom")
    with pytest.raises(ImagesError, match=r"holds no kernel module nosuch"):
        modules(tmp_path / "p.deb", ["isofs", "nosuch"])


def test_modules_in_a_circle_are_an_error_and_no_hang(tmp_path: Path) -> None:
    files = {"lib/modules/1/a.ko": module("b"), "lib/modules/1/b.ko": module("a")}
    (tmp_path / "p.deb").write_bytes(deb(tmp_path, "linux-image-1", "1", files))
    with pytest.raises(ImagesError, match="in a circle"):
        modules(tmp_path / "p.deb", ["a"])


def test_modules_in_a_long_chain_are_an_error_in_time(tmp_path: Path) -> None:
    files = {f"lib/modules/1/m{number}.ko": module(f"m{number + 1}") for number in range(100)}
    (tmp_path / "p.deb").write_bytes(deb(tmp_path, "linux-image-1", "1", files))
    with pytest.raises(ImagesError, match=r"need others, 32 times over: m32"):
        modules(tmp_path / "p.deb", ["m0"])


def test_what_unpacks_to_more_than_any_kernel_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_MOST_MEMBER", 1 << 20)
    packed = {"lib/modules/1/a.ko.xz": lzma.compress(bytes(2 << 20)), "lib/modules/1/b.ko.gz": b"none"}
    (tmp_path / "p.deb").write_bytes(deb(tmp_path, "linux-image-1", "1", {"boot/vmlinuz-1": bytes(2 << 20), **packed}))
    with pytest.raises(ImagesError, match=r"has 2,097,152 bytes, and 1,048,576 are the most"):
        kernel_in(tmp_path / "p.deb")
    with pytest.raises(ImagesError, match=r"a\.ko\.xz: unpacks to more than"):
        modules(tmp_path / "p.deb", ["a"])
    with pytest.raises(ImagesError, match=r"b\.ko\.gz: cannot be unpacked"):
        modules(tmp_path / "p.deb", ["b"])


@pytest.mark.parametrize("at", range(0, 100, 7))
def test_a_damaged_package_is_told_as_one(tmp_path: Path, at: int) -> None:
    """Whatever its readers raise."""
    whole = deb(tmp_path, "linux-image-1", "1", {"boot/vmlinuz-1": bytes(range(256)) * 64, "a": b"x" * 5000})
    cut = len(whole) * at // 100
    for middle in (None, bytes(40), b"\xff" * 40):
        rest = b"" if middle is None else middle + whole[cut + 40 :]
        (tmp_path / "p.deb").write_bytes(whole[:cut] + rest)
        with contextlib.suppress(ImagesError):
            kernel_in(tmp_path / "p.deb")


def test_a_package_without_a_kernel_says_so(tmp_path: Path) -> None:
    (tmp_path / "p.deb").write_bytes(deb(tmp_path, "linux-image-1", "1", {"boot/config-1": b"x"}))
    with pytest.raises(ImagesError, match="holds no kernel"):
        kernel_in(tmp_path / "p.deb")
    (tmp_path / "q.deb").write_bytes(b"!<arch>\nnot at all")
    with pytest.raises(ImagesError, match="no Debian package that can be read"):
        kernel_in(tmp_path / "q.deb")


def test_prepared_folders_are_found_again(cache: Cache) -> None:
    made = []
    for _ in range(2):
        cache.prepared("k", lambda folder: made.append((folder / "x").write_bytes(b"")), limit=PATIENCE)
    assert len(made) == 1
