"""Names in the maps of real processes that mislead: objects that never had one, other roots, other mount namespaces."""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vmatlas
from tests.conftest import MAY_ASK_WHAT_IS_MAPPED, Program, Start, as_root
from vmatlas import Kind, Region, registry
from vmatlas.analysis import audit
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux import LINUX
from vmatlas.systems.linux.files import holds_objects, open_mapped
from vmatlas.target.local import LOCAL


def told(program: Program) -> dict[str, int]:
    answer: dict[str, int] = json.loads(program.hear())
    if "missing" in answer:
        pytest.skip(f"not to be had here: {answer['missing']}")
    return answer


def place(answer: dict[str, int], label: str) -> int:
    if isinstance(answer[label], str):
        pytest.skip(f"{label} is not to be had here: {answer[label]}")
    return answer[label]


GONE = ("deleted-file", "nameless-file", "replaced-file")
"""What is said of files that are no longer what lies on the disk."""


def findings(pid: int) -> list[tuple[str, Region, str]]:
    """What `vmatlas audit` finds, with the first region and the explanation; where a file lies is not asked here."""
    with vmatlas.open(pid) as process:
        found = audit(process.snapshot(), process.evidence())
    told = [(each.id, each.region, each.explanation) for each in found if each.id != "code-in-temporary-folder"]
    return [(which, region, why) for which, region, why in told if region is not None]


def in_all_ways(pid: int, start: int) -> list[Region]:
    """The region at an address by each backend, by each way, and from captures."""
    regions = []
    for backend in ("linux-procfs", "linux-ioctl"):
        if not LOCAL.offers(registry.backend(backend)):
            continue
        with vmatlas.open(pid, backend=backend) as process:
            regions += [process.snapshot().find(start), process.find(start)]
            regions += [vmatlas.replay(process.capture()).find(start)]
    regions.append(vmatlas.snapshot(pid, residency=True).find(start))
    assert all(region is not None for region in regions)
    return [region for region in regions if region is not None]


@pytest.mark.parametrize(
    ("label", "kind", "found"),
    [
        ("ring", Kind.SHARED_MEMORY, None),
        ("secret", Kind.SHARED_MEMORY, None),
        ("nameless", Kind.FILE, "nameless-file"),
        ("shm-shared", Kind.SHARED_MEMORY, None),
        ("shm-private", Kind.FILE, "deleted-file"),
    ],
)
def test_what_never_had_a_name_is_told_from_a_deleted_file(
    start: Start, tmp_path: Path, label: str, kind: Kind, found: str | None
) -> None:
    program = start("names", "objects", tmp_path)
    address = place(told(program), label)
    assert {region.kind for region in in_all_ways(program.pid, address)} == {kind}
    suspicions = [which for which, region, _ in findings(program.pid) if region.start == address]
    assert suspicions == ([] if found is None else [found])


def test_text_of_objects_without_a_file_is_told_without_the_machine() -> None:
    """What other people's texts hold has no mount table beside it."""
    text = (
        b"7f5a10000000-7f5a10002000 rw-s 00000000 00:11 90210                      /[aio] (deleted)\n"
        b"7f5a10002000-7f5a10004000 rw-s 00000000 00:0c 90211                      /secretmem (deleted)\n"
        b"7f5a10004000-7f5a10008000 rw-s 00000000 00:05 90212                      /drm mm object (deleted)\n"
        b"7f5a10008000-7f5a10010000 rw-s 00000000 00:10 90213                      /[kvm-gmem] (deleted)\n"
        b"7f5a10010000-7f5a10020000 rw-s 00000000 00:20 90214                      /[of 2031] (deleted)\n"
    )
    capture = vmatlas.capture(os.getpid())
    space = vmatlas.replay(capture_of(capture, text))
    memory = Kind.SHARED_MEMORY
    assert [region.kind for region in space] == [memory, memory, Kind.DEVICE, memory, memory]
    assert not audit(space)
    in_the_root = b"7f5a20000000-7f5a20001000 r-xp 00000000 00:20 4                      /usr/bin/server\n"
    found = audit(vmatlas.replay(capture_of(capture, text + in_the_root)))
    assert [region.inode for each in found for region in each.regions] == [90214]


def capture_of(capture: vmatlas.Capture, text: bytes) -> vmatlas.Capture:
    return replace(capture, streams={"maps": text}, backend="linux-procfs", distribution="vmatlas-linux-procfs")


def test_lower_part_of_a_stack_that_was_split_is_a_stack_and_no_finding(start: Start, backend: str) -> None:
    program = start("names", "locked-stack")
    lower = place(told(program), "lower")
    region = vmatlas.snapshot(program.pid, residency=True).find(lower)
    assert region is not None
    assert (region.kind, region.name) == (Kind.STACK, None)
    assert not [which for which, *_ in findings(program.pid) if which == "stack-with-no-guard"]
    assert not [each for each in audit(vmatlas.snapshot(program.pid)) if each.id == "stack-with-no-guard"]
    command = [sys.executable, "-m", "vmatlas", "audit", str(program.pid), "--backend", backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.count("stack-with-no-guard")) == (0, 0), done.stderr


def test_file_replaced_in_another_root_is_found_there(start: Start, tmp_path: Path) -> None:
    as_root("to chroot")
    program = start("names", "chrooted", tmp_path)
    told(program)
    found = [each for each in findings(program.pid) if str(each[1].path).endswith("/a.so")]
    assert [which for which, *_ in found] == ["replaced-file"]
    assert str((tmp_path / "a.so").stat().st_ino) in found[0][2]


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("hide", "deleted-file"),
        ("link", "replaced-file"),  # by the link itself: it is not followed, whose root it may mean
        ("folder", "deleted-file"),
        ("root", "deleted-file"),
        ("detached", "deleted-file"),
    ],
)
def test_process_does_not_choose_what_its_deleted_library_is_told_to_be(
    start: Start, tmp_path: Path, how: str, found: str
) -> None:
    program = start("names", how, tmp_path)
    inode = told(program)["inode"]
    suspicions = [each for each in findings(program.pid) if each[1].inode == inode]
    assert [which for which, *_ in suspicions] == [found]
    told_of = {"folder": "; a folder stands there now", "link": "a symbolic link stands there now"}
    assert told_of.get(how, "") in suspicions[0][2]
    for region in in_all_ways(program.pid, suspicions[0][1].start):
        assert region.kind is Kind.FILE
        assert region.deleted or (region.deleted is None and not MAY_ASK_WHAT_IS_MAPPED)


@pytest.mark.parametrize("name", ["memfd:x", "SYSV0badf00d", "anon_hugepage", "dev/zero", "dev/ashmem/x"])
def test_unlinked_file_does_not_pass_for_memory_by_its_name_where_its_mount_is_gone(
    start: Start, tmp_path: Path, name: str
) -> None:
    program = start("names", "detached", tmp_path, name)
    inode = told(program)["inode"]
    suspicions = [each for each in findings(program.pid) if each[1].inode == inode]
    assert [which for which, *_ in suspicions] == ["deleted-file"]
    for region in in_all_ways(program.pid, suspicions[0][1].start):
        assert (region.kind, region.label) == (Kind.FILE, f"/{name} (deleted)")
        assert region.deleted is (True if MAY_ASK_WHAT_IS_MAPPED else None)


@pytest.mark.parametrize("name", ["x (deleted)", "folder/x (deleted)"])
def test_whether_a_file_was_unlinked_is_not_told_where_its_name_leads_nowhere_now(
    start: Start, tmp_path: Path, name: str
) -> None:
    program = start("names", "whole", tmp_path, name)
    inode = told(program)["inode"]
    region = next(each for each in vmatlas.snapshot(program.pid) if each.inode == inode and "(deleted)" in each.label)
    for each in in_all_ways(program.pid, region.start):
        assert (each.kind, each.deleted, each.path) == (Kind.FILE, None, f"/{name}")
        assert each.label == f"/{name}"
    assert inode not in {each.inode for each in vmatlas.snapshot(program.pid, where="deleted")}
    assert json.loads(vmatlas.snapshot(program.pid).to_json())[0]["deleted"] is False
    assert [which for which, region, _ in findings(program.pid) if region.inode == inode] == ["deleted-file"]


def test_agent_does_not_take_such_a_file_for_memory_either(start: Start, tmp_path: Path, binary: Path) -> None:
    if os.sysconf("SC_PAGESIZE") >= 16384:
        pytest.skip("a page of this kernel might be one of huge pages elsewhere")
    (tmp_path / "mounted").mkdir()
    program = start("names", "detached", tmp_path / "mounted", "memfd:x")
    inode = told(program)["inode"]
    with vmatlas.connect(f"agent:{binary}") as board:
        for name in ("linux-procfs", "linux-ioctl"):
            if not board.offers(registry.backend(name)):
                continue
            with vmatlas.open(program.pid, target=board, backend=name) as process:
                region = next(each for each in process.snapshot() if each.inode == inode and "memfd" in each.label)
                assert (region.kind, region.label) == (Kind.FILE, "/memfd:x (deleted)")
                assert region.deleted is (True if MAY_ASK_WHAT_IS_MAPPED else None)


def test_memory_of_huge_pages_of_any_size_is_no_file() -> None:
    """Each size has a device of its own."""
    for flags in (0, 4, *(4 | logarithm << 26 for logarithm in range(14, 35))):
        try:
            descriptor = os.memfd_create("huge", os.MFD_CLOEXEC | flags)
        except OSError:
            continue  # this kernel has no pages of that size
        device = os.fstat(descriptor).st_dev
        os.close(descriptor)
        assert holds_objects((os.major(device), os.minor(device)))
    assert not holds_objects((8, 1))


def test_file_of_a_folder_that_is_gone_is_not_looked_up_in_the_root(start: Start, tmp_path: Path) -> None:
    """A mount that was taken away lazily shows its files as if they lay in the root: "/lib.so"."""
    program = start("names", "detached", tmp_path)
    inode = told(program)["inode"]
    with vmatlas.open(program.pid) as process:
        lookup = process.file_lookup()
        assert lookup is not None
        region = next(each for each in process.snapshot() if each.inode == inode and "lib.so" in each.label)
        assert region.label == "/lib.so (deleted)"
        assert lookup(region._replace(path="/etc")).inode is None
        assert process.elf_address(region.start) is None
        why = str(process.why_unread(region))
        assert "may not answer (mounted elsewhere)" in why or (os.geteuid() and "no right to follow the links" in why)


def content(pid: int, region: Region) -> bytes | None:
    process = LINUX.open(pid, None)
    descriptor = open_mapped(process, region)
    process.close()
    if descriptor is None:
        return None
    with open(descriptor, "rb") as file:
        return file.read()


def test_being_short_of_descriptors_says_nothing_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is called as the kernel calls one that was unlinked is told from it by looking."""

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    file = tmp_path / "code (deleted)"
    file.write_bytes(b"code")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ):
        assert not next(region for region in vmatlas.snapshot() if region.path == str(file)).deleted
        monkeypatch.setattr("vmatlas.systems.linux.LinuxProcess.mapped_file", lambda *_: b"none")
        monkeypatch.setattr("vmatlas.systems.linux.files._openat2", none_left)
        with pytest.raises(vmatlas.OperationFailed, match="files of a process cannot be looked at") as failed:
            vmatlas.snapshot()
        assert failed.value.errno_name == "EMFILE"


def test_own_program_that_was_deleted_is_read_without_further_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmatlas.systems.linux.LinuxProcess.mapped_file", lambda *_: b"none")
    sleep = shutil.which("sleep")
    if sleep is None:
        pytest.skip("there is no sleep here")
    program = tmp_path / "program"
    shutil.copy(sleep, program)
    expected = program.read_bytes()
    child = subprocess.Popen(["sleep", str(PATIENCE)], executable=program)
    try:
        while not (found := [each for each in vmatlas.snapshot(child.pid) if each.path == str(program)]):
            assert child.poll() is None  # exec is told to be done before the memory is made
        region = found[0]
        if os.stat(program).st_dev != os.makedev(*region.device or (0, 0)):
            pytest.skip("stat(2) tells another device than the map on this file system")
        program.unlink()
        program.write_bytes(b"another")
        assert content(child.pid, region._replace(deleted=True)) == expected
        assert content(child.pid, region._replace(deleted=True, inode=(region.inode or 0) + 1)) is None
    finally:
        child.kill()
        child.wait(PATIENCE)


def test_mapped_file_is_opened_by_what_it_is_not_by_what_stands_at_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    child = subprocess.Popen(
        [sys.executable, "-c", "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1);"
         "print('ready', flush=True); sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdout.readline()

        def region() -> Region:
            return next(each for each in vmatlas.snapshot(child.pid) if each.path == str(path))

        assert content(child.pid, region()) == b"old"
        path.unlink()
        path.write_bytes(b"new")
        assert region().deleted
        assert content(child.pid, region()) == (b"old" if os.geteuid() == 0 else None)
        assert content(child.pid, region()._replace(deleted=False)) is None  # another file of its name
    finally:
        child.stdin.close()
        child.wait(PATIENCE)
        child.stdout.close()
