"""What the kernel itself filters, and build ids: against a linear search of the whole map, and against readelf."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from tests.conftest import Program, offered
from vmatlas import AddressSpace, Filter, Protection, Region
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import THOROUGH
from vmatlas.systems.linux.procmap import QueryFlags
from vmatlas_linux_ioctl.question import kernel_flags

FILTERS = [
    Filter(
        given=Protection((1 if read else 0) | (2 if write else 0) | (4 if execute else 0)),
        shared=shared or None,
        file_backed=file_backed or None,
    )
    for read, write, execute, shared, file_backed in itertools.product([False, True], repeat=5)
]
"""Each of the kernel's five conditions alone, all combinations, and none."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    offered("linux-ioctl")
    program = Program("layout", tmp_path_factory.mktemp("filters"))
    json.loads(program.hear())
    yield program
    program.end()


@pytest.fixture(scope="module")
def whole(program: Program) -> AddressSpace:
    """By the text: a source that filters nothing."""
    return vmatlas.snapshot(program.pid, backend="linux-procfs").where("!vsyscall")


def passes(region: Region, where: Filter) -> bool:
    """What the conditions mean, said anew."""
    return (
        (region.protection & where.given) == where.given
        and (not where.shared or region.permissions.endswith("s"))
        and (not where.file_backed or region.inode is not None)
    )


def starts(regions: Iterator[Region] | list[Region]) -> list[str]:
    return [hex(region.start) for region in regions]


def test_all_combinations_are_different_questions() -> None:
    assert len({kernel_flags(where) for where in FILTERS}) == len(FILTERS) == 32
    assert QueryFlags(0x2F) == kernel_flags(FILTERS[-1])


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_kernel_s_own_answer_is_that_of_a_linear_filter(program: Program, whole: AddressSpace, where: Filter) -> None:
    """Below the API: the bytes that the kernel gave, unfiltered by us."""
    with vmatlas.open(program.pid, backend="linux-ioctl") as process:
        backend = process.choice(vmatlas.Query(where=where)).backend
        capture = process._process.acquire(backend, vmatlas.Query(where=where))
        assert starts(list(backend.decode(capture))) == starts([region for region in whole if passes(region, where)])


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_filtered_snapshot_and_iterate_are_those_of_a_linear_filter(
    program: Program, whole: AddressSpace, backend: str, where: Filter
) -> None:
    wanted = starts([region for region in whole if passes(region, where)])
    space = vmatlas.snapshot(program.pid, backend=backend, where=where).where("!vsyscall")
    assert starts(list(space)) == wanted
    found = [r for r in vmatlas.iterate(program.pid, backend=backend, where=where) if r.start < 2**63]
    assert starts(found) == wanted


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_filtered_find_is_that_of_a_linear_search(
    program: Program, whole: AddressSpace, backend: str, where: Filter
) -> None:
    regions = list(whole)
    addresses = [address for region in regions for address in (region.start - 1, region.start, region.end - 1)]
    with vmatlas.open(program.pid, backend=backend) as process:
        for address in addresses[:: (1 if backend == "linux-ioctl" else 7) * (1 if THOROUGH else 5)]:
            covering = [r for r in regions if r.covers(address) and passes(r, where)]
            above = [r for r in regions if r.end > address and passes(r, where)]
            found = process.find(address, where=where)
            assert starts([found] if found else []) == starts(covering)
            following = process.find(address, where=where, or_next=True)
            assert starts([following] if following and following.start < 2**63 else []) == starts(above[:1])


def test_letters_that_this_kernel_does_not_write_are_refused_with_those_that_there_are(program: Program) -> None:
    for ask in (
        lambda: vmatlas.snapshot(program.pid, where="flag=zz"),
        lambda: vmatlas.find(program.pid, 0, or_next=True, where="flag=zz"),
        lambda: list(vmatlas.iterate(program.pid, flag="zz")),
    ):
        with pytest.raises(vmatlas.UsageError, match="unknown flag 'zz'") as caught:
            ask()
        assert "locked" in (caught.value.hint or "")


def build_id_by_readelf(path: str) -> bytes | None:
    done = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, timeout=PATIENCE, check=False)
    found = re.search(r"Build ID: ([0-9a-f]+)", done.stdout)
    return bytes.fromhex(found[1]) if found else None


def test_build_ids_are_those_that_readelf_tells(program: Program) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf (package binutils) is missing")
    space = vmatlas.snapshot(program.pid, build_ids=True)
    assert space.backend == "linux-ioctl"
    paths = {region.path: region.build_id for region in space if region.path and ".so" in region.path}
    assert len(paths) > 3
    for path, build_id in paths.items():
        assert build_id == build_id_by_readelf(path)
    assert any(paths.values())
    assert not any(region.build_id for region in space if region.path is None and region.name != "[vdso]")


def test_build_ids_are_not_asked_for_unless_wanted(program: Program) -> None:
    assert not any(region.build_id for region in vmatlas.snapshot(program.pid, backend="linux-ioctl"))


# Names that the ioctl does not tell


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[int]:
    """Where this process has a file mapped, shared, whose path has more than 4,095 bytes; it ends in /deep.dat."""
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):
        os.mkdir("d" * 250, dir_fd=folder)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    file = os.open("deep.dat", os.O_RDWR | os.O_CREAT, dir_fd=folder)
    os.ftruncate(file, mmap.PAGESIZE)
    with mmap.mmap(file, mmap.PAGESIZE):
        told = Path("/proc/self/maps").read_bytes().splitlines()
        yield next(int(line.split(b"-")[0], 16) for line in told if line.endswith(b"/deep.dat"))
    os.unlink("deep.dat", dir_fd=folder)
    os.close(file)
    os.close(folder)


NAMED = {
    "path=*/deep.dat,shared": True,
    "deep.dat,shared,file": True,
    "rw-s,path=*deep.dat": True,
    "!deep.dat,shared": False,
    "deep.dat,kind=file,shared": True,
    "path=*/deep.dat": True,
}


@pytest.mark.parametrize("where", NAMED)
def test_a_word_about_names_means_the_same_whoever_is_asked_first(deep: int, where: str) -> None:
    offered("linux-ioctl")
    with vmatlas.open() as process:
        space = process.snapshot(where=where)
        assert (deep in [region.start for region in space]) is NAMED[where]
        assert (deep in [region.start for region in process.iterate(where=where)]) is NAMED[where]
        found = process.find(deep, where=where), process.find(deep - 1, where=where, or_next=True)
        assert [region is not None and region.start == deep for region in found] == [NAMED[where]] * 2
    assert space.origin.backend == "linux-procfs" and space.incomplete is None


def test_whether_such_a_file_is_deleted_is_asked_of_who_tells_its_name(tmp_path: Path, deep: int) -> None:
    offered("linux-ioctl")
    assert deep not in [region.start for region in vmatlas.snapshot(where="deleted,shared")]
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):
        folder, above = os.open("d" * 250, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.unlink("deep.dat", dir_fd=folder)
    os.close(os.open("deep.dat", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)
    assert deep in [region.start for region in vmatlas.snapshot(where="deleted,shared")]


def test_what_lacks_names_says_so_where_it_was_named_itself(deep: int) -> None:
    offered("linux-ioctl")
    space = vmatlas.snapshot(where="deep.dat,shared", backend="linux-ioctl")
    assert not len(space) and space.incomplete is not None and "lack theirs" in space.incomplete
    plain = vmatlas.snapshot(where="shared,file")
    assert plain.origin.backend == "linux-ioctl", "no word is about a name"
