"""Files that we write: whole or not at all, and not where a link of somebody else's leads, whoever of us writes."""

from __future__ import annotations

import os

import pytest

from vmatlas.capture import Capture
from vmatlas.model import Query
from vmatlas.series.writer import SeriesWriter
from vmatlas.writing import make_folder, write_whole

from .strategies import LINUX

ONE = Capture(
    streams={"maps": b""},
    system=LINUX,
    pid=7,
    backend="linux-procfs",
    distribution="vmatlas-linux-procfs",
    query=Query(),
    time=0.0,
    start_time=99,
)
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files and links of somebody else's")


def write(path, **options):
    write_whole(str(path), b"new", **options)


def begin_series(path):
    SeriesWriter(path, replace=True).close()


def go_on_with_series(path):
    SeriesWriter.appending(path).close()


WRITERS = [
    pytest.param(write, id="whole"),
    pytest.param(begin_series, id="series"),
    pytest.param(go_on_with_series, id="series, on"),
]


def test_nothing_is_replaced_that_came_meanwhile(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("somebody's only copy")
    with pytest.raises(FileExistsError, match="/x'"):
        write(path, replace=False)
    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(FileExistsError, match="/x'"):
        write(path, replace=False)
    assert path.read_text() == "somebody's only copy"
    path.unlink()
    write(path, replace=False)  # on a file system without links
    monkeypatch.undo()
    write(tmp_path / "y", replace=False)
    assert path.read_bytes() == (tmp_path / "y").read_bytes() == b"new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x", "y"]


@pytest.mark.parametrize(("call", "replace"), [("replace", True), ("unlink", False)])
def test_an_interruption_behind_the_last_step_is_an_interruption(tmp_path, monkeypatch, call, replace):
    """What was begun under a temporary name is not looked for once more."""
    done = getattr(os, call)

    def interrupted(*arguments, **more):
        done(*arguments, **more)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(str(tmp_path / "x"), b"new", replace=replace)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("x", b"new")]


def no_links(*_, **__):
    raise PermissionError(1, "no links here")


@ROOT_ALONE
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(("mode", "owner"), [(0o1777, 0), (0o755, 65534)], ids=["everybody's folder", "their folder"])
def test_a_link_that_somebody_else_laid_is_not_followed(tmp_path, mode, owner, writer):
    """The kernel's fs.protected_symlinks is not asked when one looks the way up oneself, nor ever in their folders."""
    shared, own = tmp_path / "shared", tmp_path / "own"
    own.mkdir()
    with SeriesWriter(own / "precious") as series:
        series.add(ONE, 0.0)
    precious = (own / "precious").read_bytes()
    shared.mkdir()
    shared.chmod(mode)
    os.chown(shared, owner, owner)
    for name, leads_to in (("there", own / "precious"), ("nowhere", own / "new"), ("by another", shared / "there")):
        (shared / name).symlink_to(leads_to)
    os.lchown(shared / "there", 65534, 65534)
    os.lchown(shared / "nowhere", 65534, 65534)
    for name in ("there", "nowhere", "by another"):
        with pytest.raises(PermissionError, match="link of somebody else's") as refused:
            writer(shared / name)
        assert refused.value.filename == str(shared / name)
    assert [each.name for each in own.iterdir()] == ["precious"] and (own / "precious").read_bytes() == precious
    os.lchown(shared / "there", 0, 0)
    inode = (own / "precious").stat().st_ino
    writer(shared / "by another")
    assert (shared / "there").is_symlink() and (inode == (own / "precious").stat().st_ino) == (writer is not write)
    (shared / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        writer(shared / "round")


@ROOT_ALONE
def test_a_link_of_somebody_else_s_is_not_followed_by_what_replaces_nothing(tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "new")
    os.lchown(tmp_path / "nowhere", 65534, 65534)
    with pytest.raises(PermissionError, match="link of somebody else's"):
        write(tmp_path / "nowhere", replace=False)
    with pytest.raises(PermissionError, match="link of somebody else's"):
        SeriesWriter(tmp_path / "nowhere")
    assert not (tmp_path / "new").exists()


@ROOT_ALONE
@pytest.mark.parametrize("writer", [*WRITERS, pytest.param(lambda path: make_folder(f"{path}/"), id="folder")])
def test_a_link_of_somebody_else_s_on_the_way_is_not_followed_either(tmp_path, writer):
    (tmp_path / "precious").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "precious")
    os.lchown(tmp_path / "out", 65534, 65534)
    (tmp_path / "by us").symlink_to("out/../out")
    for way in ("out/x", "by us/x", "out/../out/x", "precious/../out/x"):
        with pytest.raises(PermissionError, match="link of somebody else's") as refused:
            writer(tmp_path / way)
        assert refused.value.filename.rstrip("/") == str(tmp_path / way)
    assert not any((tmp_path / "precious").iterdir())


def test_a_path_leads_where_the_kernel_says(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to("../c")
    (tmp_path / "straight").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    for way in (
        "1",
        "./2",
        "../3",
        "b/../4",
        f"{tmp_path}//a/./b/5",
        "up/6",
        "up/../7",
        "../straight/8",
        "/proc/self/cwd/9",
    ):
        write(way)
        with open(way, "rb") as file:  # the kernel's way to what was made
            assert file.read() == b"new"
    assert not [each for each in tmp_path.rglob("*") if each.name.endswith(".part")]
    for way, error in (
        ("none/x", FileNotFoundError),
        ("1/x", NotADirectoryError),
        ("", FileExistsError),
        ("b/", FileExistsError),
    ):
        with pytest.raises(error):
            write(way)


def test_folders_are_made_as_far_as_they_are_wanting(tmp_path):
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "there").mkdir()
    for _ in range(2):
        make_folder(str(tmp_path / "link" / "a" / "b"))
    assert (tmp_path / "there" / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        make_folder(str(tmp_path / "file"))


def test_a_folder_that_another_makes_meanwhile_is_one(tmp_path, monkeypatch):
    real = os.mkdir

    def outrun(*arguments, **options):
        real(*arguments, **options)
        real(*arguments, **options)

    monkeypatch.setattr(os, "mkdir", outrun)
    make_folder(f"{tmp_path}/one/two")
    assert (tmp_path / "one" / "two").is_dir()


@ROOT_ALONE
@pytest.mark.parametrize("writer", [begin_series, go_on_with_series])
def test_nothing_is_written_into_a_file_of_somebody_else_s(tmp_path, writer):
    """A whole file is another file, of the same name: a series is written in place."""
    begin_series(tmp_path / "theirs")
    os.chown(tmp_path / "theirs", 65534, 65534)
    before = (tmp_path / "theirs").read_bytes()
    with pytest.raises(PermissionError, match="somebody else's"):
        writer(tmp_path / "theirs")
    assert (tmp_path / "theirs").read_bytes() == before


def test_the_longest_name_can_be_written_and_nothing_stays_beside_it(tmp_path):
    for _ in range(2):
        write(tmp_path / ("x" * 255))
    assert [len(each.name) for each in tmp_path.iterdir()] == [255]


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_no_regular_file_is_left_alone(tmp_path, writer):
    for make, name in ((os.mkfifo, "pipe"), (os.mkdir, "folder")):
        make(tmp_path / name)
        with pytest.raises(FileExistsError, match=f"no regular file.*{name}"):
            writer(tmp_path / name)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o177])
def test_a_new_file_is_for_its_owner_alone_and_one_that_is_replaced_for_whom_it_was(tmp_path, request, umask):
    """A map tells where everything of a process lies."""
    before = os.umask(umask)
    request.addfinalizer(lambda: os.umask(before))
    for number, make in enumerate((write, begin_series)):
        make(file := tmp_path / f"{number}")
        assert file.stat().st_mode & 0o777 == 0o600 & ~umask
    write(file := tmp_path / "kept")
    file.chmod(0o644)
    write(file)
    assert file.stat().st_mode & 0o777 == 0o644


@ROOT_ALONE
def test_nobody_inherits_rights_by_a_file_that_is_replaced(tmp_path, request):
    file = tmp_path / "theirs"
    before = os.umask(0o022)
    request.addfinalizer(lambda: os.umask(before))
    for theirs, ours in ((0o6777, 0o600), (0o400, 0o400), (0o666, 0o600)):
        file.write_bytes(b"")
        os.chown(file, 65534, 65534)
        file.chmod(theirs)
        write(file)
        assert (file.stat().st_mode & 0o7777, file.stat().st_uid) == (ours, 0)
        file.unlink()
    file.write_bytes(b"")
    file.chmod(0o4755)
    write(file)
    assert file.stat().st_mode & 0o7777 == 0o755


def test_a_series_is_not_written_into_a_file_of_several_names(tmp_path):
    """The other name may lie where only root may write: the kernel lets others make such where it is told to."""
    with SeriesWriter(tmp_path / "precious") as series:
        series.add(ONE, 0.0)
    before = (tmp_path / "precious").read_bytes()
    os.link(tmp_path / "precious", tmp_path / "other")
    for open_it in (
        lambda: SeriesWriter(tmp_path / "other", replace=True),
        lambda: SeriesWriter.appending(tmp_path / "other"),
    ):
        with pytest.raises(PermissionError, match="2 names") as refused:
            open_it()
        assert refused.value.filename == str(tmp_path / "other")
    assert (tmp_path / "precious").read_bytes() == before
    (tmp_path / "precious").unlink()
    with SeriesWriter.appending(tmp_path / "other") as series:
        series.add(ONE, 1.0)
