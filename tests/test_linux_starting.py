"""Where no process can be started, for want of descriptors too, that is what is told, and no other cause."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vmatlas import errors
from vmatlas.conformance.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux starts children for some questions")

# A process whose children belong to a pid namespace whose first process has ended, as after `unshare --pid` without
# `--fork`: the first it starts is that one, and all others are refused with ENOMEM.
NO_CHILDREN = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000000 | (0 if os.geteuid() == 0 else 0x10000000)) != 0:  # CLONE_NEWPID, CLONE_NEWUSER
    raise SystemExit(f"unshare: {os.strerror(ctypes.get_errno())}")
if not os.fork():
    os._exit(0)
os.wait()
"""

# Each question that a child is started for: it asks the kernel about this process itself.
QUESTIONS = """
import os, subprocess
from vmatlas import errors  # all of it now: what is installed may not be readable from another namespace
from vmatlas_linux_ioctl import apart as ioctl
from vmatlas_linux_memory import apart as memory
from vmatlas_linux_ioctl.acquire import _Walk
from vmatlas.model import Query
def build_ids():
    descriptor = os.open("/proc/self/maps", os.O_RDONLY)
    with ioctl.Apart(descriptor) as asked:
        _Walk(os.getpid(), descriptor, Query(build_ids=True), bytearray(), bytearray(), apart=asked).run()
def willneed():
    memory.advise(440, os.open("/dev/null", os.O_RDONLY), bytes(16), 1, 3)
"""
ASK = """
for call in (build_ids, willneed):
    try:
        call()
        print("done")
    except errors.VmatlasError as error:
        print(type(error).__name__, error.errno_name, error, "|", error.hint)
"""


def run(program: str, **variables: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **variables},
    )
    if ran.returncode == 1 and ran.stderr.startswith("unshare: "):
        pytest.skip(f"this user may make no pid namespace ({ran.stderr.strip()})")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.parametrize("pure", ["0", "1"])
def test_a_namespace_whose_first_process_has_ended_is_why_no_process_can_be_started(pure: str) -> None:
    build_ids, willneed = run(QUESTIONS + NO_CHILDREN + ASK, VMATLAS_PURE=pure)
    for told, wanted in ((build_ids, "to read build ids"), (willneed, "to have the kernel read files")):
        assert told.startswith(f"NotStarted ENOMEM no process could be started here {wanted}: Cannot allocate memory")
        assert told.endswith("unshare with --fork")


@pytest.mark.parametrize("pure", ["0", "1"])
def test_want_of_descriptors_is_told_and_two_that_are_free_do_for_build_ids(pure: str) -> None:
    taking = """
import resource
build_ids()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
"""
    few, enough = run(
        QUESTIONS
        + taking
        + "os.close(taken.pop())\n"  # for the map: none is left
        + "for _ in range(2):\n"
        + "    try:\n        build_ids()\n        print('done')\n"
        + "    except errors.VmatlasError as error:\n"
        + "        print(type(error).__name__, error.errno_name, error, '|', error.hint)\n"
        + "    for _ in range(4):\n        os.close(taken.pop())\n",
        VMATLAS_PURE=pure,
    )
    assert few.startswith("NotStarted EMFILE no process could be started here to read build ids: Too many open files")
    assert "ulimit -n" in few
    assert enough == "done"


@pytest.mark.parametrize(("errno", "told"), [(1, "seccomp"), (11, "ulimit -u"), (12, "memory"), (38, "seccomp")])
def test_each_refusal_to_start_a_process_says_what_to_do(errno: int, told: str) -> None:
    from vmatlas.systems.linux.starting import not_started

    error = not_started(OSError(errno, os.strerror(errno)), "to ask")
    assert str(error) == f"no process could be started here to ask: {os.strerror(errno)}"
    assert told in (error.hint or "")


def test_advice_for_which_no_process_could_be_started_is_told_of_no_range() -> None:
    from vmatlas.operations.advising import go_through

    def ask(ranges: object) -> int:
        raise errors.NotStarted("no process could be started here", errno=12, errno_name="ENOMEM")

    with pytest.raises(errors.NotStarted):
        go_through(ask, [(0x1000, 0x2000), (0x3000, 0x4000)])


def test_what_is_untold_for_want_of_descriptors_is_no_nothing() -> None:
    told = run("""
import os, resource, vmatlas
from vmatlas import OperationFailed
with vmatlas.open(os.getppid()) as parent:
    print(parent.name is not None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.dup(0)
    except OSError:
        pass
    for ask in (lambda: parent.name, lambda: parent.number_inside, parent.stack_limit):
        try:
            print(ask())
        except OperationFailed as failure:
            print(failure.errno_name, failure.hint)
""")
    assert told[0] == "True"
    assert [line.split(None, 1)[0] for line in told[1:]] == ["EMFILE"] * 3
    assert all("ulimit -n" in line for line in told[1:])
