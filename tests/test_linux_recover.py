"""`recover`: the file behind a mapping is copied out as it is, and over nothing that is somebody's."""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmatlas
from vmatlas import UsageError, recover
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program
from vmatlas.symbols.table import Sections, reader_of
from vmatlas.systems.linux import host

CONTENT = bytes(range(256)) * 64


@contextmanager
def mapped(path: Path, content: bytes = CONTENT) -> Iterator[int]:
    """The address of a mapping of a new file."""
    path.write_bytes(content)
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    try:
        yield next(each.start for each in vmatlas.snapshot() if each.path == str(path))
    finally:
        memory.close()


def needs_map_files() -> None:
    try:
        entry = next(os.scandir("/proc/self/map_files"))
        os.stat(entry.path)
    except (OSError, StopIteration):
        pytest.skip("it takes the right to follow /proc/PID/map_files")


def test_file_that_lies_at_its_path_is_copied_for_its_owner_alone(tmp_path: Path) -> None:
    with mapped(tmp_path / "a") as address:
        found = recover(None, address + 100, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert (found.size, found.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert (found.build_id, found.changed, found.region.path) == (None, False, str(tmp_path / "a"))
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600


def test_deleted_file_is_copied_and_another_in_its_place_is_not(tmp_path: Path) -> None:
    needs_map_files()
    path = tmp_path / "a"
    with mapped(path) as address:
        path.unlink()
        path.write_bytes(b"another")
        found = recover(None, address, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert found.region.deleted


def test_deleted_file_without_the_right_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.LinuxProcess, "mapped_file", lambda *_: b"none")  # as if not allowed
    path = tmp_path / "a"
    with mapped(path) as address:
        path.unlink()
        with pytest.raises(vmatlas.AccessDenied, match="not to be had") as refused:
            recover(None, address, tmp_path / "copy")
    assert "CAP_CHECKPOINT_RESTORE" in (refused.value.hint or "")
    assert not (tmp_path / "copy").exists()


def test_program_has_its_build_id(tmp_path: Path) -> None:
    space = vmatlas.snapshot()
    library = next(each for each in space if "libc.so" in (each.path or "") or "/ld-" in (each.path or ""))
    found = recover(None, library.start, tmp_path / "copy")
    assert found.build_id == Sections(reader_of((tmp_path / "copy").read_bytes())).build_id
    assert (tmp_path / "copy").read_bytes() == Path(library.path or "").read_bytes()


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    with mapped(tmp_path / "a") as address:
        words = ["recover", "self", f"{address:x}", "-o"]
        assert program.run([*words, str(copy)]) == Exit.USAGE
        assert "--force" in capsys.readouterr().err
        assert copy.read_bytes() == b"mine"
        with pytest.raises(FileExistsError):
            recover(None, address, copy)
        assert program.run([*words, str(tmp_path / "folder"), "--force"]) == Exit.USAGE
        assert program.run([*words, str(copy), "--force", "--json"]) == Exit.OK
        told = json.loads(capsys.readouterr().out)
        assert (told["size"], told["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        assert copy.read_bytes() == CONTENT
    assert not list(tmp_path.glob(".vmatlas-*"))


def test_standard_output_is_no_file_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with mapped(tmp_path / "a") as address:
        assert program.run(["recover", "self", f"{address:x}", "-o", "-"]) == Exit.USAGE
        assert "-o ./-" in capsys.readouterr().err
        assert program.run(["recover", "self", f"{address:x}", "-o", "./-"]) == Exit.OK
    assert (tmp_path / "-").read_bytes() == CONTENT


def test_what_shows_no_file_is_refused(tmp_path: Path) -> None:
    stack = next(each for each in vmatlas.snapshot() if each.kind is vmatlas.Kind.STACK)
    with pytest.raises(UsageError, match=r"no file is mapped at .*\[stack\]"):
        recover(None, stack.start, tmp_path / "copy")
    with pytest.raises(UsageError, match="nothing is mapped at 0x10"):
        recover(None, 0x10, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_file_that_is_written_to_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "a", os.pread

    def read_and_grow(descriptor: int, size: int, offset: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        return read(descriptor, size, offset)

    with mapped(path) as address, vmatlas.open() as process:
        monkeypatch.setattr("vmatlas.recovering.os.pread", read_and_grow)
        found = recover(process, address, tmp_path / "copy")
    assert (found.changed, found.size) == (True, len(CONTENT))
    assert (tmp_path / "copy").read_bytes() == CONTENT


@contextmanager
def shared(size: int) -> Iterator[tuple[int, mmap.mmap]]:
    """The address of a shared mapping of a file in memory of so many bytes, and the mapping."""
    descriptor = os.memfd_create("vmatlas-shared")
    try:
        os.ftruncate(descriptor, size)
        memory = mmap.mmap(descriptor, min(size, PIECE * 2))
        memory[0] = 1
        name = "/memfd:vmatlas-shared"
        yield next(each.start for each in vmatlas.snapshot() if (each.path or "").startswith(name)), memory
        memory.close()
    finally:
        os.close(descriptor)


PIECE = 1 << 20


@pytest.mark.parametrize("stored_at", [0, PIECE], ids=["what was read", "what was not yet"])
def test_a_store_to_a_shared_mapping_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored_at: int
) -> None:
    """It moves no time stamp."""
    needs_map_files()
    read = os.pread
    with shared(2 * PIECE) as (address, memory):
        memory[PIECE] = 1
        before = bytes(memory)

        def read_and_store(descriptor: int, size: int, offset: int) -> bytes:
            piece = read(descriptor, size, offset)
            if offset == PIECE:
                memory[stored_at] = (memory[stored_at] + 1) % 256
            return piece

        monkeypatch.setattr("vmatlas.recovering.os.pread", read_and_store)
        found = recover(None, address, tmp_path / "copy")
        monkeypatch.undo()
        assert found.changed
        assert (tmp_path / "copy").read_bytes() == before
        assert not recover(None, address, tmp_path / "again").changed


def test_holes_stay_holes(tmp_path: Path) -> None:
    needs_map_files()
    size = 64 << 20
    with shared(size) as (address, memory):
        memory[PIECE + 5] = 7
        found = recover(None, address, tmp_path / "copy")
        copy = tmp_path / "copy"
        content = copy.read_bytes()
    assert (found.size, found.changed, len(content)) == (size, False, size)
    assert content[0] == 1 and content[PIECE + 5] == 7 and content.count(0) == size - 2
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert copy.stat().st_blocks * 512 < size // 2


def test_what_only_looks_large_fills_no_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_map_files()
    with shared((1 << 63) - 4096) as (address, _):
        assert program.run(["recover", "self", f"{address:x}", "-o", str(tmp_path / "copy")]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "of its 9,223,372,036,854,771,712 bytes only" in said and "cp --sparse=always" in said
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = 2, 1024

    with mapped(tmp_path / "a") as address:
        monkeypatch.setattr("vmatlas.recovering.os.statvfs", lambda _: Full)
        with pytest.raises(vmatlas.OperationFailed, match="more than the 2,048 bytes that are free"):
            recover(None, address, tmp_path / "copy")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_holes_that_are_filled_meanwhile_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mapped(tmp_path / "a") as address:
        monkeypatch.setattr("vmatlas.recovering.occupied", lambda *_: 10)
        monkeypatch.setattr("vmatlas.recovering.os.statvfs", lambda _: Small)
        with pytest.raises(vmatlas.OperationFailed, match="more and more room"):
            recover(None, address, tmp_path / "copy")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


class Small:
    f_bavail, f_frsize = 2, 4096


def test_empty_rest_of_a_file_that_was_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with mapped(path) as address:
        os.truncate(path, 0)
        found = recover(None, address, tmp_path / "copy")
    assert (found.size, found.sha256) == (0, hashlib.sha256().hexdigest())


def test_memory_with_a_path_and_no_file_is_told_as_such(tmp_path: Path) -> None:
    with open("/dev/zero", "r+b", buffering=0) as zero:
        memory = mmap.mmap(zero.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE)
    try:
        address = next(each.start for each in vmatlas.snapshot() if each.path == "/dev/zero")
        with pytest.raises(UsageError, match="/dev/zero gave memory of the process's own"):
            recover(None, address, tmp_path / "copy")
    finally:
        memory.close()
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(447, 0)  # memfd_secret: asm-generic/unistd.h, since Linux 5.14
    if descriptor < 0:
        pytest.skip(f"no secret memory here: {os.strerror(ctypes.get_errno())}")
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        memory = mmap.mmap(descriptor, mmap.PAGESIZE)
    except OSError as error:
        pytest.skip(f"no secret memory here: {error}")
    finally:
        os.close(descriptor)
    try:
        address = next(each.start for each in vmatlas.snapshot() if each.path == "/secretmem")
        with pytest.raises(UsageError, match="secret memory"):
            recover(None, address, tmp_path / "copy")
    finally:
        memory.close()
    assert not (tmp_path / "copy").exists()
