"""The cache: an entry is whole and checked, or absent; a killed run leaves nothing that the next does not sweep."""

from __future__ import annotations

import hashlib
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, ImagesError, VerificationError
from vmatlas_images.fetch import cache as caching
from vmatlas_images.fetch.cache import default_root

HOLDER = """
import sys, time
from pathlib import Path
from vmatlas_images.fetch.cache import Cache
cache = Cache(Path(sys.argv[1]))
with cache.in_use(), cache.lock("one", limit=300), cache.workspace() as space:
    (space / "half").write_bytes(b"x" * 100_000)
    print("ready", flush=True)
    time.sleep(3600)
"""


def holder(cache: Cache) -> subprocess.Popen[str]:
    """Another process that holds locks and a half-made file."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, cache.root], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=PATIENCE)


def entries(cache: Cache) -> list[Path]:
    return [path for name in ("files", "prepared", "records") for path in (cache.root / name).glob("*")]


def test_a_file_with_the_wrong_digest_is_not_kept(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"bad")
    with pytest.raises(VerificationError, match=r"mirror/f: sha256 is .* should be .*the file was not kept"):
        cache.add(tmp_path / "f", "sha256", hashlib.sha256(b"good").hexdigest(), origin="mirror/f")
    assert entries(cache) == []


def test_a_file_is_found_by_its_digest(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"good")
    digest = hashlib.sha512(b"good").hexdigest()
    assert cache.add(tmp_path / "f", "sha512", digest, origin="f") == cache.file("sha512", digest)
    assert cache.file("sha512", digest).read_bytes() == b"good"
    assert 0 < cache.size() < 100_000


def test_a_killed_run_leaves_no_entry_and_no_lock_and_is_swept(cache: Cache) -> None:
    process = holder(cache)
    end(process)
    assert entries(cache) == []
    with cache.lock("one", limit=PATIENCE), cache.workspace() as space:
        assert [path for path in (cache.root / "tmp").iterdir() if path != space] == []


def test_what_a_living_run_makes_is_not_swept(cache: Cache) -> None:
    process = holder(cache)
    with cache.workspace() as space:
        others = [path for path in (cache.root / "tmp").iterdir() if path != space]
        assert len(others) == 1
        assert (others[0] / "half").stat().st_size == 100_000
    end(process)


def test_a_lock_that_another_run_holds_has_a_limit(cache: Cache) -> None:
    process = holder(cache)
    with pytest.raises(ImagesError, match=r"another run holds .*/one"), cache.lock("one", limit=0.2):
        pass
    end(process)


def test_a_cache_in_use_is_not_emptied(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    process = holder(cache)
    os.kill(process.pid, signal.SIGSTOP)  # it does not even run, and still holds its lock
    lock = Cache.lock
    monkeypatch.setattr(
        Cache, "lock", lambda self, name, *, limit, shared=False: lock(self, name, limit=0.2, shared=shared)
    )
    with pytest.raises(ImagesError, match="another run holds"):
        cache.clean()
    end(process)
    assert cache.clean() >= 100_000
    assert not (cache.root / "tmp").exists()


def test_two_runs_at_once_prepare_once(cache: Cache) -> None:
    made: list[str] = []

    def make(folder: Path) -> None:
        made.append(threading.current_thread().name)
        (folder / "part").write_bytes(b"1")
        time.sleep(0.3)
        (folder / "other").write_bytes(b"2")

    places: list[Path] = []
    threads = [
        threading.Thread(target=lambda: places.append(Cache(cache.root).prepared("key", make, limit=PATIENCE)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(made) == 1
    assert {tuple(sorted(path.name for path in place.iterdir())) for place in places} == {("other", "part")}


def test_a_preparation_that_fails_leaves_nothing(cache: Cache) -> None:
    def make(folder: Path) -> None:
        (folder / "part").write_bytes(b"1")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        cache.prepared("key", make, limit=PATIENCE)
    assert entries(cache) == []
    assert list((cache.root / "tmp").iterdir()) == []


def test_a_damaged_record_is_no_record(cache: Cache) -> None:
    cache.write_record("r", {"a": "b"})
    found = cache.record("r")
    assert found is not None
    assert found[0] == {"a": "b"}
    (cache.root / "records" / "r.json").write_text('["not", "a mapping"]')
    assert cache.record("r") is None


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImagesError, match="cannot be written") as caught, Cache(tmp_path / "file").lock("x", limit=1):
        pass
    assert caught.value.hint == "VMATLAS_CACHE=FOLDER names another place"


# ---- a folder that others can write to ----


def put(folder: Path, content: bytes, under: bytes | None = None) -> str:
    """A file of somebody else's in the place of a digest."""
    digest = hashlib.sha256(content if under is None else under).hexdigest()
    (folder / "files").mkdir(parents=True, exist_ok=True)
    (folder / "files" / f"sha256-{digest}").write_bytes(content)
    return digest


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_what_others_put_into_a_shared_cache_is_copied_and_checked(shared: Path) -> None:
    good, evil = put(shared, b"good"), put(shared, b"evil", under=b"a kernel")
    cache = Cache(shared)
    assert cache.has("sha256", good)
    assert not cache.has("sha256", evil)
    place = cache.file("sha256", good)
    assert place.is_relative_to(shared / f"user-{os.geteuid()}")
    (shared / "files" / place.name).write_bytes(b"evil now")
    assert place.read_bytes() == b"good"


def test_records_and_prepared_things_of_others_are_not_believed(shared: Path) -> None:
    (shared / "records").mkdir()
    (shared / "records" / "name.json").write_text('{"digest": "of something evil"}')
    (shared / "prepared" / "key").mkdir(parents=True)
    (shared / "prepared" / "key" / "kernel").write_text("evil")
    cache = Cache(shared)
    assert cache.record("name") is None
    made = cache.prepared("key", lambda new: (new / "kernel").write_text("good"), limit=PATIENCE)
    assert (made / "kernel").read_text() == "good"
    again = Cache(shared).prepared("key", lambda _: pytest.fail("it was there"), limit=PATIENCE)
    assert again == made


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_is_not_taken_for_one(shared: Path, tmp_path: Path, kind: str) -> None:
    digest = put(tmp_path / "elsewhere", b"good")
    place = shared / "files" / f"sha256-{digest}"
    place.parent.mkdir()
    if kind == "link":
        place.symlink_to(tmp_path / "elsewhere" / "files" / place.name)
    else:
        os.mkfifo(place)
    assert not Cache(shared).has("sha256", digest)


def test_of_others_only_what_has_the_digest_is_copied(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy would take room, which a file with holes costs nobody who lays it there."""
    written: list[str] = []
    opened = Path.open

    def watched(path: Path, mode: str = "r", *rest: Any) -> Any:
        if mode == "xb":
            written.append(path.name)
        return opened(path, mode, *rest)

    monkeypatch.setattr(Path, "open", watched)
    evil, good = put(shared, b"", under=b"a kernel"), put(shared, b"good")
    os.truncate(shared / "files" / f"sha256-{evil}", 64 << 20)
    assert not Cache(shared).has("sha256", evil)
    monkeypatch.setattr(caching, "_COPY_SECONDS", -1.0)
    assert not Cache(shared).has("sha256", good)
    assert written == []
    monkeypatch.setattr(caching, "_COPY_SECONDS", PATIENCE)
    assert Cache(shared).has("sha256", good)
    assert written == ["file"]


def test_a_file_larger_than_any_download_is_not_copied(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put(shared, b"good" * (1 << 18))
    place = shared / "files" / f"sha256-{digest}"
    monkeypatch.setattr(caching, "_MOST_COPIED", 1000)
    assert not Cache(shared).has("sha256", digest)
    monkeypatch.undo()
    os.truncate(place, 1 << 40)
    assert not Cache(shared).has("sha256", digest)
    os.truncate(place, 4 << 18)
    assert Cache(shared).has("sha256", digest)


def treasure(folder: Path) -> Path:
    """A folder that looks like a cache, and is none."""
    (folder / "tmp" / "deep").mkdir(parents=True)
    (folder / "tmp" / "deep" / "a").write_text("precious")
    (folder / "files").mkdir()
    return folder


def use(cache: Cache) -> None:
    """Raises the `ImagesError` that every use of the cache raises; None where there is none."""
    uses: list[Callable[[], object]] = [
        lambda: cache.workspace().__enter__(),
        lambda: cache.lock("l", limit=PATIENCE).__enter__(),
        lambda: cache.write_record("r", {}),
        lambda: cache.record("r"),
        lambda: cache.has("sha256", "00"),
        lambda: cache.prepared("k", lambda _: None, limit=PATIENCE),
        lambda: cache.room("consoles"),
        cache.size,
        cache.clean,
    ]
    told: list[ImagesError] = []
    for each in uses:
        try:
            each()
        except ImagesError as error:
            told.append(error)
    if told:
        assert len(told) == len(uses)
        raise told[0]


def test_a_link_in_the_place_of_one_s_own_folder_is_not_followed(shared: Path, tmp_path: Path) -> None:
    precious = treasure(tmp_path / "precious")
    (shared / f"user-{os.geteuid()}").symlink_to(precious)
    with pytest.raises(ImagesError, match="can be changed by others"):
        use(Cache(shared))
    assert (precious / "tmp" / "deep" / "a").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a link to another user takes root")
def test_a_link_of_another_user_in_a_folder_that_others_write_to_is_not_followed(tmp_path: Path, shared: Path) -> None:
    precious = treasure(tmp_path / "precious")
    (shared / "cache").symlink_to(precious)
    assert Cache(shared / "cache").root == shared / "cache", "it is ours"
    os.chown(shared / "cache", 65534, 65534, follow_symlinks=False)
    for named in (shared / "cache", shared / "cache" / "below"):
        with pytest.raises(ImagesError, match="can be changed by others"):
            use(Cache(named))
    assert (precious / "tmp" / "deep" / "a").read_text() == "precious"


def test_a_folder_that_others_can_rename_is_not_the_cache(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    for named in (loose, loose / "cache"):
        with pytest.raises(ImagesError, match="can be changed by others"):
            use(Cache(named))
    loose.chmod(0o1777)
    use(Cache(loose / "cache"))
    assert Cache(loose / "cache").root == loose / "cache"


def test_a_folder_that_holds_something_else_is_not_emptied(tmp_path: Path) -> None:
    """As VMATLAS_CACHE=$HOME, where files, records and tmp may be one's own."""
    precious = treasure(tmp_path / "home")
    (precious / ".profile").write_text("")
    with pytest.raises(ImagesError, match=r"home is more than a cache, \.profile lies there: nothing was removed"):
        Cache(precious).clean()
    (precious / ".profile").unlink()
    assert (precious / "tmp" / "deep" / "a").read_text() == "precious"
    Cache(precious).clean()
    assert not (precious / "tmp").exists()


def test_what_stands_beside_half_made_things_is_not_swept(cache: Cache) -> None:
    with cache.workspace() as space:
        other = space.parent / "somebody's"
    other.mkdir()
    with cache.workspace():
        assert other.is_dir()


@pytest.mark.parametrize("room", ["files", "consoles", "tmp", "locks"])
def test_a_link_in_the_place_of_a_room_is_not_followed(tmp_path: Path, room: str) -> None:
    precious = treasure(tmp_path / "precious")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / room).symlink_to(precious / "tmp")
    use(Cache(tmp_path / "cache"))
    assert [each.name for each in (precious / "tmp").iterdir()] == ["deep"]


@pytest.mark.parametrize("room", ["files", "prepared", "records", "locks"])
def test_one_room_that_others_can_write_to_makes_the_cache_shared(tmp_path: Path, room: str) -> None:
    root = tmp_path / "cache"
    (root / room).mkdir(parents=True)
    assert Cache(root).root == root
    (root / room).chmod(0o777)
    assert Cache(root).root == root / f"user-{os.geteuid()}"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user takes root")
def test_folder_of_another_user_is_not_the_cache(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    root.mkdir()
    os.chown(root, 65534, 65534)
    assert Cache(root).root == root / "user-0"
    (root / "user-0").mkdir()
    os.chown(root / "user-0", 65534, 65534)
    with pytest.raises(ImagesError, match="can be changed by others"), Cache(root).in_use():
        pass


def test_cache_is_made_for_nobody_else_to_write_to(tmp_path: Path) -> None:
    root = tmp_path / "folders" / "on" / "the" / "way"
    before = os.umask(0)
    try:
        with Cache(root).in_use(), Cache(root).workspace():
            pass
        Cache(root).write_record("name", {})
    finally:
        os.umask(before)
    assert Cache(root).root == root
    assert Cache(root).record("name") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user takes root")
def test_by_default_the_cache_is_in_no_home_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sudo may leave HOME: who is at home there could put something else in the place of the cache."""
    for name in ("VMATLAS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    listed = pwd.struct_passwd(("root", "x", 0, 0, "", "/of/the/list", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: listed)
    assert default_root() == tmp_path / ".cache" / "vmatlas"
    os.chown(tmp_path, 65534, 65534)
    assert default_root() == Path("/of/the/list/.cache/vmatlas")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == Path("/of/the/list/.cache/vmatlas"), "as sudo -E leaves it"


def test_a_place_that_nobody_knows_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMATLAS_CACHE", "~no-such-user/cache")
    with pytest.raises(ImagesError, match="VMATLAS_CACHE is '~no-such-user/cache': "):
        Cache()
    monkeypatch.delenv("VMATLAS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert default_root() == tmp_path / ".cache" / "vmatlas", "a relative one is to be ignored"
