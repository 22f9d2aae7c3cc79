"""Downloads from a server on loopback that fails in each way a server fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import FetchError, NotRunnable
from vmatlas_images.download import download

from .conftest import Server


def test_a_file_arrives_and_its_progress_is_told(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = bytes(range(256)) * 4096
    told: list[tuple[str, int, int | None]] = []
    download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE, progress=lambda *what: told.append(what))
    assert (tmp_path / "f").read_bytes() == server.files["disk"]
    assert told[-1] == ("disk", 1 << 20, 1 << 20)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_a_passing_fault_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"all of it"
    server.refusals["disk"] = [503, 502]
    download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert (tmp_path / "f").read_bytes() == b"all of it"
    assert len(server.asked) == 3


def test_a_file_that_is_not_there_is_not_asked_for_twice(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert len(server.asked) == 1


def test_a_server_that_hangs_up_half_way_is_told_from_a_whole_file(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"x" * 100_000
    server.truncated["disk"] = 60_000
    with pytest.raises(FetchError, match=r"ended after 60000 of 100000 bytes \(after 4 attempts\)"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)


def test_a_trickle_is_ended_by_the_limit(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"x" * int(40 * PATIENCE)
    server.trickle["disk"] = 0.05
    started = time.monotonic()
    with pytest.raises(FetchError, match="not through within the time limit"):
        download(f"{server.url}/disk", tmp_path / "f", limit=1)
    assert time.monotonic() - started < PATIENCE


def test_a_mirror_that_falls_silent_in_the_middle_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmatlas_images.download._SILENCE", 1.0)
    monkeypatch.setattr("vmatlas_images.download._ATTEMPTS", 2)
    server.files["f"], server.stalled["f"] = b"x" * 100_000, 40_000
    with pytest.raises(FetchError, match=r"timed out \(after 2 attempts\)"):
        download(f"{server.url}/f", tmp_path / "f", limit=PATIENCE)
    assert server.asked == ["f", "f"]


def test_more_than_was_announced_is_refused(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"x" * 1000
    with pytest.raises(FetchError, match="longer than the 999 bytes"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE, most=999)


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="refused") as caught:
        download("http://127.0.0.1:9/disk", tmp_path / "f", limit=PATIENCE)
    assert "\n" not in str(caught.value)


def test_offline_asks_nobody(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMATLAS_OFFLINE", "1")
    with pytest.raises(NotRunnable, match="not in the cache, and VMATLAS_OFFLINE is set"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert server.asked == []


def test_a_full_disk_is_not_tried_again(server: Server) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    server.files["disk"] = b"x" * 100_000
    with pytest.raises(FetchError, match="No space left"):
        download(f"{server.url}/disk", Path("/dev/full"), limit=PATIENCE)
    assert len(server.asked) == 1
