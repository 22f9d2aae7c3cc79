"""Processes of this machine that are chosen by name, user, tree, cgroup, unit, container, pidfile: each of the test's
own making, and held to what ps, pgrep, psutil and the kernel's files tell of them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vmatlas
from tests.conftest import unshared
from vmatlas import NoSuchProcess, UsageError
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux.proc import process_of_thread
from vmatlas.target.local import LOCAL

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are processes of Linux")

TREE = """
import os, sys, time
def branch(depth):
    for _ in range(2 if depth else 0):
        if os.fork() == 0:
            branch(depth - 1)
            break
    else:
        pass
os.setpgid(0, 0)
branch(3)
sys.stdout.write(f"{os.getpid()}\\n"); sys.stdout.flush()
time.sleep(1000)
"""
NODES = 15


@contextlib.contextmanager
def running(*command: object, **how: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # type: ignore[call-overload]
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def become(name: str, pid: int) -> None:
    """Wait until a process that was started has become the program of that name."""
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}/comm").read_text().rstrip("\n") != name[:15]:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Iterator[object]]:
    """Starts a program of any name, ended with the test: its number."""
    with contextlib.ExitStack() as stack:

        def start(name: str, script: bool = False) -> int:
            path = tmp_path / name
            if not path.exists():
                if script:
                    path.write_text("#!/bin/sh\nread line\n")
                    path.chmod(0o755)
                else:
                    shutil.copy(str(shutil.which("sleep")), path)
            process = stack.enter_context(running(path, *([] if script else ["1000"])))
            become(name, process.pid)
            return process.pid

        yield start  # type: ignore[misc]


def pids(*words: object) -> list[int]:
    return [each.pid for each in vmatlas.select(*words)]  # type: ignore[arg-type]


UNIQUE = f"w{os.getpid():x}"
"""So does no other run of tests call its programs."""


# By name


def test_a_name_is_the_whole_name_or_a_pattern(named):
    one, other = named(f"{UNIQUE}-a"), named(f"{UNIQUE}-ab")
    assert pids(f"name:{UNIQUE}-a") == [one]
    assert pids(f"name:{UNIQUE}-*") == pids(f"name:{UNIQUE}-a", f"name:{UNIQUE}-[a]b") == sorted([one, other])
    with pytest.raises(NoSuchProcess, match="no process is called"):
        pids(f"name:{UNIQUE.upper()}-a")
    if shutil.which("pgrep"):
        told = subprocess.run(["pgrep", "-x", f"{UNIQUE}-ab"], capture_output=True, text=True, timeout=PATIENCE).stdout
        assert [int(pid) for pid in told.split()] == pids(f"name:{UNIQUE}-ab")


def test_a_name_that_is_longer_than_the_kernel_keeps_is_told_from_its_like(named):
    long = f"{UNIQUE}-" + "x" * 20
    one, other = named(f"{long}1"), named(f"{long}2")
    assert pids(f"name:{long}1") == [one]
    assert pids(f"name:{long}?") == sorted([one, other])
    assert pids(f"name:{long[:15]}") == sorted([one, other]), "what ps shows"
    whole = named(long[:15])
    assert pids(f"name:{long[:15]}") == [whole], "who is really called so"
    assert pids(f"name:{long}1", f"!name:{long[:15]}") == [one]


def test_a_program_that_was_unlinked_and_one_that_is_called_so_are_found_by_their_names(named, tmp_path):
    gone, called = named(f"{UNIQUE}-gone-for-good"), named(f"{UNIQUE}-still-there (deleted)")
    (tmp_path / f"{UNIQUE}-gone-for-good").unlink()
    assert pids(f"name:{UNIQUE}-gone-for-good") == [gone]
    assert pids(f"name:{UNIQUE}-still-there (deleted)") == [called]


def test_a_pattern_that_may_fit_what_is_cut_off_a_name_is_no_answer_where_the_program_is_not_told(named, monkeypatch):
    """As for an ordinary user, who may not look at the programs of others."""
    pid = named(f"{UNIQUE}-" + "x" * 20 + "-daemon")
    whole = type(LOCAL.system).program_names

    def hidden(system, processes):
        told, gap = whole(system, processes)
        return {number: None if number == pid else name for number, name in told.items()}, gap

    assert pids(f"name:{UNIQUE}-*-daemon") == [pid]
    monkeypatch.setattr(type(LOCAL.system), "program_names", hidden)
    with pytest.raises(NoSuchProcess) as refused:
        pids(f"name:{UNIQUE}-*-daemon")
    assert f"{pid} {UNIQUE}-" in str(refused.value.incomplete)
    with pytest.raises(NoSuchProcess) as refused:  # nothing that begins so is called like that
        pids(f"name:{UNIQUE}-y*-daemon")
    assert str(pid) not in str(refused.value.incomplete)


def test_a_script_is_found_by_its_name_which_its_program_has_not(named):
    long = f"{UNIQUE}-script-of-a-long-name.sh"
    script = named(long, script=True)
    chosen = vmatlas.select(f"name:{long}")
    assert [each.pid for each in chosen] == [script]
    (note,) = chosen.notes  # nobody tells whether it is the one that was meant
    assert long[:15] in note and note.endswith(f"which may be another's: {script}")
    assert vmatlas.select(f"name:{long[:15]}").notes == ()
    assert script in pids(f"name:{os.path.basename(os.readlink('/bin/sh')) or 'sh'}")


def test_one_that_calls_itself_otherwise_is_found_by_its_program(named, tmp_path):
    path = tmp_path / f"{UNIQUE}-py"
    path.symlink_to(sys.executable)
    rename = "open('/proc/self/comm', 'w').write('MainThread'); print('there', flush=True); input()"
    with running(sys.executable, "-c", rename) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        program = os.path.basename(os.readlink(f"/proc/{process.pid}/exe"))
        assert process.pid in pids(f"name:{program}") and process.pid in pids("name:MainThread")


def test_a_program_that_was_replaced_has_its_name_still(named, tmp_path):
    pid = named(f"{UNIQUE}-upgraded-server-1")
    (tmp_path / f"{UNIQUE}-upgraded-server-1").unlink()
    assert os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    assert pids(f"name:{UNIQUE}-upgraded-server-1") == [pid]


SELECT = "import sys, vmatlas; print([each.pid for each in vmatlas.select(*sys.argv[1:])], flush=True)"


def test_the_one_who_asks_is_never_meant_by_a_pattern(named):
    other = named(f"{UNIQUE}-other")
    with pytest.raises(NoSuchProcess):
        pids(f"name:{Path('/proc/self/comm').read_text().strip()}", "!all")
    own = Path("/proc/self/comm").read_text().strip()
    with contextlib.suppress(NoSuchProcess):
        assert os.getpid() not in pids(f"name:{own}")
    mine = pids(f"user:{os.geteuid()}")
    assert other in mine and os.getpid() not in mine
    assert os.getpid() in pids("all") and pids("self") == [os.getpid()]
    assert os.getpid() in pids("children:self")


NEIGHBOUR = """
import os
os.setpgid(0, int(input()))
print("there", flush=True)
input()
"""
SELECT_LATER = f"input(); {SELECT}"


def test_nobody_is_hidden_by_who_it_stands_beside(tmp_path):
    """A child of the same shell may join the group of the one who asks, as what stands in one pipeline with it does."""
    name = f"{UNIQUE}-neighbour"
    rename = f"open('/proc/self/comm', 'w').write({name!r})"
    with (
        running(sys.executable, "-c", f"{rename}{NEIGHBOUR}") as neighbour,
        running(
            sys.executable, "-c", SELECT_LATER, f"name:{name}", f"children:{os.getpid()}", preexec_fn=os.setpgrp
        ) as asker,
    ):
        assert neighbour.stdin is not None and neighbour.stdout is not None
        neighbour.stdin.write(f"{asker.pid}\n")
        neighbour.stdin.flush()
        assert neighbour.stdout.readline() == "there\n"
        assert os.getpgid(neighbour.pid) == asker.pid != os.getpgrp()
        told, _ = asker.communicate("go\n", timeout=PATIENCE)
        chosen = [int(pid) for pid in told.strip("[]\n").split(", ")]
        assert neighbour.pid in chosen and asker.pid not in chosen


# By user, by tree


def test_a_user_is_a_name_or_a_number(named):
    pid = named(f"{UNIQUE}-of")
    mine = pids(f"user:{os.geteuid()}")
    assert pid in mine
    ps = subprocess.run(["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True, timeout=PATIENCE)
    assert int(ps.stdout) == os.geteuid()
    import pwd

    assert pid in pids(f"user:{pwd.getpwuid(os.geteuid()).pw_name}")
    with pytest.raises(UsageError, match="there is no user"):
        pids("user:no such user")
    with pytest.raises(NoSuchProcess, match="rights of user"):
        pids("user:4000000123")


def test_a_tree_is_what_psutil_finds():
    psutil = pytest.importorskip("psutil")
    with running(sys.executable, "-c", TREE) as root:
        assert root.stdout is not None
        found = {int(root.stdout.readline()) for _ in range(NODES)}
        try:
            theirs = {each.pid for each in psutil.Process(root.pid).children(recursive=True)}
            ours = pids(f"children:{root.pid}")
            assert set(ours) == theirs | {root.pid} == found
            one = next(pid for pid in theirs if psutil.Process(pid).children())
            assert set(pids(f"children:{root.pid}", f"!children:{one}")) == found - set(pids(f"children:{one}"))
            # One whose parent ends has another parent then.
            below = {each.pid for each in psutil.Process(one).children()}
            os.kill(one, signal.SIGKILL)
            wait_until_gone(one)
            assert not below & set(pids(f"children:{root.pid}"))
        finally:
            os.killpg(root.pid, signal.SIGKILL)
    with pytest.raises(NoSuchProcess):
        pids(f"children:{root.pid}")


def wait_until_gone(pid: int) -> None:
    """Until it is a zombie, or no more: its children have another parent then."""
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}") and state(pid) not in "ZX":
        assert time.monotonic() < deadline
        time.sleep(0.005)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return "X"


# By a pidfile


def test_a_pidfile_names_one_and_a_stale_one_says_so(named, tmp_path):
    pid = named(f"{UNIQUE}-daemon")
    file = tmp_path / "daemon.pid"
    file.write_text(f" {pid}\n/var/lib/data\n5432\n")
    chosen = vmatlas.select(f"pidfile:{file}")
    assert [each.pid for each in chosen] == [pid] and chosen.notes == ()
    os.utime(file, (10**9, 10**9))  # the number was given again
    with pytest.raises(NoSuchProcess, match=f"is stale: process {pid} .* started after it was last written") as stale:
        pids(f"pidfile:{file}")
    assert f"pid:{pid}" in (stale.value.hint or "")
    with running("true") as done:
        done.wait(PATIENCE)
        file.write_text(str(done.pid))
        with pytest.raises(NoSuchProcess, match="is stale"):
            pids(f"pidfile:{file}")
    zombie = subprocess.Popen(["true"])
    try:
        wait_until_gone(zombie.pid)
        file.write_text(str(zombie.pid))
        with pytest.raises(NoSuchProcess, match="zombie"):
            pids(f"pidfile:{file}")
    finally:
        zombie.wait(PATIENCE)


@pytest.mark.parametrize("said", [b"", b"\n", b"daemon", b"-5", b"0", b"1" * 5000, b"4294967296", b"\xff1", b"1.5"])
def test_a_file_without_a_number_is_no_pidfile(tmp_path, said):
    file = tmp_path / "x.pid"
    file.write_bytes(said)
    with pytest.raises(UsageError, match="no pidfile"):
        pids(f"pidfile:{file}")


def test_what_is_no_file_is_no_pidfile_and_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UsageError):
            pids(f"pidfile:{path}")
    with pytest.raises(NoSuchProcess, match="there is no pidfile"):
        pids(f"pidfile:{tmp_path}/nothing")


IN_ANOTHER_NAMESPACE = """
import os, pathlib, subprocess, sys, vmatlas
inner = "mount -t tmpfs none /mnt; cd /mnt; sleep 60 & echo $! > child.pid; echo $$ > app.pid; echo 99 > no.pid; " \\
    "cp /mnt/app.pid /tmp; echo; exec cat"
there = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inner],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
there.stdout.readline()
below = [each for each in vmatlas.select(f"children:{there.pid}") if each.pid != there.pid]
first = min(each.pid for each in below)
for name in "app", "child":
    chosen = vmatlas.select(f"pidfile:/proc/{first}/root/mnt/{name}.pid")
    print(name, [each.pid == first for each in chosen], chosen[0].pid in {each.pid for each in below}, chosen.notes)
def refused(path):
    try:
        print("told", vmatlas.select(f"pidfile:{path}")[0])
    except vmatlas.VmatlasError as error:
        print(error.message.replace(str(first), "FIRST"))
refused(f"/proc/{first}/root/mnt/no.pid")
os.symlink(f"/proc/{first}/root/mnt/app.pid", "/tmp/link.pid")
refused("/tmp/link.pid")
refused(f"/proc/{first}/root/proc/{first}/root/mnt/app.pid")
print([each.pid for each in vmatlas.select("pidfile:/tmp/app.pid")])
own = pathlib.Path("/tmp/own.pid")
own.write_text(str(os.getpid()))
print(vmatlas.select("pidfile:/proc/self/root/tmp/own.pid")[0].pid == os.getpid())
there.kill()
there.wait()
"""


def test_a_pidfile_that_is_named_through_a_process_has_numbers_of_its_namespace():
    script = 'mount -t tmpfs none /tmp && exec "$1" -c "$2"'
    told = unshared("--mount --pid --fork --mount-proc", script, IN_ANOTHER_NAMESPACE)
    assert told == [
        "app [True] True ()",
        "child [False] True ()",
        "/proc/FIRST/root/mnt/no.pid is stale: in the pid namespace of process FIRST there is no process 99",
        "/tmp/link.pid lies in another mount namespace: of which pid namespace its number is cannot be told",
        "/proc/FIRST/root/proc/FIRST/root/mnt/app.pid goes through two processes: whose number it has cannot be told",
        "[1]",
        "True",
    ]


# Who it was


def test_another_process_that_got_the_number_is_not_taken_for_the_one_that_was_chosen(named):
    [chosen] = vmatlas.select(f"name:{UNIQUE}-old", named(f"{UNIQUE}-old"))
    assert chosen.start_time is not None
    other = replace(chosen, start_time=chosen.start_time - 1)
    [told] = vmatlas.memories(among=[other])
    assert isinstance(told.error, NoSuchProcess) and "another's now" in str(told.error) and told.memory is None
    [asked] = vmatlas.survey(lambda process: process.pid, among=[other])
    assert isinstance(asked.error, NoSuchProcess) and asked.answer is None
    [own] = vmatlas.memories(among=[chosen])
    assert own.error is None and own.memory is not None and own.memory.resident


def test_one_that_ends_after_it_was_chosen_is_told_as_ended(named):
    with running("sleep", "1000") as process:
        [chosen] = vmatlas.select(process.pid)
        [zombie] = [each for each in vmatlas.memories(among=[chosen]) if each.error is None]
        process.kill()
        wait_until_gone(process.pid)
        [zombie] = vmatlas.memories(among=[chosen])
        assert isinstance(zombie.error, NoSuchProcess)
    [gone] = vmatlas.memories(among=[chosen])
    assert isinstance(gone.error, NoSuchProcess)
    [(_, space)] = vmatlas.snapshots(among=[chosen])
    assert isinstance(space, NoSuchProcess)


COUNT = """
import os, sys, vmatlas
vmatlas.select("self")
opened = []
sys.addaudithook(lambda event, told: opened.append(str(told[0])) if event == "open" else None)
vmatlas.select(*sys.argv[1:])
of_processes = [path.split("/")[2:] for path in opened if path.startswith("/proc/") and path.split("/")[2].isdigit()]
print(sorted({each[1] for each in of_processes if len(each) > 1}))  # a folder: of one whose first thread has ended
"""


@pytest.mark.parametrize("words", [["name:nobody*", "self"], ["children:1"], ["all"]])
def test_of_each_process_its_stat_is_read_and_nothing_else_unless_it_is_asked_for(words):
    done = subprocess.run([sys.executable, "-c", COUNT, *words], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.strip() == "['stat']", done
    more = [sys.executable, "-c", COUNT, f"user:{os.geteuid()}"]
    done = subprocess.run(more, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.startswith("['stat', 'status']"), done


# By cgroup, unit, container


_SLICES = itertools.count()


def mounted(version: int) -> str:
    """Where this machine has cgroup v2, or the memory controller of v1; the test is skipped where it may not write."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        wanted = kind == "cgroup2" if version == 2 else kind == "cgroup" and "memory" in options.split(",")
        if wanted and words.split()[3] == "/":
            point = words.split()[4]
            if os.access(point, os.W_OK):
                return point
            pytest.skip(f"cgroups at {point} are not for this user to make")
    pytest.skip(f"cgroup v{version}{' with the memory controller' if version == 1 else ''} is not mounted here")


@contextlib.contextmanager
def cgroup(version: int, *below: str) -> Iterator[Path]:
    """A cgroup of the test's own, in a slice of its own; what is in it is ended with it."""
    top = Path(mounted(version)) / f"{UNIQUE}-{next(_SLICES)}.slice"
    folder = top.joinpath(*below)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        yield folder
    finally:
        for each in [Path(path) for path, _, _ in os.walk(top, topdown=False)]:
            remove(each)


def remove(folder: Path) -> None:
    """A process that was killed is in its cgroup for a moment still."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return folder.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{folder} is not empty"
            time.sleep(0.01)


@contextlib.contextmanager
def inside(folder: Path, program: str = "input()") -> Iterator[subprocess.Popen[str]]:
    with running(sys.executable, "-c", f"input(); {program}") as process:
        try:
            (folder / "cgroup.procs").write_text(str(process.pid))
        except OSError as error:
            pytest.skip(f"no process may be put into a cgroup: {error}")
        yield process


def test_a_cgroup_holds_those_below_it_too():
    with cgroup(2, "a", "b") as folder, inside(folder) as lower, inside(folder.parent) as upper:
        path = Path(f"/proc/{lower.pid}/cgroup").read_text().rpartition("0::")[2].strip()
        above = os.path.dirname(path)
        assert pids(f"cgroup:{path}") == [lower.pid]
        assert pids(f"cgroup:{above}") == pids(f"cgroup:{above}/") == sorted([lower.pid, upper.pid])
        assert pids(f"cgroup:{folder}") == [lower.pid], "by its folder, as people find it"
        with pytest.raises(NoSuchProcess, match="no process is in the cgroup"):
            pids(f"cgroup:{above}/bb")
        with pytest.raises(UsageError, match="from the root"):
            pids("cgroup:a/b")


def test_a_unit_is_found_by_the_cgroup_of_its_name():
    name = rf"{UNIQUE}\x2dx@1.service"
    with cgroup(2, name, "worker") as folder, inside(folder) as process:
        plain = f"{UNIQUE}-x@1"
        assert pids(f"unit:{name}") == pids(f"unit:{plain}") == pids(f"unit:{UNIQUE}-x@*") == [process.pid]
        assert process.pid in pids(f"unit:{folder.parent.parent.name}")
        [group] = vmatlas.group_memories(vmatlas.memories(among=vmatlas.select(process.pid)), "unit")
        assert (group.key, group.pids) == (name, (process.pid,))
    with pytest.raises(NoSuchProcess, match="has no process") as raised:
        pids(f"unit:{UNIQUE}-x@1")
    assert "units" in (raised.value.hint or "")


def test_a_container_is_found_by_its_number_or_the_beginning_of_it():
    first, second = f"{os.getpid():08x}" + "ab" * 28, f"{os.getpid():08x}" + "cd" * 28
    with (
        cgroup(2, f"docker-{first}.scope", "init") as folder,
        inside(folder) as one,
        cgroup(2, f"libpod-{second}.scope") as other,
        inside(other) as two,
    ):
        assert pids(f"container:{first}") == pids(f"container:{first[:12]}") == [one.pid]
        assert pids(f"container:{second[:12]}") == [two.pid]
        both = vmatlas.select(f"container:{first[:8]}")
        assert {each.pid for each in both} == {one.pid, two.pid}, "neither takes the other's place"
        assert [first in note and second in note for note in both.notes] == [True]
        with pytest.raises(NoSuchProcess) as raised:
            pids(f"container:{first[:5]}")
        assert first[:12] in (raised.value.hint or "")
        groups = vmatlas.group_memories(vmatlas.memories(among=vmatlas.select(one.pid, two.pid)), "container")
        assert {group.key for group in groups} == {first[:12], second[:12]}


POD = "6f0e2ab7-9d35-4c3e-8f6b-0a3f6e6b7d11"
PODS = {
    "containerd by systemd": (
        "kubepods.slice",
        "kubepods-burstable.slice",
        f"kubepods-burstable-pod{POD.replace('-', '_')}.slice",
        "cri-containerd-ID.scope",
    ),
    "CRI-O by systemd": ("kubepods.slice", f"kubepods-pod{POD.replace('-', '_')}.slice", "crio-ID.scope", "container"),
    "containerd by cgroupfs": ("kubepods", "burstable", f"pod{POD}", "ID"),
    "CRI-O by cgroupfs": ("kubepods", "besteffort", f"pod{POD}", "crio-ID"),
    "containerd and a kubelet that do not agree": (
        "containerd.service",
        f"kubepods-besteffort-pod{POD.replace('-', '_')}.slice:cri-containerd:ID",
    ),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("layout", PODS)
def test_a_container_of_a_pod_is_found_in_the_cgroups_that_each_makes(layout, version):
    number = f"{os.getpid():08x}" + "12" * 28
    way = [part.replace("ID", number) for part in PODS[layout]]
    with cgroup(version, *way) as folder, inside(folder) as process:
        assert pids(f"container:{number}") == pids(f"container:{number[:12]}") == [process.pid]
        [told] = vmatlas.memories(among=vmatlas.select(process.pid))
        [group] = vmatlas.group_memories([told], "container")
        assert (group.key, group.pids) == (number[:12], (process.pid,))
        if version == 1:  # the hierarchy that counts memory here
            [counted] = group.cgroups
            assert parts_of_container(counted.path, number), counted
            assert counted.current is not None, counted  # of what was put there later nothing may be counted yet


def parts_of_container(path: str, number: str) -> bool:
    """Whether a path ends with what is called by the number of a container, and no folder below it."""
    return number in os.path.basename(path)


def test_a_container_that_ends_meanwhile_is_told_as_ended():
    number = f"{os.getpid():08x}" + "ef" * 28
    with cgroup(2, f"docker-{number}.scope") as folder, inside(folder) as process:
        chosen = vmatlas.select(f"container:{number}")
        process.kill()
        process.wait(PATIENCE)
        remove(folder)
        folder.mkdir()  # the fixture removes it
        [told] = vmatlas.memories(among=chosen)
        assert isinstance(told.error, NoSuchProcess)
        with pytest.raises(NoSuchProcess, match="no process is in a container"):
            vmatlas.select(f"container:{number}")
        assert all(each.untold or each.current is not None for each in vmatlas.cgroup_memories(chosen))


TOUCH = "import mmap; m = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); "
TOUCH += "m.write(b'x' * (8 << 20)); print('there', flush=True); input()"


@pytest.mark.parametrize("version", [1, 2])
def test_the_counters_of_a_cgroup_are_those_of_the_kernel(version):
    with cgroup(version, f"{UNIQUE}.service") as folder, inside(folder, TOUCH) as process:
        if version == 2:
            with contextlib.suppress(OSError):
                (folder.parent / "cgroup.subtree_control").write_text("+memory")
        if version == 2 and not (folder / "memory.current").exists():
            pytest.skip("cgroup v2 has no memory controller here")
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "there\n"
        chosen = vmatlas.select(f"unit:{UNIQUE}")
        [counted] = vmatlas.cgroup_memories(chosen)
        assert counted.untold is None and counted.current is not None and counted.anonymous is not None
        assert counted.anonymous >= 8 << 20 and counted.current >= counted.anonymous
        file = "memory.current" if version == 2 else "memory.usage_in_bytes"
        assert abs(counted.current - int((folder / file).read_text())) < 4 << 20, "it stands still, but for caches"
        [told] = vmatlas.memories(among=chosen)
        assert told.memory is not None and told.memory.anonymous is not None
        assert told.memory.anonymous >= 8 << 20
        [group] = vmatlas.group_memories([told], "unit")
        assert [each.path for each in group.cgroups] == [counted.path]


def test_where_memory_is_counted_with_others_no_counter_is_told():
    """Where v1 has the memory controller a cgroup of v2 counts none."""
    mounted(1)
    with cgroup(2, f"{UNIQUE}.service") as folder, inside(folder):
        chosen = vmatlas.select(f"unit:{UNIQUE}")
        assert chosen.cgroups == () and vmatlas.cgroup_memories(chosen) == []


# At the other end of a wire


def test_through_an_agent_names_users_and_trees_are_told_as_here(named, binary):
    pid = named(f"{UNIQUE}-there")
    with vmatlas.connect(f"agent:{binary}") as place:  # type: ignore[attr-defined]
        chosen = vmatlas.select(f"name:{UNIQUE}-ther*", target=place)  # another test's may be a zombie yet
        assert [each.pid for each in chosen] == [pid] and chosen[0].start_time is not None
        assert pid in [each.pid for each in vmatlas.select(f"user:{os.geteuid()}", target=place)]
        assert pid in [each.pid for each in vmatlas.select(f"children:{os.getpid()}", target=place)]
        [told] = vmatlas.memories(place, among=chosen)
        assert told.memory is not None and told.memory.resident
        other = replace(chosen[0], start_time=chosen[0].start_time - 1)
        [told] = vmatlas.memories(place, among=[other])
        assert isinstance(told.error, NoSuchProcess) and told.memory is None
        agent = vmatlas.select("self", target=place)[0].pid
        assert agent != os.getpid() and agent not in [each.pid for each in vmatlas.select("name:*", target=place)]
        for word in (f"user:{os.environ.get('USER', 'root')}", "unit:x.service", "pidfile:/run/x.pid"):
            with pytest.raises((UsageError, vmatlas.Unsupported)):
                vmatlas.select(word, target=place)


THREAD = """
import sys, threading
thread = threading.Thread(target=sys.stdin.read, daemon=True)
thread.start()
print(thread.native_id, flush=True)
thread.join()
"""


def test_the_number_of_a_thread_is_no_process(tmp_path: Path) -> None:
    with running(sys.executable, "-c", THREAD) as process:
        assert process.stdout is not None
        thread = int(process.stdout.readline())
        (pidfile := tmp_path / "pid").write_text(f"{thread}\n")
        told = f"{thread} is a thread of process {process.pid}, and no process"
        asked = thread, f"pid:{thread}", f"children:{thread}", f"pidfile:{pidfile}"
        for ask in (lambda: vmatlas.open(thread), *(lambda word=word: vmatlas.select(word) for word in asked)):
            with pytest.raises(NoSuchProcess, match=told) as raised:
                ask()
            assert f"vmatlas maps {process.pid} --thread {thread}" in (raised.value.hint or "")
        both = vmatlas.select(process.pid, thread)
        assert [each.pid for each in both] == [process.pid]
        assert [word for word, _ in both.unmatched] == [str(thread)]
        assert vmatlas.snapshot(process.pid, thread=thread).origin.thread == thread


def test_nor_is_it_through_an_agent(binary: Path) -> None:
    with running(sys.executable, "-c", THREAD) as process, vmatlas.connect(f"agent:{binary}") as place:
        assert process.stdout is not None
        thread = int(process.stdout.readline())
        told = f"{thread} is a thread of process {process.pid}, and no process"
        asked = (str(thread), f"pid:{thread}", f"children:{thread}")
        by_words = [lambda word=word: vmatlas.select(word, target=place) for word in asked]
        for ask in (
            lambda: vmatlas.open(thread, target=place),
            lambda: vmatlas.memory(thread, target=place),
            *by_words,
        ):
            with pytest.raises(NoSuchProcess, match=told) as raised:
                ask()
            assert f"vmatlas maps {process.pid} --thread {thread}" in (raised.value.hint or "")
        by_thread = vmatlas.snapshot(process.pid, thread=thread, target=place)
        assert by_thread.origin.thread == thread and len(by_thread) > 3
        assert thread not in [each.pid for each in place.processes()]


def test_nor_is_that_of_a_thread_of_ones_own() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, args=(PATIENCE,))
    thread.start()
    try:
        assert thread.native_id is not None
        with pytest.raises(NoSuchProcess, match=f"is a thread of process {os.getpid()}"):
            vmatlas.snapshot(thread.native_id)
        assert len(vmatlas.snapshot(os.getpid(), thread=thread.native_id)) > 3
    finally:
        ended.set()
        thread.join()


def test_a_kernel_without_pidfd_open_tells_threads_by_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> int:
        raise OSError(errno.ENOSYS, "none")

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    test_nor_is_that_of_a_thread_of_ones_own()
    assert process_of_thread(os.getpid()) is None
    assert process_of_thread(2**31 - 1) is None
