"""Why nothing is read of a mapped file: each reason is told, by the API and by `vmatlas find`, in lines and JSON."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from errno import EACCES, EPERM
from pathlib import Path

import pytest
from click.testing import CliRunner

import vmatlas
import vmatlas.symbolizing
from vmatlas import NoSuchProcess, Region
from vmatlas.cli.program import program as command_line
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux import files

LIBC = ctypes.CDLL(None)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_ssize_t]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
NO_LINK = "no right to follow the links of /proc/PID/map_files"


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[Path]:
    """A file of a page that this process has mapped, and has not open."""
    path = tmp_path / "mapped.so"
    path.write_bytes(bytes(mmap.PAGESIZE))
    with path.open("rb") as file:
        address = LIBC.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), 0)
    yield path
    LIBC.munmap(address, mmap.PAGESIZE)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an ordinary user: map_files may not be followed."""
    led_to = files.ProcessFiles._led_to

    @contextlib.contextmanager
    def refusing(self: files.ProcessFiles, link: bytes) -> Iterator[int]:
        if b"map_files" in link:
            raise OSError(EPERM, os.strerror(EPERM), link)
        with led_to(self, link) as handle:
            yield handle

    monkeypatch.setattr(files.ProcessFiles, "_led_to", refusing)


def region_of(path: Path) -> Region:
    return next(each for each in vmatlas.snapshot() if each.label.startswith(str(path)))


def why(path: Path) -> str | None:
    with vmatlas.open(None) as process:
        return process.why_unread(region_of(path))


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, filename: bytes, error: int = EACCES) -> None:
    def refusing(*_: object) -> object:
        raise OSError(error, os.strerror(error), filename)

    monkeypatch.setattr(files, name, refusing)


def test_of_a_file_that_is_read_there_is_no_reason(mapped: Path) -> None:
    assert why(mapped) is None


def unlink(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.write_bytes(b"x")


@pytest.mark.usefixtures("no_links")
@pytest.mark.parametrize(("change", "reason"), [
    (unlink, "it has been unlinked"),
    (move, None),
    (replace, None),
])  # fmt: skip
def test_a_file_that_is_gone_from_its_path_takes_the_right_to_follow_its_link(
    mapped: Path, change: Callable[[Path], None], reason: str | None
) -> None:
    """One that was renamed is found at its new path, which the kernel tells."""
    change(mapped)
    region = next(each for each in vmatlas.snapshot() if str(mapped.parent) in each.label)
    with vmatlas.open(None) as process:
        told = process.why_unread(region)
        assert (told is None) == (reason is None), told
        if reason is not None:
            assert told is not None and told.startswith(NO_LINK) and told.endswith(reason)
        old = region._replace(path=str(mapped), deleted=False)
        gone = process.why_unread(old)
    expected = "another file is at its path" if change is replace else "no such file is at its path"
    assert gone is not None and gone.endswith(expected)


@pytest.mark.usefixtures("no_links")
def test_a_folder_that_may_not_be_entered_and_a_file_that_may_not_be_opened_are_told(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        refuse(patched, "_openat2", b"folder")
        assert "its path may not be looked up (Permission denied)" in str(why(mapped))
    opened = os.open

    def refusing(path: object, *arguments: object, **keywords: object) -> int:
        if isinstance(path, bytes) and path.startswith(b"/proc/self/fd/"):
            raise PermissionError(EACCES, os.strerror(EACCES), path)
        return opened(path, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    assert "it may not be read (Permission denied)" in str(why(mapped))


def test_a_sandbox_that_refuses_statx_is_told_and_not_taken_for_a_missing_file(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "_statx", b"", EPERM)
    assert why(mapped) is not None and "statx is refused here (Operation not permitted)" in str(why(mapped))
    told = CliRunner().invoke(command_line, ["find", "self", f"{region_of(mapped).start:x}"])
    assert f"no ELF-ADDRESS of {mapped}: " in told.output and "statx is refused here" in told.output


@pytest.mark.usefixtures("no_links")
def test_what_never_had_a_name_is_not_told_to_have_been_unlinked_and_its_size_is_told() -> None:
    descriptor = os.memfd_create("unread")
    os.truncate(descriptor, mmap.PAGESIZE)
    with mmap.mmap(descriptor, mmap.PAGESIZE) as kept, vmatlas.open(None) as process:
        os.close(descriptor)  # a mapping of Python's has one of its own
        region = next(each for each in process.snapshot() if "/memfd:unread" in each.label)
        assert process.file_size(region) == len(kept)
        told = process.why_unread(region)
        assert told is not None and told.startswith(NO_LINK) and "unlinked" not in told
        assert not region.deleted or told.endswith("it lies in no folder")


@pytest.mark.usefixtures("no_links")
@pytest.mark.parametrize("option", [[], ["--symbol"]])
def test_find_has_a_line_and_json_a_key_for_the_reason(mapped: Path, option: list[str]) -> None:
    address = f"{region_of(mapped).start:x}"
    mapped.unlink()
    shown = CliRunner().invoke(command_line, ["find", "self", address, *option])
    assert f"vmatlas: no ELF-ADDRESS of {mapped}: {NO_LINK}" in shown.output
    asked = CliRunner().invoke(command_line, ["find", "self", address, "--json", *option])
    (told,) = json.JSONDecoder().raw_decode(asked.output[asked.output.index("[") :])[0]
    assert told["elf_address"] is None and told["unread"].endswith("it has been unlinked")
    with vmatlas.open(None) as process, vmatlas.symbolizing.Symbolizer(process) as symbolizer:
        (place,) = symbolizer.look_up([int(address, 16)])
        assert place.region is not None and symbolizer.why_not(place.region) == told["unread"]
        assert symbolizer.why_no_lines(place) == told["unread"]


def test_of_a_process_that_has_ended_nothing_is_told_to_be_read() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as program:
        asked = vmatlas.open(program.pid)
        region = next(each for each in asked.snapshot() if each.path and each.kind is vmatlas.Kind.FILE)
        program.kill()
        program.wait(PATIENCE)
    with asked, contextlib.suppress(NoSuchProcess):
        assert asked.why_unread(region._replace(path="/nowhere/at-all")) is not None
