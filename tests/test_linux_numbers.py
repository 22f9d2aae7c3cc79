"""Numbers that mean somebody else (pid namespaces), and processes that /proc hides (hidepid): on the real kernel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from tests.conftest import as_root, unshared
from vmatlas.conformance.patience import PATIENCE

FOREIGN = "/proc is of another pid namespace"


# a number that was given to another process

HANDED_OVER = """
import asyncio, multiprocessing, subprocess, sys, time, vmatlas
from vmatlas import operations

def reuse(number):
    for _ in range(100):
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                last.write(str(number - 1))
        except OSError as error:
            sys.exit(print("SKIP the kernel gives no chosen number:", error))
        other = subprocess.Popen(["sleep", "60"])
        if other.pid == number:
            return other
        other.kill()
        other.wait()
    sys.exit(print("SKIP the number was not given again"))

def among(handed):
    [each] = vmatlas.survey(lambda process: process.snapshot(), among=handed)
    if each.error is None:
        return each.answer
    raise each.error

def among_all(handed):
    [each] = vmatlas.memories(among=[handed])
    if each.error is None:
        return each.memory
    raise each.error

def ask(what, handed):
    time.sleep(0.05)  # start times are counted in hundredths of a second: psutil, too, knows them so
    other = reuse(handed.pid)
    for question in (vmatlas.snapshot, vmatlas.memory, vmatlas.open, vmatlas.capture, vmatlas.select,
                     lambda one: vmatlas.find(one, 0, or_next=True), lambda one: vmatlas.find_many(one, [0]),
                     lambda one: next(vmatlas.iterate(one)), lambda one: next(vmatlas.watch(one, 0.01)),
                     lambda one: operations.classify_fault(0, one), lambda one: operations.explain(one),
                     lambda one: operations.advise(one, [(0, 4096)], operations.Advice.COLD),
                     lambda one: vmatlas.symbolize_many(one, [0]),
                     lambda one: vmatlas.recover(one, 0, "/nowhere/at/all"),
                     lambda one: next(vmatlas.record_series(one, "/nowhere/at/all")), among, among_all):
        try:
            print("told:", what, question(handed))
        except vmatlas.NoSuchProcess as error:
            print(what, error.pid == handed.pid, "no more" if "no more" in error.message else "ended")
    other.kill()
    other.wait()

def ended():
    done = subprocess.Popen(["true"])
    done.wait()
    return done

ask("subprocess", ended())
joined = multiprocessing.get_context("fork").Process(target=int)
joined.start()
joined.join()
ask("multiprocessing", joined)

async def begun():
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    return process

ask("asyncio", asyncio.run(begun()))
import psutil
for kind in (subprocess, psutil):
    lived = kind.Popen(["cat"], stdin=subprocess.PIPE)
    seen = psutil.Process(lived.pid)
    assert len(vmatlas.snapshot(seen)) and len(vmatlas.select(seen)) == 1 and len(vmatlas.snapshot(lived))
    lived.communicate()
    ask("psutil", seen)
ask("psutil's child", lived)
"""


def test_a_thing_that_stands_for_an_ended_process_never_means_who_has_its_number_now() -> None:
    pytest.importorskip("psutil")
    lines = unshared("--pid --fork --mount-proc", 'exec "$1" -c "$2"', HANDED_OVER)
    if lines[-1].startswith("SKIP"):
        pytest.skip(lines[-1])
    whom = ("subprocess", "multiprocessing", "asyncio", "psutil", "psutil", "psutil's child")
    assert len(lines) == 17 * len(whom), lines
    for number, line in enumerate(lines):
        assert line in {f"{whom[number // 17]} True {how}" for how in ("ended", "no more")}


# /proc of another pid namespace

ASK_ABOUT_A_CHILD = """
import os, subprocess, sys
child = subprocess.Popen(["/bin/sleep", "60"])
for command in (["maps", str(child.pid)], ["find", str(child.pid), "1000"], ["summary", str(child.pid)],
                ["advise", str(child.pid), "--cold", "--dry-run"], ["maps", "self"], ["processes"], ["audit", "--all"],
                ["summary", "--all"], ["record", str(child.pid), "-o", f"/tmp/{child.pid}.none"]):
    run = "import sys; from vmatlas.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", run, *command], capture_output=True, text=True)
    print(done.returncode, " ".join(command[:1]), done.stderr.replace("\\n", " "))
child.kill()
child.wait()
"""


def test_own_child_is_not_asked_for_by_a_number_that_means_another() -> None:
    lines = unshared("--pid --fork", '"$1" -c "$2"', ASK_ABOUT_A_CHILD)
    assert len(lines) == 9
    for line in lines:
        assert line.startswith("5 ")
        assert FOREIGN in line
        assert "hint: mount -t proc proc /proc" in line


ASK_ABOUT_A_FOLDER_OF_ANOTHER = """
import os, subprocess, sys, vmatlas
one, other, third = (subprocess.Popen(["/bin/sleep", "60"]) for _ in range(3))
subprocess.run(["mount", "--bind", f"/proc/{other.pid}", f"/proc/{one.pid}"], check=True)
for ask in (vmatlas.snapshot, vmatlas.memory, lambda pid: vmatlas.find(pid, 0)):
    try:
        print(f"told: {ask(one.pid)}")
    except vmatlas.AccessDenied as error:
        print(str(error).replace(str(one.pid), "ONE").replace(str(other.pid), "OTHER"), error.hint)
subprocess.run(["mount", "-t", "tmpfs", "none", f"/proc/{third.pid}"], check=True)
try:
    print(f"told: {vmatlas.snapshot(third.pid)}")
except vmatlas.AccessDenied as error:
    print(str(error).replace(str(third.pid), "THIRD"))
listed = vmatlas.processes()
names = {each.pid: each.name for each in listed}
first = str(min(one.pid, third.pid))
print([names[each.pid] for each in (one, other, third)], listed.incomplete.replace(first, "FIRST"))
found = vmatlas.snapshots()
answers = {process.pid: type(answer).__name__ for process, answer in found}
print([answers[each.pid] for each in (one, other, third)], found.incomplete == listed.incomplete)
run = "import sys; from vmatlas.cli import main; sys.exit(main())"
print([subprocess.run([sys.executable, "-c", run, *command], capture_output=True).returncode
       for command in (["processes"], ["summary", "--all"])])
with vmatlas.connect("agent:" + sys.argv[1]) as board:
    names = {each.pid: each.name for each in vmatlas.processes(board)}
    print([names[each.pid] for each in (one, other, third)], vmatlas.processes(board).incomplete == listed.incomplete)
    for each in (one, third):
        try:
            print(f"told: {vmatlas.snapshot(each.pid, target=board)}")
        except vmatlas.AccessDenied as error:
            print(str(error))
print(len(vmatlas.snapshot(other.pid)) > 0)
for each in (one, other, third):
    each.kill()
    each.wait()
"""


ASK_ABOUT_A_FILE_OF_ANOTHER = """
import subprocess, sys, time, vmatlas
one, other = (subprocess.Popen(["/bin/sleep", "60"]) for _ in range(2))
for name in ("maps", "smaps", "smaps_rollup"):
    subprocess.run(["mount", "--bind", f"/proc/{other.pid}/{name}", f"/proc/{one.pid}/{name}"], check=True)
time.sleep(0.2)
mapped = lambda pid: vmatlas.snapshot(pid, residency=True)
asks = vmatlas.snapshot, vmatlas.memory, lambda pid: vmatlas.find(pid, 0), mapped
for ask in asks:
    try:
        print(f"told: {ask(one.pid)}")
    except vmatlas.AccessDenied as error:
        print(str(error).replace(str(one.pid), "ONE"), error.hint)
listed = vmatlas.processes()
print(one.pid in [each.pid for each in listed], listed.incomplete.replace(str(one.pid), "ONE"))
print(len(vmatlas.snapshot(other.pid)) > 0)
for each in (one, other):
    each.kill()
    each.wait()
"""


def test_what_is_mounted_over_a_file_of_a_process_is_not_told_for_it() -> None:
    lines = unshared("--mount --pid --fork --mount-proc", '"$1" -c "$2"', ASK_ABOUT_A_FILE_OF_ANOTHER)
    for line in lines[:4]:
        assert line.startswith("/proc/ONE does not tell of it: something else is mounted there"), lines
        assert " umount /proc/" in line
    assert lines[4:] == [
        "True process ONE is not shown as it is: something is mounted over /proc/ONE",
        "True",
    ]


def test_what_is_mounted_over_the_folder_of_a_process_is_told_from_it(binary: Path) -> None:
    lines = unshared(
        "--mount --pid --fork --mount-proc", '"$1" -c "$2" "$3"', ASK_ABOUT_A_FOLDER_OF_ANOTHER, str(binary)
    )
    for line in lines[:3]:
        assert line.startswith("/proc/ONE tells of process OTHER: something else is mounted there")
        assert "umount /proc/" in line
    assert lines[3].startswith("/proc/THIRD does not tell of it: something else is mounted there")
    covered = "process FIRST and 1 more is not shown as it is: something is mounted over /proc/FIRST"
    assert lines[4] == f"['', 'sleep', ''] {covered}"
    assert lines[5] == "['AccessDenied', 'AddressSpace', 'AccessDenied'] True"
    assert lines[6] == "[7, 7]"
    assert lines[7] == "['', 'sleep', ''] True"
    assert all("is hidden from the agent" in line for line in lines[8:10])
    assert lines[10:] == ["True"]


DOCTOR = """
import json, subprocess, sys
run = "import sys; from vmatlas.cli import main; sys.exit(main())"
done = subprocess.run([sys.executable, "-c", run, "doctor", "--json"], capture_output=True, text=True)
told = {each["name"]: each for each in json.loads(done.stdout)["backends"]}
for name in ("linux-procfs", "linux-ioctl"):
    print(done.returncode, told[name]["available"], told[name]["reason"])
"""


def test_doctor_says_that_a_proc_of_another_namespace_answers_nothing() -> None:
    for line in unshared("--pid --fork", '"$1" -c "$2"', DOCTOR):
        assert line.startswith(f"5 False {FOREIGN}")
        assert "mount -t proc proc /proc" in line
    for line in unshared("--mount", 'mount -t tmpfs none /proc && "$1" -c "$2"', DOCTOR):
        assert line.startswith("5 False /proc is not mounted: mount -t proc proc /proc")
    lines = unshared("--pid --fork --mount-proc", '"$1" -c "$2"', DOCTOR)
    assert lines[0].startswith("0 True")
    assert len(lines) == 2


ALIKE_IN_BOTH = """
import ctypes, os, signal, struct, sys, vmatlas
def born_as(number):
    wanted = (ctypes.c_int * 2)(number, number)  # in this namespace, and in the one above
    arguments = struct.pack("11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 2, 0)
    return ctypes.CDLL(None).syscall(435, ctypes.c_char_p(arguments), ctypes.c_size_t(len(arguments)))
for number in range(29000, 29100):
    made = born_as(number)
    if made != -1:
        break
if made == -1:
    print("refused")
elif made == 0:
    try:
        print(os.getpid(), os.readlink("/proc/self"), flush=True)
        for ask in (vmatlas.snapshot, lambda: vmatlas.snapshot(os.getpid()), lambda: list(vmatlas.processes()),
                    lambda: vmatlas.operations.advise(os.getpid(), [], vmatlas.operations.Advice.COLD)):
            try:
                print("answered", ask(), flush=True)
            except vmatlas.Unsupported as error:
                print(error, flush=True)
    finally:
        os._exit(0)
else:
    os.waitpid(made, 0)
"""


def test_proc_that_calls_us_alike_by_chance_is_not_taken_for_ours() -> None:
    as_root("choosing a number in two namespaces takes CAP_CHECKPOINT_RESTORE in both")
    lines = unshared("--pid --fork", '"$1" -c "import vmatlas.operations;$2"', ALIKE_IN_BOTH)
    if lines == ["refused"]:
        pytest.skip("clone3(2) with set_tid is refused here")
    own, shown = lines[0].split()
    assert own == shown
    assert len(lines) == 5
    for line in lines[1:]:
        assert line.startswith(f"{FOREIGN}, where this process happens to be {own}, too")


FORKED_INTO_ANOTHER = """
import ctypes, os, vmatlas
print(len(vmatlas.snapshot(os.getppid())) > 5, flush=True)  # here it is right: and believed from now on
assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID: for the children
child = os.fork()
if child == 0:
    try:
        vmatlas.snapshot(os.getpid())
    except vmatlas.Unsupported as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(vmatlas.snapshot(child := os.getppid())) > 5, flush=True)
"""


def test_child_that_is_forked_into_another_namespace_looks_for_itself() -> None:
    first, inside, again = unshared("--mount", '"$1" -c "$2"', FORKED_INTO_ANOTHER)
    assert (first, again) == ("True", "True")
    assert inside.startswith(FOREIGN)


INSIDE = """
import os, subprocess, sys, vmatlas
shell = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo $$; read _"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
try:
    inside = int(shell.stdout.readline())
    first = next(each.pid for each in vmatlas.processes() if each.parent == shell.pid)
    capture = vmatlas.capture(first)
    print(inside, capture.number_inside, vmatlas.replay(capture).origin.number_inside, vmatlas.capture().number_inside)
    from vmatlas.cli import main
    sys.argv = ["vmatlas", "maps", str(first), "--color", "always"]
    print(first, flush=True)
    main()
finally:
    shell.communicate("\\n")
"""


def test_the_title_of_a_map_has_the_number_inside_its_own_namespace() -> None:
    numbers, first, title, *_ = unshared("--mount", '"$1" -c "$2"', INSIDE)
    assert numbers == "1 1 1 None"
    assert f"process {first} (sh), 1 in its own pid namespace" in title


def test_proc_of_a_namespace_below_does_not_know_us() -> None:
    ask = "import vmatlas\ntry: vmatlas.snapshot(1)\nexcept vmatlas.Unsupported as error: print(error)"
    script = (
        "unshare --pid --fork --kill-child sleep 60 >/dev/null 2>&1 & upper=$!; "
        'until [ -n "$below" ]; do sleep 0.1; read below rest < /proc/$upper/task/$upper/children; done; '
        'nsenter --target $below --pid mount -t proc proc /proc; "$1" -c "$2"; code=$?; kill $upper; exit $code'
    )
    (line,) = unshared("--mount", script, ask)
    assert line.startswith(FOREIGN)
    assert "in which this process is not" in line


# hidepid

RUN = "import sys; from vmatlas.cli import main; sys.exit(main())"


@pytest.fixture
def of_root() -> Iterator[int]:
    """The number of a process that belongs to root."""
    as_root("mounting /proc with hidepid, and then being another user")
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process.pid
    process.kill()
    process.wait(PATIENCE)


def as_nobody(hidepid: str, script: str, *arguments: object) -> list[str]:
    """The lines of a Python script that an ordinary user runs under a /proc mounted so.

    Its one right, to enter the folders of the interpreter, is none over processes: see tests/as_user.
    """
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (package util-linux) is missing")
    right = "-all,+dac_read_search"
    user = (
        f"--reuid=65534 --regid=65534 --clear-groups --bounding-set={right} --inh-caps={right} --ambient-caps={right}"
    )
    shell = f'mount -t proc -o hidepid={hidepid} proc /proc && exec setpriv {user} "$@"'
    return unshared("--mount", shell, "-c", script, *map(str, arguments))


MODES = {"1": "noaccess", "2": "invisible", "4": "ptraceable"}
ASK_ABOUT = """
import sys, vmatlas
for pid in map(int, sys.argv[1:]):
    try:
        print("answered", vmatlas.snapshot(pid))
    except vmatlas.VmatlasError as error:
        print(type(error).__name__, error, "--", error.hint)
"""


@pytest.mark.parametrize("hidepid", MODES)
def test_hidden_process_is_told_from_none(of_root: int, hidepid: str) -> None:
    hidden, none = as_nobody(hidepid, ASK_ABOUT, of_root, 2**22 + 1)
    if hidepid == "4" and "hidepid=ptraceable" not in hidden and "hidepid" not in hidden:
        pytest.skip("hidepid=4 came with Linux 5.8")
    assert hidden.startswith(f"AccessDenied process {of_root} is hidden from this user")
    assert MODES[hidepid] in hidden or f"hidepid={hidepid}" in hidden
    assert "CAP_SYS_PTRACE" in hidden
    assert none.startswith("NoSuchProcess")


SURVEY = """
import sys, vmatlas
from vmatlas.cli import main
listing = vmatlas.processes()
found = list(listing)
print(len(found), sum(each.kernel is None for each in found), listing.incomplete)
answers = vmatlas.snapshots()
print(sorted({type(answer).__name__ for _, answer in answers}), answers.incomplete)
for command in (["audit", "--all"], ["summary", "--all"], ["processes"]):
    sys.stdout.flush()
    sys.argv = ["vmatlas", *command]
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    print("exit", int(code))
"""


@pytest.mark.parametrize("hidepid", MODES)
@pytest.mark.usefixtures("of_root")
def test_survey_that_could_not_see_everyone_says_so(hidepid: str) -> None:
    lines = as_nobody(hidepid, SURVEY)
    listed, nameless, *why = lines[0].split(None, 2)
    if hidepid == "1":
        assert int(listed) > int(nameless) > 0
        assert why == ["None"]
        assert lines[1].startswith("['AccessDenied', 'AddressSpace'") and lines[1].endswith(" None")
    else:
        assert nameless == "0"
        assert why[0].startswith("not every process is shown: /proc is mounted with hidepid=")
        # Another process of this user may end meanwhile, or be silent.
        assert re.match(r"\['AddressSpace'(, '\w+')*\] not every process is shown", lines[1])
    audited, *others = [line for line in lines if line.startswith("exit ")]
    assert others == ["exit 7"] * 2
    assert audited in ("exit 7", "exit 1")  # or be found suspicious: a test's, run by the same user


CHOOSE = """
import os, sys, vmatlas
for word in sys.argv[1:]:
    try:
        print("found", vmatlas.select(word).incomplete)
    except vmatlas.NoSuchProcess as error:
        print("nobody", error.incomplete, "--", error)
"""


@pytest.mark.parametrize("hidepid", MODES)
@pytest.mark.usefixtures("of_root")
def test_words_that_find_nobody_may_mean_who_is_hidden(hidepid: str) -> None:
    words = "name:no-such-name", "user:0", "cgroup:/no/such", "unit:no-such", "container:no-such"
    for line in (lines := as_nobody(hidepid, CHOOSE, *words)):
        assert line.startswith("nobody ") and not line.startswith("nobody None"), line
        assert MODES[hidepid] in line or f"hidepid={hidepid}" in line
        assert "as far as can be seen" in line
    assert len(lines) == len(words)


@pytest.mark.parametrize("hidepid", MODES)
def test_root_sees_everyone_whatever_the_mount(of_root: int, hidepid: str) -> None:
    ask = "import sys, vmatlas\nfound = vmatlas.processes()\npids = [each.pid for each in found]\n"
    ask += "print(int(sys.argv[1]) in pids, found.incomplete is None, 1 in pids)"
    script = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
    (line,) = unshared("--mount", script, "-c", ask, str(of_root))
    listed, complete, first = line.split()
    assert listed == "True"
    assert complete == first  # the first process may be out of the reach even of root: then that is said


def test_doctor_reads_the_mount_that_is_on_top() -> None:
    script = 'mount -t proc proc /proc && mount -t proc -o hidepid=2 proc /proc && exec "$1" -c "$2" doctor'
    lines = unshared("--pid --fork --mount", script, RUN)
    (told,) = [line for line in lines if line.startswith("/proc hidepid")]
    assert "invisible (2)" in told or told.split()[2] == "2"


def test_doctor_without_proc_knows_no_rights() -> None:
    script = 'mount -t tmpfs none /proc; "$1" -c "$2" doctor; code=$?; [ $code = 126 ] && exit 126; echo "exit $code"'
    lines = unshared("--mount", script, RUN)
    told = [line for line in lines if line.startswith(("capabilities", "yama", "/proc hidepid"))]
    assert len(told) == 3
    assert all(line.endswith("unknown, for want of /proc") for line in told)
    assert lines[-1] == "exit 5"


# The same through an agent


@pytest.fixture
def agent(binary: Path) -> str:
    """The agent for this machine."""
    return str(binary)


def test_agent_takes_no_stranger_for_itself_or_for_whom_it_is_asked(agent: str) -> None:
    as_root("a pid namespace without a user namespace")
    with vmatlas.connect(f"agent:unshare --pid --fork {agent}") as there:
        for ask in (
            lambda: vmatlas.snapshot(target=there),
            lambda: vmatlas.snapshot(1, target=there),
            lambda: list(vmatlas.processes(there)),
            lambda: vmatlas.find(None, 0x1000, target=there),
            lambda: list(vmatlas.snapshots(there)),
        ):
            with pytest.raises(vmatlas.Unsupported, match=FOREIGN) as told:
                ask()
            assert "mount -t proc" in str(told.value.hint)
        assert there.agent.advise_process(1, [], 20).errno_name == "EXDEV"


def test_agent_with_a_proc_of_its_own_tells_its_own_numbers(agent: str) -> None:
    as_root("a pid namespace without a user namespace")
    with vmatlas.connect(f"agent:unshare --pid --fork --mount-proc {agent}") as there:
        assert len(vmatlas.snapshot(target=there)) > 3
        assert [each.pid for each in vmatlas.processes(there)] == [1]


@pytest.mark.parametrize("hidepid", MODES)
def test_agent_tells_a_hidden_process_from_none(of_root: int, agent: str, hidepid: str, tmp_path: Path) -> None:
    script = tmp_path / "agent"
    right = "-all,+dac_read_search"
    user = f"--bounding-set={right} --inh-caps={right} --ambient-caps={right}"
    script.write_text(
        f"#!/bin/sh\nmount -t proc -o hidepid={hidepid} proc /proc || exit 1\n"
        f"exec setpriv --reuid=65534 --regid=65534 --clear-groups {user} {agent}\n"
    )
    script.chmod(0o755)
    with vmatlas.connect(f"agent:unshare --mount {script}") as there:
        with pytest.raises(vmatlas.AccessDenied, match=f"process {of_root} is hidden from the agent"):
            vmatlas.snapshot(of_root, target=there)
        with pytest.raises(vmatlas.NoSuchProcess):
            vmatlas.snapshot(2**22 + 1, target=there)
        listing = vmatlas.processes(there)
        nameless = [each for each in listing if each.kernel is None]
        assert (of_root in [each.pid for each in nameless]) == (hidepid == "1")
        assert (listing.incomplete is None) == (hidepid == "1")
        assert len(vmatlas.snapshot(target=there)) > 3


def test_number_inside_a_container_stands_beside_its_own(agent: str) -> None:
    as_root("a pid namespace without a user namespace")
    upper = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "/bin/sleep", "60"])
    try:
        listed: dict[int, int | None] = {}
        until = time.monotonic() + PATIENCE
        while not listed and time.monotonic() < until:
            listed = {each.pid: each.number_inside for each in vmatlas.processes() if each.parent == upper.pid}
        assert list(listed.values()) == [1]
        with vmatlas.connect(f"agent:{agent}") as there:
            assert {each.pid: each.number_inside for each in vmatlas.processes(there) if each.pid in listed} == listed
        assert next(each for each in vmatlas.processes() if each.pid == upper.pid).number_inside is None
    finally:
        upper.kill()
        upper.wait(PATIENCE)


@pytest.mark.parametrize("where", ["here", "by an agent"])
def test_threads_of_a_process_that_has_ended_are_none_and_not_an_empty_list(where: str, binary: Path) -> None:
    with (
        vmatlas.connect("local" if where == "here" else f"agent:{binary}") as target,
        subprocess.Popen(["sleep", "300"]) as child,
        vmatlas.open(child.pid, target=target) as process,
    ):
        assert process.threads()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(vmatlas.NoSuchProcess):
            process.threads()  # of a zombie
        child.wait()
        with pytest.raises(vmatlas.NoSuchProcess):
            process.threads()
