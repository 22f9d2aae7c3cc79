"""On a running FreeBSD: what only a real kernel can show.

Runs where VMATLAS_FREEBSD_IMAGE names a disk (docs/get-an-image.md); elsewhere each test says that it did not run.
The conformance suite runs there by itself (`invoke test-all-platforms`); here is what it leaves out.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

import vmatlas
from vmatlas import AccessDenied, AddressSpace, Kind, NoSuchProcess, Protection, Region, Unsupported
from vmatlas.conformance.ground import Ground, Placed
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.agent import READ_WRITE, Agent, AgentProcess, AgentTarget, Limits, MapFlag, MapObject, required
from vmatlas.target.streams import SocketStream
from vmatlas_freebsd import KvmeFlags
from vmatlas_images import NotRunnable, boot, find
from vmatlas_images.run.boot import RunningMachine
from vmatlas_images.run.handshake import greet

from .procstat import disagreements

SECONDS_OF_FAULTS = 15.0

pytestmark = [pytest.mark.machine, pytest.mark.timeout(6 * PATIENCE)]

SYSCTL, PROCFS = "freebsd-sysctl", "freebsd-procfs"
BACKENDS = pytest.mark.parametrize("backend", [SYSCTL, PROCFS])
PAGE = 4096
READ, EXECUTE = Protection.READ, Protection.EXECUTE
MAP_GUARD, MAP_NOCORE, MAP_ALIGNED_SUPER = 0x2000, 0x20000, 1 << 24
"""<sys/mman.h>."""
ONE_USER = 1001
"""Nobody has this number; it takes no entry in a password file to run as it."""


@pytest.fixture(scope="module")
def machine() -> Iterator[RunningMachine]:
    with ExitStack() as stages:
        try:
            running = stages.enter_context(boot(find("freebsd-local"), hello=greet))
        except NotRunnable as error:
            pytest.skip(f"not run: {error.message}; {error.hint}")
        yield running


@pytest.fixture(scope="module")
def there(machine: RunningMachine) -> Iterator[AgentTarget]:
    with Agent(SocketStream(machine.stream.dup()), "freebsd", Limits().times(machine.accelerator.scale)) as agent:
        yield AgentTarget(agent)


@pytest.fixture
def worker(there: AgentTarget) -> Iterator[AgentProcess]:
    with child_of(there.agent) as made:
        yield made


@pytest.fixture
def ground(worker: AgentProcess) -> Ground:
    return Ground(worker)


@contextmanager
def child_of(agent: Agent, program: bytes = b"") -> Iterator[AgentProcess]:
    child = agent.spawn(program)
    try:
        yield child
    finally:
        child.end()
        child.reap()


def script(agent: Agent, text: str, name: bytes = b"/tmp/vmatlas-script") -> bytes:
    written = agent.write_file(name, f"#!/bin/sh\n{text}\n".encode(), mode=0o755)
    assert written.ok, written.errno_name
    return name


def run(agent: Agent, text: str) -> str:
    """What a script prints there; it must succeed."""
    child = agent.spawn(script(agent, f"exec > /tmp/vmatlas-said 2>&1\nset -e\n{text}"))
    ended = child.reap(60)
    said = agent.read_file(b"/tmp/vmatlas-said").decode("utf-8", "surrogateescape")
    assert (ended.value, ended.detail) == (child.pid, 0), f"{text}: {said}"
    return said


@contextmanager
def setting(agent: Agent, name: str, value: int) -> Iterator[None]:
    """A sysctl of that value, for a while."""
    before = run(agent, f"sysctl -n {name}").strip()
    run(agent, f"sysctl {name}={value}")
    try:
        yield
    finally:
        run(agent, f"sysctl {name}={before}")


def touch(ground: Ground, placed: Placed) -> None:
    required(ground.worker.touch(placed.start, placed.size, write=1), "touching")


def read(there: AgentTarget, pid: int, backend: str = SYSCTL) -> AddressSpace:
    return vmatlas.snapshot(pid, target=there, backend=backend)


def at(space: AddressSpace, placed: Placed) -> Region:
    region = space.find(placed.start)
    assert region is not None
    return region


# ---- procstat ----


@contextmanager
def procstat_of(agent: Agent, pid: int) -> Iterator[Callable[[], str]]:
    """What `procstat -v` prints of a process when it is called for. It waits there in a script of its own, since an
    agent that starts a program forks, and a fork changes its map.
    """
    go, done = b"/tmp/vmatlas-go", b"/tmp/vmatlas-done"
    wait = "while ! test -e /tmp/vmatlas-go; do sleep 0.05; done"
    text = f"{wait}\nprocstat -v {pid} > /tmp/vmatlas-said\n> /tmp/vmatlas-done"

    def ask() -> str:
        assert agent.write_file(go, b"x").ok
        until = time.monotonic() + PATIENCE
        while not agent.stat_file(done).ok:
            assert time.monotonic() < until
        return agent.read_file(b"/tmp/vmatlas-said").decode()

    try:
        with child_of(agent, script(agent, text)):
            # What the agent will do meanwhile is done before, so that it writes to no page for the first time then.
            for path in (go, done):
                agent.write_file(path + b"-not", b"x")
                agent.stat_file(path)
            yield ask
    finally:
        for path in (go, done, go + b"-not", done + b"-not"):
            agent.unlink(path)


def test_every_process_is_told_as_procstat_tells_it(there: AgentTarget, worker: AgentProcess) -> None:
    """Each column of `procstat -v`, of all processes that have a map. One that changed meanwhile is asked again."""
    listed = [process for process in there.processes() if not process.kernel]
    assert len(listed) >= 4 and worker.pid in [process.pid for process in listed]
    for process in listed:
        for _ in range(5):
            with procstat_of(there.agent, process.pid) as procstat:
                read(there, process.pid)  # the reader itself is settled
                space = read(there, process.pid)
                differing = disagreements(procstat(), space)
            if not differing:
                break
        assert differing == [], process.name


# ---- residency: what it is, and what it is not ----


@pytest.fixture
def file(there: AgentTarget) -> Iterator[bytes]:
    """Ten pages."""
    path = b"/tmp/vmatlas-ten-pages"
    assert there.agent.write_file(path, b"x" * (10 * PAGE)).ok
    yield path
    there.agent.unlink(path)


@BACKENDS
def test_pages_that_somebody_else_read_are_resident(
    there: AgentTarget, ground: Ground, file: bytes, backend: str
) -> None:
    placed = ground.lay(4, 10, protection=READ, source=MapObject.FILE, name=file)
    assert at(read(there, ground.worker.pid, backend), placed).resident == 10 * PAGE


def test_each_part_of_an_object_has_all_of_it_as_private(there: AgentTarget, ground: Ground) -> None:
    placed = ground.lay(4, 9)
    touch(ground, placed)
    ground.protect(7, 3, READ)
    parts = ground.within(list(read(there, ground.worker.pid)))
    assert [region.resident for region in parts] == [3 * PAGE] * 3
    assert [region.private_resident for region in parts] == [9 * PAGE] * 3


def test_shared_file_has_private_memory_and_a_private_one_that_was_written_to_has_none(
    there: AgentTarget, ground: Ground, file: bytes
) -> None:
    shared = ground.lay(4, 2, flags=MapFlag.SHARED, source=MapObject.FILE, name=file)
    private = ground.lay(16, 2, source=MapObject.FILE, name=file)
    touch(ground, private)
    space = read(there, ground.worker.pid)
    assert (at(space, shared).resident, at(space, shared).private_resident) == (2 * PAGE, 10 * PAGE)
    assert (at(space, private).resident, at(space, private).private_resident) == (2 * PAGE, 0)


def test_what_only_the_child_touched_of_shared_memory_is_resident_in_both(there: AgentTarget) -> None:
    ground = Ground(there.agent.itself)
    placed = ground.lay(4, 8, flags=MapFlag.SHARED)
    try:
        with child_of(there.agent) as child:
            assert child.touch(placed.start, 3 * PAGE, write=1).value == 3
            for pid in (child.pid, there.agent.hello.pid):
                assert at(read(there, pid), placed).resident == 3 * PAGE
    finally:
        ground.clear(4, 8)


def test_copy_on_write_leaves_a_child_nothing_private(there: AgentTarget) -> None:
    """It has pages of its own now, and the count that is called private is 0: its object shadows the parent's."""
    ground = Ground(there.agent.itself)
    placed = ground.lay(4, 8)
    touch(ground, placed)
    try:
        with child_of(there.agent) as child:
            assert child.touch(placed.start, 3 * PAGE, write=2).value == 3
            region = at(read(there, child.pid), placed)
            assert (region.shared, region.resident, region.private_resident) == (False, 8 * PAGE, 0)
    finally:
        ground.clear(4, 8)


# ---- sharing ----


@BACKENDS
def test_memory_in_which_page_faults_are_served_is_never_called_shared(there: AgentTarget, backend: str) -> None:
    """A fault holds a reference to the object, so that a private one counts two, as if another process had it."""
    forever = "while :; do dd if=/dev/zero of=/dev/null bs=96m count=1; done"
    counts: list[object] = []
    with child_of(there.agent, script(there.agent, f"exec 2> /dev/null\n{forever}")):
        until = time.monotonic() + SECONDS_OF_FAULTS
        while time.monotonic() < until:
            for process in [process for process in there.processes() if process.name == "dd"]:
                with suppress(NoSuchProcess):
                    memory = [
                        region
                        for region in read(there, process.pid, backend)
                        if region.size >= 96 << 20 and region.protection == READ_WRITE
                    ]
                    assert [region.shared for region in memory] == [None] * len(memory)
                    counts += [region.details.get("ref_count") for region in memory]
    assert len(counts) > 20


def test_a_fork_is_told_by_the_text_until_the_other_is_gone(there: AgentTarget) -> None:
    ground = Ground(there.agent.itself)
    placed = ground.lay(4, 3, flags=MapFlag.SHARED)
    touch(ground, placed)
    me = there.agent.hello.pid

    def told() -> tuple[bool | None, Kind]:
        region = at(read(there, me, PROCFS), placed)
        return region.shared, region.kind

    try:
        assert told() == (None, Kind.ANONYMOUS)
        with child_of(there.agent):
            assert told() == (True, Kind.SHARED_MEMORY)
            assert at(read(there, me, SYSCTL), placed).shared is None
        assert told() == (None, Kind.ANONYMOUS)
    finally:
        ground.clear(4, 3)


def test_two_processes_that_share_memory_tell_the_same_object(there: AgentTarget) -> None:
    ground = Ground(there.agent.itself)
    shared, private = ground.lay(4, 3, flags=MapFlag.SHARED), ground.lay(16, 3)
    for placed in (shared, private):
        touch(ground, placed)
    try:
        with child_of(there.agent) as child:
            required(child.touch(private.start, private.size, write=2), "touching")
            mine, its = read(there, there.agent.hello.pid), read(there, child.pid)
            assert at(mine, shared).details["object"] == at(its, shared).details["object"]
            assert at(mine, private).details["object"] != at(its, private).details["object"]
    finally:
        ground.clear(4, 15)


# ---- what else an entry is ----


def test_flags_and_kinds_are_of_what_was_mapped(there: AgentTarget, ground: Ground) -> None:
    worker = ground.worker
    quiet = required(worker.map(4 * PAGE, system_flags=MAP_NOCORE), "memory that is not dumped")
    stack = required(worker.map(1 << 20, flags=MapFlag.STACK), "a stack")
    guard = required(worker.map(4 * PAGE, protection=Protection.NONE, system_flags=MAP_GUARD), "a guard of its own")
    wired = ground.lay(4, 2)
    required(worker.lock(wired.start, wired.size), "locking")
    large = required(worker.map(4 << 20, system_flags=MAP_ALIGNED_SUPER), "aligned memory")
    required(worker.touch(large, 4 << 20, write=1), "touching")
    space, text = read(there, worker.pid), read(there, worker.pid, PROCFS)

    def of(address: int) -> tuple[Kind, KvmeFlags]:
        region = space.find(address)
        assert region is not None and isinstance(region.flags, KvmeFlags)
        return region.kind, region.flags

    assert of(quiet) == (Kind.ANONYMOUS, KvmeFlags.NOCOREDUMP)
    assert of(stack + (1 << 20) - 1) == (Kind.STACK, KvmeFlags.GROWS_DOWN)
    assert of(stack) == (Kind.GUARD, KvmeFlags(0))
    assert of(wired.start) == (Kind.ANONYMOUS, KvmeFlags.USER_WIRED)
    assert of(large) == (Kind.ANONYMOUS, KvmeFlags.SUPER)
    assert of(guard) == (Kind.GUARD, KvmeFlags.COW | KvmeFlags.NEEDS_COPY)
    for address, said in ((stack, None), (guard, False)):
        pair = (space.find(address), text.find(address))
        found = [(region.details["type"], region.shared) for region in pair if region]
        assert found == [("guard", False), ("none", said)]


def test_text_that_the_kernel_cut_says_so(there: AgentTarget, worker: AgentProcess) -> None:
    pages = 14_000
    ground = Ground(worker, pages)
    ground.lay(0, pages)
    required(worker.protect_every(ground.at(1), (pages - 1) * PAGE, 2 * PAGE, PAGE, READ), "striping")
    text, records = read(there, worker.pid, PROCFS), read(there, worker.pid)
    assert records.incomplete is None
    assert len(ground.within(list(records))) == pages
    assert text.incomplete is not None and SYSCTL in text.incomplete
    assert [(region.start, region.end) for region in text] == [
        (region.start, region.end) for region in list(records)[: len(text)]
    ]
    with pytest.raises(vmatlas.IncompleteResult):
        vmatlas.snapshot(worker.pid, target=there, backend=PROCFS, strict=True)


# ---- a 32-bit process ----


def sleeper32() -> bytes:
    """An i386 program for FreeBSD that sleeps in turns of 100 seconds: an ELF header, a segment, 22 bytes of code."""
    code = bytes.fromhex("6a00 6a64 89e0 6a00 50 50 b8f0000000 cd80 83c414 ebea")
    size = 52 + 32 + len(code)
    ident = b"\x7fELF\x01\x01\x01\x09" + bytes(8)  # 32 bits, little-endian, FreeBSD
    header = ident + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    return header + struct.pack("<IIIIIIII", 1, 0, 0x8048000, 0x8048000, size, size, 5, PAGE) + code


@BACKENDS
def test_32_bit_process_is_read_alike(there: AgentTarget, backend: str) -> None:
    path = b"/tmp/vmatlas-sleeper32"
    assert there.agent.write_file(path, sleeper32(), mode=0o755).ok
    with child_of(there.agent, path) as child:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            space = read(there, child.pid, backend)
            if space[-1].end <= 1 << 32:
                break  # it has become the program
            time.sleep(0.05)
        assert [region.kind for region in space] == [Kind.FILE, Kind.GUARD, *STACK_OF[backend], Kind.VDSO]
        assert (space[0].start, space[0].protection, space[0].path_bytes) == (0x8048000, READ | EXECUTE, path)
        assert space[-1].end <= 1 << 32
    there.agent.unlink(path)


STACK_OF = {SYSCTL: [Kind.STACK], PROCFS: [Kind.ANONYMOUS]}


# ---- who may read whom ----


@contextmanager
def reader_as(there: AgentTarget, user: int) -> Iterator[AgentTarget]:
    with child_of(there.agent) as stranger:
        required(stranger.become(user, user), "becoming another user")
        yield there.asked_by(stranger)


@pytest.fixture
def of_one_user(there: AgentTarget) -> Iterator[int]:
    """A process of a user without rights, which may be traced: it has run a program since it changed its user."""
    with child_of(
        there.agent, script(there.agent, f"exec chroot -u {ONE_USER} -g {ONE_USER} -G {ONE_USER} / /bin/sleep 1000")
    ) as it:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if any(process.pid == it.pid and process.name == "sleep" for process in there.processes()):
                break
            time.sleep(0.05)
        yield it.pid


@BACKENDS
def test_own_process_is_read_and_not_another_users(there: AgentTarget, of_one_user: int, backend: str) -> None:
    with reader_as(there, ONE_USER) as asked:
        assert len(read(asked, of_one_user, backend)) > 5
        with pytest.raises(AccessDenied, match="no right"):
            read(asked, there.agent.hello.pid, backend)
    with reader_as(there, ONE_USER + 1) as asked, pytest.raises(AccessDenied):
        read(asked, of_one_user, backend)


@BACKENDS
def test_process_that_changed_its_user_is_not_read_by_that_user(there: AgentTarget, backend: str) -> None:
    """As one that is set-uid: what it learnt as root may be in its memory."""
    with reader_as(there, ONE_USER) as changed, reader_as(there, ONE_USER) as asked, pytest.raises(AccessDenied):
        read(asked, changed.asker.pid, backend)


@BACKENDS
def test_processes_of_others_that_are_hidden_are_none(there: AgentTarget, of_one_user: int, backend: str) -> None:
    with reader_as(there, ONE_USER) as asked, setting(there.agent, "security.bsd.see_other_uids", 0):
        with pytest.raises(NoSuchProcess, match="there is no process"):
            read(asked, there.agent.hello.pid, backend)
        assert len(read(asked, of_one_user, backend)) > 5


@BACKENDS
def test_where_users_may_not_debug_none_but_oneself_is_read(there: AgentTarget, of_one_user: int, backend: str) -> None:
    with reader_as(there, ONE_USER) as asked, setting(there.agent, "security.bsd.unprivileged_proc_debug", 0):
        with pytest.raises(AccessDenied) as refused:
            read(asked, of_one_user, backend)
        assert refused.value.hint is not None and "unprivileged_proc_debug" in refused.value.hint
        assert len(read(asked, asked.asker.pid, SYSCTL)) > 5
        assert len(read(there, of_one_user, backend)) > 5, "root may"


@BACKENDS
def test_jailed_reader_has_its_jails_processes_alone(there: AgentTarget, worker: AgentProcess, backend: str) -> None:
    run(there.agent, "jail -c name=vmatlas path=/ persist allow.mount.procfs")
    try:
        with child_of(there.agent, script(there.agent, "exec jexec vmatlas /mnt/agent --child")) as inside:
            asked = there.asked_by(inside)
            with pytest.raises(NoSuchProcess, match="there is no process") as refused:
                read(asked, worker.pid, backend)
            assert refused.value.hint is not None and "jail" in refused.value.hint
            assert len(read(asked, inside.pid, backend)) > 5
            assert list(read(there, inside.pid, backend)) == list(read(asked, inside.pid, backend))
    finally:
        run(there.agent, "jail -r vmatlas")


# ---- processes without a map, procfs that is not there ----


def test_init_is_told_by_the_sysctl_alone(there: AgentTarget) -> None:
    assert len(read(there, 1)) > 5
    with pytest.raises(Unsupported, match="procfs has no map of process 1") as refused:
        read(there, 1, PROCFS)
    assert refused.value.hint == "use the backend freebsd-sysctl"


@BACKENDS
def test_process_0_cannot_be_asked_for_through_an_agent(there: AgentTarget, backend: str) -> None:
    with pytest.raises(Unsupported, match="process 0"):
        read(there, 0, backend)


@BACKENDS
def test_every_process_of_the_kernel_is_an_empty_space(there: AgentTarget, backend: str) -> None:
    kernel = [process for process in there.processes() if process.kernel and process.pid]
    assert len(kernel) > 5
    assert {len(read(there, process.pid, backend)) for process in kernel} == {0}


def test_without_procfs_the_text_says_how_to_mount_it_and_the_choice_takes_the_sysctl(
    there: AgentTarget, worker: AgentProcess
) -> None:
    run(there.agent, "umount /proc")
    try:
        with pytest.raises(Unsupported, match="mount -t procfs proc /proc"):
            read(there, worker.pid, PROCFS)
        fresh = AgentTarget(there.agent)  # which has not asked yet
        with pytest.raises(Unsupported, match="mount -t procfs proc /proc"):
            read(fresh, worker.pid, PROCFS)
        assert vmatlas.snapshot(worker.pid, target=fresh).origin.backend == SYSCTL
    finally:
        run(there.agent, "mount -t procfs proc /proc")


@contextmanager
def mapped_under(ground: Ground, name: bytes) -> Iterator[Placed]:
    path = b"/tmp/" + name
    assert ground.worker.agent.write_file(path, b"x").ok
    try:
        yield ground.lay(4, 1, source=MapObject.FILE, name=path)
    finally:
        ground.worker.agent.unlink(path)


FORGED = "forged NCH -1\n{:#x} {:#x} 1 0 0 r-x 1 0 0x0 COW NC vnode -"
"""A file name whose two pieces are whole lines of the text, but for what the kernel writes before and after it."""


def test_forged_region_out_of_order_is_refused_by_the_text_and_none_to_the_sysctl(
    there: AgentTarget, ground: Ground
) -> None:
    name = FORGED.format(PAGE, 2 * PAGE).encode()
    with mapped_under(ground, name) as placed:
        assert at(read(there, ground.worker.pid), placed).path_bytes == b"/tmp/" + name
        with pytest.raises(vmatlas.TornRead):
            read(there, ground.worker.pid, PROCFS)


def test_forged_region_that_fits_is_believed_of_the_text_and_never_by_the_automatic_choice(
    there: AgentTarget, ground: Ground
) -> None:
    """The text's known weakness."""
    with mapped_under(ground, FORGED.format(ground.at(9), ground.at(10)).encode()):
        assert read(there, ground.worker.pid, PROCFS).find(ground.at(9)) is not None
        assert read(there, ground.worker.pid).find(ground.at(9)) is None
        assert vmatlas.find(ground.worker.pid, ground.at(9), target=there) is None
