"""The agent's own memory and its children's: each layout made is read back from /proc by this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vmatlas.model import Protection
from vmatlas.target.agent import Agent, AgentProcess, AgentRefused, MapFlag, MapObject, WatchMode

NONE, READ, RW, RX = Protection(0), Protection(1), Protection(3), Protection(5)
LINE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) \S+ \d+ *(.*)$")


class Seen:
    """One line of /proc/PID/maps."""

    def __init__(self, line: str) -> None:
        match = LINE.match(line)
        assert match, line
        self.start, self.end, self.offset = int(match[1], 16), int(match[2], 16), int(match[4], 16)
        self.rights, self.name = match[3], match[5]


def seen(process: AgentProcess, start: int, end: int) -> list[Seen]:
    """The lines between two addresses, as the kernel tells this test."""
    lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    return [line for line in map(Seen, lines) if line.start < end and line.end > start]


@pytest.fixture(params=["itself", "child"])
def process(request: pytest.FixtureRequest, agent: Agent) -> AgentProcess:
    """The agent, and a child of it."""
    return agent.itself if request.param == "itself" else agent.spawn()


@pytest.fixture
def page(agent: Agent) -> int:
    return agent.hello.page_size


def test_mapped_memory_is_there_with_its_rights(process: AgentProcess, page: int) -> None:
    for protection, rights in ((NONE, "---p"), (READ, "r--p"), (RW, "rw-p"), (RX, "r-xp")):
        base = process.map(3 * page, protection=protection, flags=MapFlag.NO_RESERVE).value
        (line,) = seen(process, base, base + 3 * page)
        assert line.rights == rights and line.start <= base and line.end >= base + 3 * page
        assert process.unmap(base, 3 * page).ok


def test_region_after_mprotect_is_split_in_three(process: AgentProcess, page: int) -> None:
    base = process.map(3 * page, flags=MapFlag.SHARED).value
    assert process.protect(base + page, page, READ).ok
    lines = seen(process, base, base + 3 * page)
    assert [(line.start, line.rights) for line in lines] == [
        (base, "rw-s"),
        (base + page, "r--s"),
        (base + 2 * page, "rw-s"),
    ]


def test_protect_every_second_page_makes_a_region_of_each(process: AgentProcess, page: int) -> None:
    base = process.map(9 * page, flags=MapFlag.SHARED).value
    assert process.protect_every(base + page, 8 * page, 2 * page, page, READ).value == 4
    rights = [line.rights for line in seen(process, base, base + 9 * page)]
    assert rights == ["rw-s", "r--s"] * 4 + ["rw-s"]
    assert process.unmap(base + 8 * page, page).ok
    failed = process.protect_every(base, 16 * page, 8 * page, 2 * page, READ)
    assert (failed.errno_name, failed.detail) == ("ENOMEM", base + 8 * page)
    with pytest.raises(AgentRefused, match="EINVAL"):
        process.protect_every(base, page, 0, page, READ)


def test_a_hole_is_where_it_was_unmapped(process: AgentProcess, page: int) -> None:
    base = process.map(3 * page, flags=MapFlag.SHARED).value
    assert process.unmap(base + page, page).ok
    assert [line.start for line in seen(process, base, base + 3 * page)] == [base, base + 2 * page]


def test_a_file_is_mapped_at_its_offset(process: AgentProcess, page: int, tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/spaces and\nnewline"
    assert process.agent.write_file(path, os.urandom(3 * page)).ok
    base = process.map(2 * page, protection=READ, source=MapObject.FILE, name=path, offset=page).value
    (line,) = seen(process, base, base + 2 * page)
    assert (line.offset, line.name) == (page, os.fsdecode(path).replace("\n", "\\012"))
    assert process.peek(base, page) == Path(os.fsdecode(path)).read_bytes()[page : 2 * page]
    process.agent.unlink(path)
    (line,) = seen(process, base, base + 2 * page)
    assert line.name.endswith(" (deleted)")


def test_a_shared_file_gets_what_is_poked(process: AgentProcess, page: int, tmp_path: Path) -> None:
    path = tmp_path / "shared"
    path.write_bytes(bytes(page))
    base = process.map(page, flags=MapFlag.SHARED, source=MapObject.FILE, name=bytes(path)).value
    assert process.poke(base + 5, b"poked").value == 5
    assert path.read_bytes()[5:10] == b"poked"


@pytest.mark.parametrize(
    ("source", "name", "shown"),
    [
        (MapObject.MEMORY, b"some name", "/memfd:some name (deleted)"),
        (MapObject.SHARED_MEMORY, b"/vmatlas-test-%d", "/dev/shm/vmatlas-test-{} (deleted)"),
        (MapObject.SYSTEM_V, b"", "/SYSV00000000 (deleted)"),
    ],
)
def test_shared_memory_objects(process: AgentProcess, page: int, source: MapObject, name: bytes, shown: str) -> None:
    name = name.replace(b"%d", b"%d" % os.getpid())
    base = process.map(2 * page, flags=MapFlag.SHARED, source=source, name=name).value
    (line,) = seen(process, base, base + 2 * page)
    assert (line.rights, line.name) == ("rw-s", shown.format(os.getpid()))
    assert process.touch(base, 2 * page, write=7).value == 2


def test_fixed_replaces_and_not_over_refuses(process: AgentProcess, page: int) -> None:
    base = process.map(3 * page).value
    refused = process.map(page, address=base + page, flags=MapFlag.FIXED_NOT_OVER)
    assert (refused.value, refused.errno_name) == (-1, "EEXIST")
    assert process.poke(base + page, b"x").ok
    assert process.map(page, address=base + page, protection=READ, flags=MapFlag.FIXED).value == base + page
    assert process.peek(base + page, 1) == b"\0"


@pytest.mark.parametrize("flags", [1 << 9, 1 << 31])
def test_a_flag_that_no_system_has_is_refused(process: AgentProcess, page: int, flags: int) -> None:
    with pytest.raises(AgentRefused) as refused:
        process.map(page, flags=MapFlag(flags))
    assert (refused.value.errno_name, refused.value.by_kernel) == ("ENOTSUP", False)


def test_errors_are_the_kernels_own(process: AgentProcess, page: int) -> None:
    base = process.map(page).value
    assert process.map(0).errno_name == "EINVAL"
    assert process.map(page, address=base + 1, flags=MapFlag.FIXED).errno_name == "EINVAL"
    assert process.protect(base + 1, page, READ).errno_name == "EINVAL"
    assert process.unmap(base + 1, page).errno_name == "EINVAL"
    assert process.protect(0x1000, page, READ).errno_name == "ENOMEM"
    assert process.advise(base, page, 9999).errno_name == "EINVAL"
    assert process.move(0x1000, page, page, flags=1).errno_name == "EFAULT"
    assert process.map(page, source=MapObject.FILE, name=b"/nowhere").errno_name == "ENOENT"


def test_a_read_of_memory_without_rights_is_a_fault_with_its_address(process: AgentProcess, page: int) -> None:
    base = process.map(4 * page).value
    assert process.protect(base + 2 * page, page, NONE).ok
    for write in (None, 1):
        touched = process.touch(base, 4 * page, write=write)
        assert (touched.value, touched.errno_name, touched.detail) == (-1, "EFAULT", base + 2 * page)
    assert process.touch(base, 2 * page, write=1).value == 2
    assert process.poke(base + 2 * page - 2, b"over").detail == base + 2 * page
    with pytest.raises(AgentRefused, match="EFAULT"):
        process.peek(base + page, 2 * page)
    assert process.agent.ping(b"alive") == b"alive"


def test_touch_makes_pages_resident_and_advice_takes_them_away(process: AgentProcess, page: int) -> None:
    base = process.map(8 * page, flags=MapFlag.SHARED).value

    def resident() -> int:
        text = Path(f"/proc/{process.pid}/smaps").read_text()
        return int(re.search(rf"^0*{base:x}-.*?^Rss: *(\d+) kB", text, re.MULTILINE | re.DOTALL)[1]) * 1024  # type: ignore[index]

    assert resident() == 0
    assert process.touch(base, 5 * page, write=1).value == 5
    assert resident() == 5 * page
    assert process.advise(base, 8 * page, 9).ok  # MADV_REMOVE
    assert resident() == 0


def test_locked_memory_is_counted_as_locked(process: AgentProcess, page: int, binary: Path) -> None:
    if "sanitized" in str(binary):
        pytest.skip("the address sanitizer turns mlock into nothing")
    assert process.lock(0x1000, page).errno_name == "ENOMEM"

    def locked() -> int:
        return int(re.search(r"VmLck:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1])  # type: ignore[index]

    base = process.map(4 * page).value
    before = locked()
    assert process.lock(base, 2 * page).ok and process.lock(base + 2 * page, 2 * page, on_fault=True).ok
    assert locked() == before + 4 * page // 1024
    assert process.unlock(base, 4 * page).ok
    assert locked() == before


def test_all_memory_can_be_locked(process: AgentProcess, binary: Path) -> None:
    if "sanitized" in str(binary):
        pytest.skip("the address sanitizer turns mlockall into nothing")
    assert process.lock_all(current=True, future=True).ok
    assert "VmLck:\t       0 kB" not in Path(f"/proc/{process.pid}/status").read_text()
    assert process.lock_all(current=False).ok
    assert "VmLck:\t       0 kB" in Path(f"/proc/{process.pid}/status").read_text()


def test_moved_memory_keeps_its_content(process: AgentProcess, page: int) -> None:
    base, room = process.map(2 * page).value, process.map(4 * page).value
    assert process.poke(base, b"content").ok
    assert process.move(base, 2 * page, 2 * page, flags=3, to=room).value == room
    assert process.peek(room, 7) == b"content"
    assert process.touch(base, page).errno_name == "EFAULT"
    grown = process.move(room, 2 * page, 100 * page, flags=1)
    assert grown.ok and process.peek(grown.value, 7) == b"content"


def test_anonymous_memory_can_be_named(process: AgentProcess, page: int) -> None:
    base = process.map(page).value
    named = process.name(base, page, b"a label")
    if named.errno_name == "EINVAL":
        pytest.skip("this kernel is built without names for anonymous memory")
    assert named.ok
    (line,) = seen(process, base, base + page)
    assert line.name == "[anon:a label]"


def test_flushed_memory_is_written_and_a_hole_is_told(process: AgentProcess, page: int, tmp_path: Path) -> None:
    path = tmp_path / "flushed"
    path.write_bytes(bytes(2 * page))
    base = process.map(2 * page, flags=MapFlag.SHARED, source=MapObject.FILE, name=bytes(path)).value
    assert process.poke(base, b"content").ok
    assert process.flush(base, 2 * page).ok
    assert process.flush(base, 2 * page, synchronous=False, asynchronous=True).ok
    assert process.flush(base + 1, page).errno_name == "EINVAL"
    assert process.flush(base, page, asynchronous=True).errno_name == "EINVAL", "both at once"
    assert process.unmap(base + page, page).ok
    assert process.flush(base, 2 * page).errno_name == "ENOMEM"
    assert process.lock(base, page).ok
    assert process.flush(base, page, invalidate=True).errno_name in ("EBUSY", "")  # "" where mlock does nothing


def watched(process: AgentProcess, address: int, length: int) -> int:
    """The descriptor of a watch, where this kernel gives one."""
    watch = process.watch(address, length, WatchMode.MISSING)
    if watch.errno_name in ("ENOSYS", "EPERM"):
        pytest.skip(f"no userfaultfd here: {watch.errno_name}")
    assert watch.ok and watch.value > 2
    return watch.value


def test_a_fault_in_watched_memory_is_told_and_never_waited_for(process: AgentProcess, page: int) -> None:
    base = process.map(2 * page).value
    descriptor = watched(process, base, 2 * page)
    touched = process.touch(base, 2 * page, write=1)
    assert (touched.errno_name, touched.detail) == ("EFAULT", base)
    assert process.unwatch(descriptor).ok
    assert process.touch(base, 2 * page, write=1).value == 2
    with pytest.raises(AgentRefused, match="EBADF"):
        process.unwatch(descriptor)
    with pytest.raises(AgentRefused, match="EBADF"):
        process.unwatch(0)
    assert process.agent.ping(b"alive") == b"alive"


def test_a_watch_is_refused_as_the_kernel_says(process: AgentProcess, page: int) -> None:
    base = process.map(page).value
    assert process.unwatch(watched(process, base, page)).ok
    assert process.watch(base + 1, page, WatchMode.MISSING).errno_name == "EINVAL"
    assert process.watch(base, page, WatchMode(0)).errno_name == "EINVAL"
    assert [process.watch(base, page, WatchMode.MISSING).errno_name for _ in range(2)] == ["", "EBUSY"]


def test_a_child_has_none_of_its_parents_watches(agent: Agent, page: int) -> None:
    base = agent.itself.map(page).value
    descriptor = watched(agent.itself, base, page)
    child = agent.spawn()
    with pytest.raises(AgentRefused, match="EBADF"):
        child.unwatch(descriptor)
    assert [child.unwatch(watched(child, child.map(page).value, page)).ok for _ in range(17)] == [True] * 17
    assert agent.itself.unwatch(descriptor).ok


def test_a_move_of_several_mappings_stops_at_one_that_is_watched(process: AgentProcess, page: int) -> None:
    base, room = process.map(5 * page, protection=NONE).value, process.map(5 * page, protection=NONE).value
    for index in (0, 2, 4):
        assert process.protect(base + index * page, page, RW).ok
        assert process.poke(base + index * page, b"%d" % index).ok
    watched(process, base + 2 * page, page)
    moved = process.move(base, 5 * page, 5 * page, flags=3, to=room)
    assert (moved.value, moved.errno_name) == (-1, "EFAULT")
    if process.touch(base, page).ok:
        pytest.skip("this kernel moves one mapping at a time (before 6.17)")
    assert process.peek(room, 1) == b"0", "what came before is moved"
    assert process.peek(base + 4 * page, 1) == b"4", "what comes after is where it was"


def test_advice_to_several_ranges_says_how_far_it_went(agent: Agent, page: int) -> None:
    child = agent.spawn()
    base = child.map(6 * page, flags=MapFlag.SHARED).value
    assert child.touch(base, 6 * page, write=1).value == 6
    assert child.unmap(base + 2 * page, page).ok
    cold = 20
    ranges = [(base, page), (base + 2 * page, page), (base + 4 * page, page)]
    advised = agent.advise_process(child.pid, ranges, cold)
    if advised.errno_name in ("EPERM", "ENOSYS"):
        pytest.skip(f"process_madvise here: {advised.errno_name}")
    assert (advised.value, advised.errno_name) == (page, ""), "a failure behind the first range is a short count"
    assert agent.advise_process(child.pid, ranges[1:], cold).errno_name == "ENOMEM"
    assert agent.advise_process(child.pid, [(base, 2 * page), (base + 3 * page, 3 * page)], cold).value == 5 * page
    assert agent.advise_process(child.pid, ranges, 9999).errno_name == "EINVAL"
    assert agent.advise_process(child.pid, ranges, cold, start_time=1).errno_name == "ESRCH"


def test_a_limit_is_for_a_child_alone(agent: Agent, page: int, binary: Path) -> None:
    memlock = 8
    with pytest.raises(AgentRefused, match="EPERM"):
        agent.itself.limit(memlock, 0, 0)
    child = agent.spawn()
    assert child.limit(memlock, 2 * page, 4 * page).ok
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    assert re.search(rf"Max locked memory +{2 * page} +{4 * page} ", limits)
    assert child.limit(999, None, None).errno_name == "EINVAL"
    if os.geteuid() != 0 or "sanitized" in str(binary):
        return
    assert child.become(65534, 65534).ok
    base = child.map(4 * page).value
    assert child.lock(base, 2 * page).ok
    assert child.lock(base, 4 * page).errno_name == "ENOMEM"
    assert child.limit(memlock, None, None).errno_name == "EPERM"


def test_peek_and_poke_pass_every_byte(process: AgentProcess, page: int) -> None:
    base = process.map(64 * page).value
    content = os.urandom(30_000)
    assert process.poke(base + 11, content).value == len(content)
    assert process.peek(base, 64 * page) == bytes(11) + content + bytes(64 * page - 11 - len(content))


def test_ranges_that_wrap_around_are_refused(process: AgentProcess) -> None:
    with pytest.raises(AgentRefused, match="EINVAL"):
        process.touch(2**64 - 4096, 8192)
    with pytest.raises(AgentRefused, match="EINVAL"):
        process.peek(2**64 - 4096, 8192)


def test_a_child_has_memory_of_its_own(agent: Agent, page: int) -> None:
    base = agent.itself.map(page).value
    agent.itself.poke(base, b"before")
    child = agent.spawn()
    agent.itself.poke(base, b"parent")
    assert child.peek(base, 6) == b"before"
    assert child.poke(base, b"child!").ok
    assert (agent.itself.peek(base, 6), child.peek(base, 6)) == (b"parent", b"child!")


def test_shared_memory_is_shared_with_a_child(start: Callable[..., Agent], page: int) -> None:
    agent = start()
    base = agent.itself.map(page, flags=MapFlag.SHARED).value
    child = agent.spawn()
    child.poke(base, b"from the child")
    assert agent.itself.peek(base, 14) == b"from the child"
