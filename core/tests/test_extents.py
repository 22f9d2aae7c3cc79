"""A file of others is opened once: what it is, is told of what will be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

import vmatlas
from vmatlas import extents, remains
from vmatlas.extents import open_plain
from vmatlas.series import loading, reader
from vmatlas.series.writer import SeriesWriter
from vmatlas.writing import open_regular

READERS: list[Callable[[Path], object]] = [
    lambda path: open_plain(path, "a capture"),
    vmatlas.Capture.load,
    vmatlas.Series.open,
    loading.load,
    remains.load,
    remains.read,
    vmatlas.replay,
]


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_refused_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    """Also where it came since somebody looked."""
    os.mkfifo(pipe := tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "plain").write_bytes(b"")
    for path in (pipe, tmp_path / "device"):
        with pytest.raises(OSError, match="a pipe or a device, and no file that could be "):
            read(path)
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    plain = os.stat(tmp_path / "plain")
    with monkeypatch.context() as patched:
        patched.setattr(extents.os, "stat", lambda *_, **__: plain)
        with pytest.raises(OSError, match="a pipe or a device, and no file that could be "):
            read(pipe)


def captures(folder: Path) -> tuple[Path, Path]:
    """One of a process, and a series of it."""
    taken = vmatlas.capture()
    taken.save(single := folder / "single.vmatlas")
    with SeriesWriter(series := folder / "series.vmatlas") as writer:
        writer.add(taken)
    return single, series


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("load", [loading.load, remains.load])
def test_what_takes_the_place_of_a_file_that_is_open_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], vmatlas.Capture], first: int
) -> None:
    files = captures(tmp_path)
    opened: list[str] = []

    def open_and_replace(path: str | os.PathLike[str], could_be: str) -> BinaryIO:
        file = open_plain(path, could_be)
        opened.append(os.fspath(path))
        os.replace(files[1 - first], path)
        return file

    for module in (sys.modules["vmatlas.capture"], reader, loading, remains):
        monkeypatch.setattr(module, "open_plain", open_and_replace)
    assert load(files[first]).pid == os.getpid()
    assert len(opened) == 1


def test_what_came_where_a_series_is_to_be_written_is_told_of_what_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    monkeypatch.setattr("vmatlas.writing._check_regular", lambda *_: None)
    with pytest.raises(FileExistsError):
        open_regular(str(pipe), os.O_RDWR)
    with pytest.raises(OSError):  # nobody reads it
        open_regular(str(pipe), os.O_WRONLY | os.O_CREAT)
