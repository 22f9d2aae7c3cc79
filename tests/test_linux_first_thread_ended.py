"""A process whose first thread has ended, and which lives on in another: all that is asked of files in /proc beside the
map, where the kernel tells nothing of the first, is what it is of that other."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import vmatlas
from tests.conftest import MAY_ASK_WHAT_IS_MAPPED, as_root
from vmatlas import NoSuchProcess
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux.host import LINUX

CC = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="these are processes of Linux"),
    pytest.mark.skipif(CC is None, reason="no C compiler is installed here"),
]
UNIQUE = f"z{os.getpid():x}"
NOBODY = 65534

PROGRAM = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
static pthread_t first;
static char **words;
__attribute__((noinline)) int work(int x) {{ return x * 3 + 1; }}
static void *stay(void *library)
{{
    pthread_join(first, NULL);
    if (words[2][0] == 'u' && setresuid({NOBODY}, {NOBODY}, {NOBODY}))
        return NULL;
    if (words[2][0] == 'd')
        unlink(words[1]);
    printf("%p %p\\n", (void *)work, library ? dlsym(library, "inside") : NULL);
    fflush(stdout);
    getchar();
    _exit(work(0));
}}
int main(int count, char **arguments)
{{
    pthread_t other;
    words = arguments;
    first = pthread_self();
    prctl(PR_SET_NAME, "first");
    if (pthread_create(&other, NULL, stay, count < 3 ? NULL : dlopen(arguments[1], RTLD_NOW)))
        return 1;
    pthread_exit(NULL);
}}
"""
LIBRARY = "int table[5000] = {1}; int inside(int x) { return table[x]; }\n"


class Started(NamedTuple):
    """One that runs."""

    pid: int
    thread: int
    """The one that lives."""
    work: int
    """Where a function of the program is."""
    inside: int
    """Where one of the library is."""


def own_address(file: Path, symbol: str) -> int:
    if shutil.which("nm") is None:
        pytest.skip("no nm is installed here")
    listed = subprocess.run(["nm", str(file)], capture_output=True, text=True, check=True).stdout
    return next(int(words[0], 16) for line in listed.splitlines() if (words := line.split())[-1] == symbol)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Of a name that nothing else has, which is not that of its first thread."""
    return built(PROGRAM, tmp_path / UNIQUE, "-pthread", "-ldl")


def built(source: str, file: Path, *options: str) -> Path:
    (file.parent / f"{file.name}.c").write_text(source)
    assert CC is not None
    made = subprocess.run(
        [CC, "-o", str(file), f"{file}.c", *options], capture_output=True, text=True, timeout=PATIENCE
    )
    if made.returncode:
        pytest.skip(f"the compiler here does not make such a program: {made.stderr.splitlines()[-1]}")
    return file


Begin = Callable[..., Started]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts one, ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: Path, library: Path | None = None, does: str = "-", before: tuple[str, ...] = ()) -> Started:
        words = [str(library), does] if library else ["-", does]
        process = subprocess.Popen(
            [*before, str(program), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None and process.stderr is not None
        told = process.stdout.readline().split()
        if not told and before:
            pytest.skip(f"not here: {process.stderr.read().strip()}")
        work, inside = (0 if word == "(nil)" else int(word, 16) for word in told)
        deadline = time.monotonic() + PATIENCE
        while " Z " not in Path(f"/proc/{process.pid}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        (thread,) = (int(name) for name in os.listdir(f"/proc/{process.pid}/task") if int(name) != process.pid)
        return Started(process.pid, thread, work, inside)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def pids(*words: str) -> list[int]:
    return [each.pid for each in vmatlas.select(*words)]


# Whom words choose


def test_it_is_found_and_left_out_by_its_program(begin: Begin, program: Path) -> None:
    there = begin(program)
    assert pids(f"name:{UNIQUE}") == pids(f"name:{UNIQUE[:-1]}?") == [there.pid]
    assert there.pid in pids("name:first")
    with pytest.raises(NoSuchProcess, match="nobody is left"):
        pids(str(there.pid), f"!name:{UNIQUE}")
    program.unlink()
    assert pids(f"name:{UNIQUE}") == [there.pid], "as one that was upgraded"


def test_it_is_counted_by_its_program(begin: Begin, program: Path) -> None:
    there = begin(program)
    assert LINUX.belongs_to(there.pid, None, "program") == str(program)
    (info,) = vmatlas.select(str(there.pid))
    assert LINUX.belongs_to(there.pid, (info.start_time or 0) + 1, "program") is None, "another of that number"
    asked = [sys.executable, "-m", "vmatlas", "summary", f"children:{there.pid}", "--by", "program"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert str(program) in told


def test_it_is_in_the_cgroups_that_its_living_thread_is_in(begin: Begin, program: Path) -> None:
    """Those of cgroup v1 too, of which the kernel tells the root of a thread that has ended."""
    there = begin(program)
    told = Path(f"/proc/{there.pid}/task/{there.thread}/cgroup").read_text().splitlines()
    paths = {path for line in told if (path := line.split(":", 2)[2]) != "/"}
    if not paths:
        pytest.skip("the tests run in the root of each hierarchy of cgroups")
    for path in paths:
        assert there.pid in pids(f"cgroup:{path}")
    (info,) = vmatlas.select(str(there.pid))
    assert LINUX.belongs_to(there.pid, None, "cgroup") == LINUX.belongs_to(os.getpid(), None, "cgroup")
    (own,) = vmatlas.select(str(os.getpid()))
    assert LINUX.cgroups_of([info], "cgroup") == LINUX.cgroups_of([own], "cgroup")


def test_its_user_is_whose_rights_its_living_thread_has(begin: Begin, program: Path) -> None:
    as_root("it takes the rights of another user")
    there = begin(program, does="u")
    assert Path(f"/proc/{there.pid}/status").read_text().split("\nUid:\t")[1].split()[1] == "0", "as it was at its end"
    (listed,) = (each for each in vmatlas.processes() if each.pid == there.pid)
    assert listed.user == NOBODY
    assert LINUX.belongs_to(there.pid, None, "user") == LINUX.belongs_to(begin(program, does="u").pid, None, "user")
    assert LINUX.belongs_to(there.pid, None, "user") != LINUX.belongs_to(os.getpid(), None, "user")
    assert there.pid in pids(f"user:{NOBODY}") and there.pid not in pids("user:0")


# What it has mapped


def test_its_program_that_was_deleted_is_read(begin: Begin, program: Path) -> None:
    own = own_address(program, "work")
    there = begin(program)
    program.unlink()
    shutil.copy("/bin/true", program)  # another file stands there now
    with vmatlas.open(there.pid) as process:
        assert process.elf_address(there.work) == own
    with vmatlas.open(there.pid, thread=there.thread) as process:
        assert process.elf_address(there.work) == own


def test_its_library_that_was_deleted_is_read_by_who_may(begin: Begin, program: Path, tmp_path: Path) -> None:
    library = built(LIBRARY, tmp_path / "lib.so", "-shared", "-fPIC")
    own = own_address(library, "inside") if MAY_ASK_WHAT_IS_MAPPED else None
    there = begin(program, library, "d")
    assert not library.exists()
    with vmatlas.open(there.pid) as process:
        region = process.find(there.inside)
        assert region is not None and region.deleted
        assert process.elf_address(there.inside) == own


def test_the_files_of_its_own_mounts_are_read_and_not_those_outside(
    begin: Begin, program: Path, tmp_path: Path, binary: Path
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    library = built(LIBRARY, inside / "lib.so", "-shared", "-fPIC")
    built("int more[900] = {1}; int more_work(int x) { return more[x]; }\n" + LIBRARY, outside / "lib.so", "-shared",
          "-fPIC")  # fmt: skip
    own = own_address(library, "inside")
    assert own != own_address(outside / "lib.so", "inside")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    if shutil.which("unshare") is None:
        pytest.skip("unshare (package util-linux) is missing")
    there = begin(
        program,
        outside / "lib.so",
        before=("unshare", *user, "-m", "--propagation", "private", "sh", "-c", mount, "sh", str(inside), str(outside)),
    )
    with vmatlas.open(there.pid) as process:
        region = process.find(there.inside)
        assert region is not None and region.path == str(outside / "lib.so")
        assert process.elf_address(there.inside) == own
        assert process.elf_address(there.work) == own_address(program, "work")
    with vmatlas.connect(f"agent:{binary}") as board, vmatlas.open(there.pid, target=board) as process:
        assert process.elf_address(there.inside) == own


@pytest.mark.parametrize("by_agent", [False, True])
def test_the_nodes_of_its_memory_are_told(begin: Begin, program: Path, binary: Path, by_agent: bool) -> None:
    there = begin(program)
    if not Path(f"/proc/{there.pid}/numa_maps").exists():
        pytest.skip("this kernel tells no nodes of memory (CONFIG_NUMA)")
    with contextlib.ExitStack() as closing:
        board = closing.enter_context(vmatlas.connect(f"agent:{binary}")) if by_agent else None
        process = closing.enter_context(vmatlas.open(there.pid, target=board))
        starts = {each.start for each in process.numa()}
        text = Path(f"/proc/{there.pid}/task/{there.thread}/numa_maps").read_text()
        assert starts == {int(line.split()[0], 16) for line in text.splitlines()} and starts


@pytest.mark.parametrize("by_agent", [False, True])
def test_its_marks_are_cleared_and_not_only_said_to_be(
    begin: Begin, program: Path, binary: Path, by_agent: bool
) -> None:
    there = begin(program)
    smaps = Path(f"/proc/{there.pid}/task/{there.thread}/smaps")

    def referenced() -> int:
        return sum(int(line.split()[1]) for line in smaps.read_text().splitlines() if line.startswith("Referenced:"))

    with contextlib.ExitStack() as closing:
        board = closing.enter_context(vmatlas.connect(f"agent:{binary}")) if by_agent else None
        process = closing.enter_context(vmatlas.open(there.pid, target=board))
        before = referenced()
        try:
            clears = process.clears_marks()
            assert clears is not None
            clears.clear_marks("referenced")
        except vmatlas.Unsupported as error:
            pytest.skip(f"no marks of pages here: {error}")
        assert referenced() < before / 2


def test_a_file_called_deleted_is_told_from_one_that_was(
    begin: Begin, program: Path, tmp_path: Path, backend: str
) -> None:
    library = built(LIBRARY, tmp_path / "lib.so (deleted)", "-shared", "-fPIC")
    there = begin(program, library)
    region = vmatlas.find(there.pid, there.inside, backend=backend)
    assert region is not None and (region.path, region.deleted) == (str(library), False)


def test_a_name_that_would_break_a_line_is_exact(begin: Begin, program: Path, tmp_path: Path, backend: str) -> None:
    library = built(LIBRARY, tmp_path / "lib\\012\n.so", "-shared", "-fPIC")
    there = begin(program, library)
    if backend == "linux-procfs" and not MAY_ASK_WHAT_IS_MAPPED:
        pytest.skip("the text alone does not tell a newline from what stands for it")
    region = vmatlas.find(there.pid, there.inside, backend=backend)
    assert region is not None and region.path == str(library)
