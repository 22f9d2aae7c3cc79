"""Each kind of mapping is read back as it was made: bounds, protection, sharing, file, kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import vmatlas
from vmatlas import Kind, MalformedData, OperationFailed, Protection, Region, registry
from vmatlas.backend import Feature, Target
from vmatlas.conformance.ground import ALIGNED, NONE, READ, READ_EXECUTE, Ground, Placed, own_path
from vmatlas.target.agent import READ_WRITE, AgentTarget, MapFlag, MapObject, required

PLAIN = own_path(b"plain")
NAMES = {
    "plain": PLAIN,
    "space": own_path(b"with  spaces "),
    "newline": own_path(b"a\nnewline"),
    "backslash": own_path(b"\\012 is no newline"),
    "not UTF-8": own_path(b"\xff\xfe"),
    "like a deleted one": own_path(b"x (deleted)"),
}


class Files:
    """Files on the target, made as they are asked for."""

    def __init__(self, target: AgentTarget) -> None:
        self.agent = target.agent
        self.made: list[bytes] = []

    def make(self, name: str) -> bytes:
        """A file under one of NAMES; its path. Skips the test when the target's file system has no such names."""
        path = NAMES[name]
        # A byte is enough: a map tells of pages beyond a file's end too.
        written = self.agent.write_file(path, b"x", new=True)
        if written.errno_name in ("EINVAL", "EILSEQ") and path != PLAIN:
            pytest.skip(f"the target's file system refuses such a name: {name} ({written.errno_name})")
        assert written.ok, f"writing {path!r} failed on the target: {written.errno_name}"
        self.made.append(path)
        return path


@pytest.fixture
def files(agent_target: AgentTarget) -> Iterator[Files]:
    """Makes named files on the target; they are removed afterwards."""
    made = Files(agent_target)
    yield made
    for path in made.made:
        made.agent.unlink(path)


def _read(ground: Ground, placed: Placed, reader: Target, backend: str) -> Region:
    """The region that was laid, read by snapshot and by find, which must agree."""
    with vmatlas.open(ground.worker.pid, target=reader, backend=backend) as process:
        laid = ground.within(list(process.snapshot()))
        assert [(region.start, region.end) for region in laid] == [(placed.start, placed.end)]
        assert process.find(placed.start) == laid[0]
        return laid[0]


def _assert_named(region: Region, name: bytes, backend: str) -> None:
    """The file has its name. A backend that does not know every name may have none, and never another."""
    if Feature.FILE_NAME in registry.backend(backend).features:
        assert region.path_bytes == name
    else:
        assert region.path_bytes in (None, name)


def _assert_shared_memory(region: Region, backend: str) -> None:
    """It is shared memory; to a backend that cannot tell it from private memory it is anonymous, and never private."""
    if Feature.ANONYMOUS_SHARING in registry.backend(backend).features:
        assert (region.shared, region.kind) == (True, Kind.SHARED_MEMORY)
    else:
        assert (region.shared, region.kind) in ((True, Kind.SHARED_MEMORY), (None, Kind.ANONYMOUS))


@pytest.mark.parametrize("protection", [NONE, READ, READ_WRITE, READ_EXECUTE, READ_WRITE | Protection.EXECUTE])
def test_private_anonymous_memory(ground: Ground, reader: Target, backend: str, protection: Protection) -> None:
    region = _read(ground, ground.lay(4, 3, protection=protection), reader, backend)
    assert region.protection == protection
    if Feature.ANONYMOUS_SHARING in registry.backend(backend).features:
        assert region.shared is False
    else:
        assert region.shared in (False, None)
    assert region.kind is (Kind.GUARD if protection == NONE else Kind.ANONYMOUS)
    assert (region.path, region.offset, region.inode, region.device) == (None, None, None, None)


def test_shared_anonymous_memory(ground: Ground, reader: Target, backend: str) -> None:
    region = _read(ground, ground.lay(4, 3, flags=MapFlag.SHARED), reader, backend)
    assert region.protection == READ_WRITE
    _assert_shared_memory(region, backend)


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_file_at_an_offset(ground: Ground, files: Files, reader: Target, backend: str, shared: bool) -> None:
    files.make("plain")
    flags = MapFlag.SHARED if shared else MapFlag.NONE
    placed = ground.lay(4, 2, protection=READ, flags=flags, source=MapObject.FILE, name=PLAIN, offset=3 * ground.page)
    region = _read(ground, placed, reader, backend)
    assert (region.protection, region.shared, region.kind) == (READ, shared, Kind.FILE)
    told = registry.backend(backend).features
    assert region.offset == (3 * ground.page if Feature.OFFSET in told else None)
    _assert_named(region, PLAIN, backend)
    assert not region.deleted
    assert region.inode == (files.agent.stat_file(PLAIN).detail if Feature.FILE_ID in told else None)
    assert (region.device is not None) == (Feature.FILE_ID in told)


@pytest.mark.parametrize("name", NAMES)
def test_file_name(
    ground: Ground,
    files: Files,
    reader: Target,
    backend: str,
    name: str,
    record_property: Callable[[str, object], None],
) -> None:
    placed = ground.lay(4, 2, protection=READ, source=MapObject.FILE, name=files.make(name))
    if b"\n" in NAMES[name] and Feature.ANY_FILE_NAME not in registry.backend(backend).features:
        try:
            region = _read(ground, placed, reader, backend)
        except MalformedData as refused:
            record_property("refused", str(refused))
            return
    else:
        region = _read(ground, placed, reader, backend)
    _assert_named(region, NAMES[name], backend)
    assert not region.deleted


@pytest.mark.parametrize("name", ["plain", "space", "newline"])
def test_deleted_file(ground: Ground, files: Files, reader: Target, backend: str, name: str) -> None:
    placed = ground.lay(4, 2, protection=READ, source=MapObject.FILE, name=files.make(name))
    inode = files.agent.stat_file(NAMES[name]).detail
    assert files.agent.unlink(NAMES[name]).ok
    region = _read(ground, placed, reader, backend)
    told = registry.backend(backend).features
    if Feature.DELETED in told:
        assert (region.path_bytes, region.deleted) == (NAMES[name], True)
        assert region.inode == (inode if Feature.FILE_ID in told else None)
    else:  # it may have lost what it was known by; nothing else is told in its place
        assert not region.deleted
        assert region.path_bytes in (None, NAMES[name])
        assert region.inode in (None, inode)


def _kinds_of(source: MapObject, backend: str) -> tuple[Kind, ...]:
    """What an object without a name may be told as: a file too where the system keeps it as one."""
    if source is not MapObject.SHARED_MEMORY or Feature.NAMELESS_SHARING in registry.backend(backend).features:
        return (Kind.SHARED_MEMORY,)
    return (Kind.SHARED_MEMORY, Kind.FILE)


@pytest.mark.parametrize("source", [MapObject.MEMORY, MapObject.SHARED_MEMORY, MapObject.SYSTEM_V])
def test_shared_memory_objects(ground: Ground, reader: Target, backend: str, source: MapObject) -> None:
    name = b"/" + own_path(b"shared").rpartition(b"/")[2] if source is MapObject.SHARED_MEMORY else b"vmatlas-memory"
    try:
        placed = ground.lay(ALIGNED >> 12, 4, flags=MapFlag.SHARED, source=source, name=name)
    except OperationFailed as refused:
        if refused.errno_name != "ENOSYS":
            raise
        pytest.skip(f"the target's system has no memory of the sort {source.name} (ENOSYS)")
    region = _read(ground, placed, reader, backend)
    assert (region.protection, region.shared) == (READ_WRITE, True)
    assert region.kind in _kinds_of(source, backend)
    # It has no name, or none any more.
    assert region.deleted == (Feature.DELETED in registry.backend(backend).features)
    if source is MapObject.MEMORY:
        if Feature.FILE_NAME in registry.backend(backend).features:
            assert region.path is not None
        assert region.path is None or region.path.endswith("vmatlas-memory")


def test_memory_across_a_fork_is_told_right_on_both_sides(
    agent_target: AgentTarget, reader: Target, backend: str
) -> None:
    """Private memory is known as such from then on, whatever the kernel told of it before."""
    ground = Ground(agent_target.agent.itself)
    private = ground.lay(4, 3)
    shared = ground.lay(16, 3, flags=MapFlag.SHARED)
    memory = ground.lay(32, 3, flags=MapFlag.SHARED, source=MapObject.SHARED_MEMORY, name=b"/vmatlas-forked")
    laid = [private, shared, memory]
    try:
        for placed in laid:
            required(ground.worker.touch(placed.start, placed.size, write=1), "touching")
        child = agent_target.agent.spawn()
        try:
            required(child.touch(private.start, private.size, write=2), "touching in the child")
            for pid in (ground.worker.pid, child.pid):
                space = vmatlas.snapshot(pid, target=reader, backend=backend)
                found = [region for placed in laid if (region := space.find(placed.start)) is not None]
                told = [(region.shared, region.kind) for region in found]
                assert told[0] == (False, Kind.ANONYMOUS)
                assert told[2][0] is True
                assert told[2][1] in _kinds_of(MapObject.SHARED_MEMORY, backend)
                _assert_shared_memory(found[1], backend)
        finally:
            child.end()
            child.reap()
    finally:
        for placed in laid:
            required(ground.worker.unmap(placed.start, placed.size), "unmapping")
