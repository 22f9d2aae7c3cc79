"""What an agent says of its machine and of processes, against what this machine says itself."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from binascii import crc32
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.agent import Agent, AgentRefused, AgentTarget
from vmatlas.target.wire import Operation, pack, text8

PROCMAP = "linux.procmap_query"
WALK = 0x10
RECORD = struct.Struct("=9Q4I2Q")


def records(streams: dict[str, bytes]) -> list[tuple[tuple[int, ...], bytes, bytes]]:
    """(fields, name, build id) of each record of the stream `vmas`."""
    stream = streams.get("vmas", b"")
    count = used = 0
    while count * RECORD.size + used < len(stream):
        fields = RECORD.unpack_from(stream, count * RECORD.size)
        used += fields[11] + fields[12]
        count += 1
    assert count * RECORD.size + used == len(stream)
    found, at = [], count * RECORD.size
    for index in range(count):
        fields = RECORD.unpack_from(stream, index * RECORD.size)
        middle, end = at + fields[11], at + fields[11] + fields[12]
        found.append((fields, stream[at:middle], stream[middle:end]))
        at = end
    return found


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, whose map stands still."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; os.write(1, b'\\n'); os.read(0, 1)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.communicate()


def test_hello_tells_the_machine_as_uname_does(agent: Agent) -> None:
    uname, fields = os.uname(), agent.hello.fields
    assert (fields["system"], fields["release"], fields["version"], fields["machine"]) == (
        uname.sysname,
        uname.release,
        uname.version,
        uname.machine,
    )
    assert agent.hello.page_size == os.sysconf("SC_PAGESIZE")
    assert fields["byte_order"] == sys.byteorder
    assert int(fields["ticks_per_second"]) == os.sysconf("SC_CLK_TCK")
    assert int(fields["user"]) == os.geteuid()
    assert psutil.Process(agent.hello.pid).ppid() == os.getpid()
    assert agent.hello.role == "agent"


def test_hello_names_the_sources_of_the_plugins(agent: Agent) -> None:
    assert {"linux.maps", "linux.smaps", PROCMAP} <= agent.hello.sources


def test_hello_names_every_operation_that_the_host_knows(agent: Agent) -> None:
    assert {operation.name.lower() for operation in Operation} == agent.hello.operations


def test_ping_gives_back_every_byte_value(agent: Agent) -> None:
    payload = bytes(range(256)) * 100
    assert agent.ping(payload) == payload


def test_processes_are_those_that_psutil_sees(agent: Agent, sleeper: subprocess.Popen[bytes]) -> None:
    listed = {process.pid: process for process in agent.processes()}
    seen = psutil.Process(sleeper.pid)
    mine = listed[sleeper.pid]
    assert (mine.parent, mine.name.decode(), mine.user) == (os.getpid(), seen.name(), seen.uids().real)
    assert mine.start_time / os.sysconf("SC_CLK_TCK") == pytest.approx(seen.create_time() - psutil.boot_time(), abs=2)
    assert not mine.kernel and not mine.zombie
    # Others come and go; this process, who started it, and what it started stay.
    known = psutil.Process()
    assert {each.pid for each in (known, *known.parents(), *known.children(recursive=True))} <= listed.keys()


def test_a_kernel_thread_and_a_zombie_are_told_apart(agent: Agent) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    listed = {process.pid: process for process in agent.processes()}
    assert listed[child.pid].zombie and listed[child.pid].state == "Z"
    if listed.get(2) is not None and listed[2].name == b"kthreadd":  # not in a pid namespace of its own
        # Not all of its children: helpers that the kernel starts (modprobe) are its children too, and programs.
        assert listed[2].kernel and any(process.kernel for process in listed.values() if process.parent == 2)
    child.wait()


@pytest.mark.parametrize("source", ["maps", "smaps"])
def test_text_is_the_files_own(agent: Agent, sleeper: subprocess.Popen[bytes], source: str) -> None:
    streams = agent.itself.acquire(f"linux.{source}", sleeper.pid)
    text = Path(f"/proc/{sleeper.pid}/{source}").read_bytes()
    if source == "smaps":  # counts of shared pages move with what other processes do
        assert streams[source].splitlines()[0] == text.splitlines()[0]
        assert streams[source].count(b"VmFlags:") == text.count(b"VmFlags:")
    else:
        assert streams[source] == text
    assert streams["stat"].split()[0] == b"%d" % sleeper.pid


def test_ioctl_tells_the_regions_of_the_text(agent: Agent, sleeper: subprocess.Popen[bytes]) -> None:
    found = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK)))
    lines = [line.split(None, 5) for line in Path(f"/proc/{sleeper.pid}/maps").read_text().splitlines()]
    expected = [(line[0], line[5] if len(line) > 5 else "") for line in lines if not line[-1].startswith("[vsyscall]")]
    assert [(f"{f[3]:08x}-{f[4]:08x}", name.rstrip(b"\0").decode()) for f, name, _ in found] == expected
    assert all(fields[13] == fields[14] == 0 for fields, _, _ in found), "pointers are zeroed"


def test_build_ids_come_when_asked_for(agent: Agent, sleeper: subprocess.Popen[bytes]) -> None:
    found = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK, build_ids=True)))
    identified = {name: build_id for _, name, build_id in found if build_id}
    libc = next(name for name in identified if b"libc.so" in name or b"libc-" in name)
    notes = subprocess.run(["readelf", "-n", libc[:-1]], capture_output=True, text=True, check=False, timeout=PATIENCE)
    if notes.returncode == 0:
        assert identified[libc].hex() in notes.stdout
    assert len(identified[libc]) == 20
    unasked = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK)))
    assert not any(build_id for _, _, build_id in unasked)


def test_limit_and_end_stop_a_walk(agent: Agent, sleeper: subprocess.Popen[bytes]) -> None:
    whole = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK)))
    three = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK, address=whole[2][0][3], limit=3)))
    assert three == whole[2:5]
    until = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK, end=whole[4][0][3])))
    assert until == whole[:4]


def test_names_are_left_out_when_not_wanted(agent: Agent, sleeper: subprocess.Popen[bytes]) -> None:
    assert not any(
        name for _, name, _ in records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK, names=False)))
    )


def test_many_single_addresses_in_one_question(agent: Agent, sleeper: subprocess.Popen[bytes]) -> None:
    whole = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK)))
    first, last = whole[0][0], whole[-1][0]
    addresses = [first[3], first[4] - 1, 0x1000, last[3]] * 1000
    before = agent.talk.requests_sent
    streams = agent.itself.query(PROCMAP, addresses, sleeper.pid)
    assert agent.talk.requests_sent == before + 1
    errnos = struct.unpack(f"={len(addresses)}I", streams["errnos"])
    assert errnos == (0, 0, 2, 0) * 1000
    assert [each[0][3] for each in records(dict(streams))] == [first[3], first[3], last[3]] * 1000


def test_a_filter_of_the_kernel_is_passed_on(agent: Agent, sleeper: subprocess.Popen[bytes]) -> None:
    executable = records(dict(agent.itself.acquire(PROCMAP, sleeper.pid, flags=WALK | 4)))
    assert executable and all(fields[5] & 4 for fields, _, _ in executable)


def test_an_answer_of_many_megabytes_comes_in_frames_of_bounded_size(agent: Agent, tmp_path: Path) -> None:
    large = tmp_path / "large"
    content = os.urandom(1 << 20) * 20
    large.write_bytes(content)
    before = agent.talk.frames_received
    assert agent.read_file(bytes(large)) == content
    assert agent.talk.frames_received - before >= len(content) // 32768
    assert agent.read_file(bytes(large), 1000) == content[:1000]


def test_a_map_of_a_thousand_regions_takes_one_round_trip(agent: Agent) -> None:
    child = agent.spawn()
    page = agent.hello.page_size
    base = child.map(2000 * page).value
    for index in range(0, 2000, 2):
        assert child.protect(base + index * page, page, 1).ok  # type: ignore[arg-type]
    before = agent.talk.requests_sent
    assert len(records(dict(agent.itself.acquire(PROCMAP, child.pid, flags=WALK)))) > 1000
    assert agent.talk.requests_sent == before + 1
    assert agent.itself.acquire("linux.maps", child.pid)["maps"].count(b"\n") > 1000
    assert agent.talk.requests_sent == before + 2


@pytest.mark.parametrize("source", ["linux.maps", "linux.smaps", PROCMAP])
def test_a_process_that_never_was_is_no_folder(agent: Agent, source: str) -> None:
    with pytest.raises(AgentRefused) as refused:
        agent.itself.acquire(source, 2**22 + 1, flags=WALK if source == PROCMAP else 0)
    assert (refused.value.errno_name, refused.value.by_kernel) == ("ENOENT", True)
    assert str(2**22 + 1) in str(refused.value)


def test_a_zombie_has_no_memory_and_its_stat_says_why(agent: Agent) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(AgentRefused) as refused:
        agent.itself.acquire(PROCMAP, child.pid, flags=WALK)
    assert refused.value.errno_name == "ESRCH"
    assert b") Z " in refused.value.streams["stat"]
    streams = agent.itself.acquire("linux.maps", child.pid)
    assert streams.get("maps", b"") == b"" and b") Z " in streams["stat"]
    child.wait()


def test_an_unknown_source_is_refused_by_the_agent(agent: Agent) -> None:
    with pytest.raises(AgentRefused) as refused:
        agent.itself.acquire("linux.nothing")
    assert (refused.value.errno_name, refused.value.by_kernel) == ("ENOENT", False)


def test_text_cannot_be_asked_about_single_addresses(agent: Agent) -> None:
    with pytest.raises(AgentRefused) as refused:
        agent.itself.query("linux.maps", [0x1000])
    assert (refused.value.errno_name, refused.value.by_kernel) == ("ENOTSUP", False)


def test_a_flag_that_the_kernel_does_not_know_is_its_own_refusal(agent: Agent) -> None:
    with pytest.raises(AgentRefused) as refused:
        agent.itself.acquire(PROCMAP, flags=1 << 40)
    assert (refused.value.errno_name, refused.value.by_kernel) == ("EINVAL", True)


@pytest.mark.parametrize(
    "operation",
    [
        operation
        for operation in Operation
        if operation not in (Operation.HELLO, Operation.PING, Operation.PROCESSES, Operation.SHUTDOWN)
    ],
)
def test_a_request_without_its_fields_is_refused(agent: Agent, operation: Operation) -> None:
    with pytest.raises(AgentRefused) as refused:
        agent.ask(operation)
    assert (refused.value.errno_name, refused.value.by_kernel) == ("EINVAL", False)


def test_counts_beyond_their_bound_are_refused(agent: Agent) -> None:
    for operation, payload in (
        (Operation.QUERY, text8(PROCMAP.encode()) + pack("IIQII", 0, 0, 0, 0, 4001)),
        (Operation.ADVISE_PROCESS, pack("IQIII", 0, 0, 0, 0, 1025)),
    ):
        with pytest.raises(AgentRefused) as refused:
            agent.ask(operation, payload)
        assert (refused.value.errno_name, refused.value.by_kernel) == ("E2BIG", False)


def test_files_are_written_listed_and_removed(agent: Agent, tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/a name\nwith a newline"
    content = os.urandom(70_000)
    assert agent.write_file(path, content, mode=0o600).value == len(content)
    assert Path(os.fsdecode(path)).read_bytes() == content
    assert agent.list_folder(bytes(tmp_path)) == [b"a name\nwith a newline"]
    assert agent.stat_file(path).detail == os.stat(path).st_ino
    assert agent.unlink(path).ok
    assert agent.unlink(path).errno_name == agent.stat_file(path).errno_name == "ENOENT"


def test_file_is_looked_up_without_waiting_for_anybody(agent: Agent, tmp_path: Path) -> None:
    if os.uname().sysname != "Linux":
        pytest.skip("an operation of Linux's")
    path = tmp_path / "looked-up"
    path.write_bytes(b"x")
    there = os.stat(path)
    found = agent.look_up(b"/", bytes(path))  # known to the kernel: it was just made
    assert found.ok
    assert (found.inode, found.mode, found.links) == (there.st_ino, there.st_mode, 1)
    assert found.device == (os.major(there.st_dev), os.minor(there.st_dev))
    (tmp_path / "link").symlink_to(path)
    assert agent.look_up(b"/", bytes(tmp_path / "link")).inode == os.lstat(tmp_path / "link").st_ino
    assert agent.look_up(b"/", bytes(tmp_path / "link" / "below")).errno_name == "ENOTDIR"
    assert agent.look_up(f"/proc/{os.getpid()}/root".encode(), bytes(path)).inode == there.st_ino
    assert agent.look_up(bytes(path), b"").inode == there.st_ino
    mount = agent.look_up(b"/", b"").mount
    if mount is None:
        return  # before Linux 5.8
    line = next(
        line for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n") if line.startswith(b"%d " % mount)
    )
    missing = agent.look_up(b"/", b"never-looked-up", {mount: crc32(line)})
    assert missing.errno_name == "ENOENT"
    other = agent.look_up(b"/", b"never-looked-up-either", {mount: crc32(line) ^ 1})
    assert other.errno_name == "EAGAIN", "the number means another mount by now, which is not asked"
    with pytest.raises(AgentRefused) as refused:
        agent.look_up(b"/", b"/x", dict.fromkeys(range(65), 0))
    assert refused.value.errno_name == "E2BIG"


def test_a_file_that_must_be_new_is_in_the_place_of_no_other_and_of_no_link(agent: Agent, tmp_path: Path) -> None:
    content = os.urandom(70_000)
    assert agent.write_file(bytes(tmp_path / "new"), content, new=True).value == len(content)
    assert (tmp_path / "new").read_bytes() == content
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "dangling").symlink_to("none")
    for name in ("new", "link", "dangling"):
        assert agent.write_file(bytes(tmp_path / name), b"x", new=True).errno_name == "EEXIST"
    assert (tmp_path / "new").read_bytes() == content
    assert not (tmp_path / "none").exists()


def test_a_file_that_must_exist_is_not_made(agent: Agent, tmp_path: Path) -> None:
    assert agent.write_file(bytes(tmp_path / "none"), b"x", create=False).errno_name == "ENOENT"


def test_advice_goes_to_another_process_by_its_start_time(agent: Agent) -> None:
    child = agent.spawn()
    page, cold = agent.hello.page_size, 20
    base = child.map(4 * page).value
    assert child.touch(base, 4 * page, write=1).value == 4
    start_time = next(process.start_time for process in agent.processes() if process.pid == child.pid)
    ranges = [(base, page), (base + 2 * page, page)]
    assert agent.advise_process(child.pid, ranges, cold, start_time=start_time + 1).errno_name == "ESRCH"
    assert agent.advise_process(child.pid, ranges, 12345).errno_name == "EINVAL"
    if os.geteuid() != 0:
        # Another process takes CAP_SYS_NICE, even one of the same user (process_madvise(2)).
        assert agent.advise_process(child.pid, ranges, cold, start_time=start_time).errno_name == "EPERM"
        return
    assert agent.advise_process(child.pid, ranges, cold, start_time=start_time).value == 2 * page
    assert agent.advise_process(child.pid, [(base, page), (0x1000, page)], cold).value == page


def test_a_32_bit_agent_serves_on_a_64_bit_kernel(start: Callable[..., Agent], agent: Agent) -> None:
    from vmatlas_agents import target_for
    from vmatlas_agents.build import BuildFailed, build, ziglang

    if os.uname().machine != "x86_64":
        pytest.skip("i686 agents run on x86_64 only")
    try:
        narrow = build(target_for("linux", "i686"), ziglang(target_for("linux", "i686")))[0]
    except BuildFailed as error:
        pytest.skip(f"the i686 agent cannot be built here: {error}")
    alone = start(narrow)
    assert alone.hello.pointer_bits == 32
    child = agent.spawn(bytes(narrow))
    for process in (alone.itself, child):
        found = records(dict(agent.itself.acquire(PROCMAP, process.pid, flags=WALK)))
        assert found and all(fields[4] <= 2**32 for fields, _, _ in found)
        own = records(dict(process.acquire(PROCMAP, flags=WALK)))
        assert [fields[3:5] for fields, _, _ in own] == [fields[3:5] for fields, _, _ in found]
        assert process.map(agent.hello.page_size, address=0x20000000).value == 0x20000000
        with pytest.raises(AgentRefused):
            process.unmap(2**40, 4096)


def test_threads_are_told_through_an_agent_as_they_are_here(agent: Agent) -> None:
    program = "import threading; threading.Thread(target=input).start(); print(flush=True); threading.Event().wait()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            until = time.monotonic() + PATIENCE
            with vmatlas.open(process.pid) as here, vmatlas.open(process.pid, target=AgentTarget(agent)) as there:
                threads = None
                while threads is None or any(each.untold for each in threads):  # one is on its way to wait
                    assert time.monotonic() < until
                    threads = here.threads()
                assert there.threads() == threads
                assert len(threads) == 2
                assert there.snapshot(threads=True).origin.threads == threads
        finally:
            process.kill()
    with vmatlas.open(target=AgentTarget(agent)) as itself:
        told = itself.threads()
        assert told is not None
        assert [thread.number for thread in told] == [itself.pid]
