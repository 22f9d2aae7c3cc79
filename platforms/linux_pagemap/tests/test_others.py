"""Other processes: those that end, that replace their memory, that are the kernel's own, or that may not be read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from errno import ENOENT

import pytest

import vmatlas
from vmatlas import AccessDenied, NoSuchProcess, PageState, registry
from vmatlas.conformance.patience import PATIENCE
from vmatlas.registry import Broken
from vmatlas.target.local import LOCAL, LocalTarget

ALONE = {"linux-pagemap": PageState.EXCLUSIVE, "linux-pagemap-scan": PageState.HUGE}
"""What only one of them tells: so it is the one that is asked."""

SOURCES = [each for each in registry.page_sources() if not isinstance(each, Broken) and each.system == "linux"]
WAYS = [
    pytest.param(PageState.PRESENT | ALONE[source.name], id=source.name) for source in SOURCES if LOCAL.offers(source)
]


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """Waits for a line; then it becomes another program, which waits as well."""
    code = "import os, sys; sys.stdin.readline(); os.execvp('cat', ['cat'])"
    started = subprocess.Popen(
        [sys.executable, "-c", f"print(flush=True); {code}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    started.stdout.readline()
    yield started
    started.kill()
    started.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("of", WAYS)
def test_a_process_is_asked_again_after_exec_under_the_same_handle(
    of: PageState, program: subprocess.Popen[str]
) -> None:
    assert program.stdin is not None
    with vmatlas.open(program.pid) as process:
        assert process.pages(of=of).bytes_of(PageState.PRESENT)
        program.stdin.write("now\n")
        program.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while process.name != "cat" and time.monotonic() < deadline:
            time.sleep(0.01)
        runs = process.pages(of=of, where="file")
        assert any("/cat" in (region.path or "") for region in process.snapshot())
        assert runs.bytes_of(PageState.PRESENT)


@pytest.mark.parametrize("of", WAYS)
def test_a_process_that_has_ended_is_told_so(of: PageState, program: subprocess.Popen[str]) -> None:
    with vmatlas.open(program.pid) as process:
        space = process.snapshot()
        assert process.pages_in(space, of=of)
        program.kill()
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NoSuchProcess):  # a zombie
            process.pages_in(space, of=of)
        program.wait()
        with pytest.raises(NoSuchProcess):
            process.pages_in(space, of=of)


@pytest.mark.parametrize("of", WAYS)
def test_a_process_of_the_kernel_s_own_has_no_pages(of: PageState) -> None:
    kernels = [each.pid for each in vmatlas.processes() if each.kernel]
    if not kernels:
        pytest.skip("the kernel's own processes are not listed here")
    try:
        with vmatlas.open(kernels[0]) as process:
            runs = process.pages(of=of)
    except AccessDenied:
        pytest.skip("the kernel's own processes may not be asked by this user")
    assert (list(runs), runs.told) == ([], of)


@pytest.mark.parametrize("of", WAYS)
def test_a_handle_that_was_closed_is_asked_no_more(of: PageState) -> None:
    process = vmatlas.open()
    process.close()
    with pytest.raises(vmatlas.UsageError, match="closed"):
        process.pages(of=of)


def test_a_kernel_without_the_file_is_told_by_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONFIG_PROC_PAGE_MONITOR leaves out pagemap."""
    opened = os.open

    def without(path: str, *arguments: int, **more: int) -> int:
        if path == "/proc/self/pagemap":
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(os, "open", without)
    machine = LocalTarget()  # which has probed nothing yet
    for source in SOURCES:
        assert "no /proc/PID/pagemap: it takes CONFIG_PROC_PAGE_MONITOR" in source.probe().reason
    with vmatlas.open(os.getpid(), target=machine) as process:
        with pytest.raises(vmatlas.Unsupported, match="CONFIG_PROC_PAGE_MONITOR"):
            process.pages()
        assert len(process.snapshot())


@pytest.mark.parametrize("of", WAYS)
def test_who_may_not_be_looked_at_is_refused_though_it_is_of_the_same_user(of: PageState) -> None:
    if os.geteuid():
        pytest.skip("it takes root to become somebody else")
    code = f"""
import ctypes, os, subprocess, sys, vmatlas
with vmatlas.open() as own:  # whatever is imported for it, nobody may not be able to read
    own.pages(of=vmatlas.PageState({of.value}))
os.setgroups([]), os.setgid(65534), os.setuid(65534)
ready, said = os.pipe()
child = os.fork()
if not child:
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    os.write(said, b"x")
    os.read(os.pipe()[0], 1)
os.read(ready, 1)
try:
    with vmatlas.open(child) as process:
        process.pages(of=vmatlas.PageState({of.value}))
except vmatlas.AccessDenied:
    print("refused")
finally:
    os.kill(child, 9), os.waitpid(child, 0)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (told.stdout, told.stderr) == ("refused\n", "")


@pytest.mark.parametrize("of", WAYS)
def test_who_may_not_read_the_map_is_refused(of: PageState) -> None:
    if os.geteuid():
        pytest.skip("it takes root to become somebody else")
    code = f"""
import os, vmatlas
with vmatlas.open() as own:  # whatever is imported for it, nobody may not be able to read
    own.pages(of=vmatlas.PageState({of.value}))
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    with vmatlas.open({os.getpid()}) as process:
        process.pages(of=vmatlas.PageState({of.value}))
except vmatlas.AccessDenied:
    print("refused")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (told.stdout, told.stderr) == ("refused\n", "")
