"""Each kind of mapping is read back as it was made: bounds, protection, sharing, file, kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import vmatlas
from vmatlas import Kind, Protection, Region
from vmatlas.backend import Target
from vmatlas.conformance.ground import NONE, READ, READ_EXECUTE, Ground, Placed
from vmatlas.target.agent import READ_WRITE, AgentTarget, MapFlag, MapObject

FOLDER = b"/tmp/"
PLAIN = FOLDER + b"vmatlas-plain"
NAMES = {
    "plain": PLAIN,
    "space": FOLDER + b"vmatlas with  spaces ",
    "newline": FOLDER + b"vmatlas\nnewline",
    "backslash": FOLDER + b"vmatlas\\012 is no newline",
    "not UTF-8": FOLDER + b"vmatlas-\xff\xfe",
    "like a deleted one": FOLDER + b"vmatlas (deleted)",
}


@pytest.fixture
def files(agent_target: AgentTarget) -> Iterator[AgentTarget]:
    """The named files on the target. A byte is enough: a map tells of pages beyond a file's end too."""
    for path in NAMES.values():
        assert agent_target.agent.write_file(path, b"x").ok
    yield agent_target
    for path in NAMES.values():
        agent_target.agent.unlink(path)


def _read(ground: Ground, placed: Placed, reader: Target, backend: str) -> Region:
    """The region that was laid, read by snapshot and by find, which must agree."""
    with vmatlas.open(ground.worker.pid, target=reader, backend=backend) as process:
        laid = ground.within(list(process.snapshot()))
        assert [(region.start, region.end) for region in laid] == [(placed.start, placed.end)]
        assert process.find(placed.start) == laid[0]
        return laid[0]


@pytest.mark.parametrize("protection", [NONE, READ, READ_WRITE, READ_EXECUTE, READ_WRITE | Protection.EXECUTE])
def test_private_anonymous_memory(ground: Ground, reader: Target, backend: str, protection: Protection) -> None:
    region = _read(ground, ground.lay(4, 3, protection=protection), reader, backend)
    assert region.protection == protection
    assert region.shared is False
    assert region.kind is (Kind.GUARD if protection == NONE else Kind.ANONYMOUS)
    assert (region.path, region.offset, region.inode, region.device) == (None, None, None, None)


def test_shared_anonymous_memory(ground: Ground, reader: Target, backend: str) -> None:
    region = _read(ground, ground.lay(4, 3, flags=MapFlag.SHARED), reader, backend)
    assert (region.protection, region.shared, region.kind) == (READ_WRITE, True, Kind.SHARED_MEMORY)


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_file_at_an_offset(ground: Ground, files: AgentTarget, reader: Target, backend: str, shared: bool) -> None:
    flags = MapFlag.SHARED if shared else MapFlag.NONE
    placed = ground.lay(4, 2, protection=READ, flags=flags, source=MapObject.FILE, name=PLAIN, offset=3 * ground.page)
    region = _read(ground, placed, reader, backend)
    assert (region.protection, region.shared, region.kind) == (READ, shared, Kind.FILE)
    assert region.offset == 3 * ground.page
    assert region.path_bytes == PLAIN
    assert not region.deleted
    assert region.inode == files.agent.stat_file(PLAIN).detail
    assert region.device is not None


@pytest.mark.parametrize("name", NAMES)
def test_file_name(ground: Ground, files: AgentTarget, reader: Target, backend: str, name: str) -> None:
    placed = ground.lay(4, 2, protection=READ, source=MapObject.FILE, name=NAMES[name])
    region = _read(ground, placed, reader, backend)
    assert region.path_bytes == NAMES[name]
    assert not region.deleted


@pytest.mark.parametrize("name", ["plain", "space", "newline"])
def test_deleted_file(ground: Ground, files: AgentTarget, reader: Target, backend: str, name: str) -> None:
    placed = ground.lay(4, 2, protection=READ, source=MapObject.FILE, name=NAMES[name])
    inode = files.agent.stat_file(NAMES[name]).detail
    assert files.agent.unlink(NAMES[name]).ok
    region = _read(ground, placed, reader, backend)
    assert (region.path_bytes, region.deleted, region.inode) == (NAMES[name], True, inode)


@pytest.mark.parametrize("source", [MapObject.MEMORY, MapObject.SHARED_MEMORY, MapObject.SYSTEM_V])
def test_shared_memory_objects(ground: Ground, reader: Target, backend: str, source: MapObject) -> None:
    name = b"/vmatlas-shared" if source is MapObject.SHARED_MEMORY else b"vmatlas-memory"
    placed = ground.lay(16, 4, flags=MapFlag.SHARED, source=source, name=name)
    region = _read(ground, placed, reader, backend)
    assert (region.protection, region.shared, region.kind) == (READ_WRITE, True, Kind.SHARED_MEMORY)
    assert region.deleted  # it has no name, or none any more
    if source is MapObject.MEMORY:
        assert region.path == "/memfd:vmatlas-memory"
