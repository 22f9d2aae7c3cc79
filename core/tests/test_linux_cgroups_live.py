"""The counters of a real cgroup beside the sum of its processes, against the kernel's own files: v1 or v2, whichever
counts memory here. It takes the right to make a cgroup (root), and in a guest that has mounted none, to mount them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from vmatlas.conformance.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cgroups are of Linux")

HELD, READ = 24 << 20, 6 << 20
"""Bytes: of nameless memory that the process fills, and of a file that it makes, which nobody maps."""

CHILD = f"""
import mmap, os, sys
folder, file = sys.argv[1:]
open(folder + "/cgroup.procs", "w").write(str(os.getpid()))
held = mmap.mmap(-1, {HELD}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for place in range(0, {HELD}, 4096):
    held[place] = 1
with open(file, "wb") as made:
    made.write(bytes({READ}))
print("there", flush=True)
sys.stdin.read()
"""

# A program of its own: it has a mount namespace where it has to mount something, which ends with it.
SCRIPT = f"""
import contextlib, ctypes, json, os, subprocess, sys, time, uuid
place = sys.argv[1]

def refuse(why):
    print(json.dumps({{"refused": why}}))
    sys.exit(0)

def hierarchy():
    "Where cgroups with a counter of memory may be made: version, folder, what is to be undone."
    two = None
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        type_, options = words[words.index("-") + 1], words[-1].split(",")
        if type_ == "cgroup" and "memory" in options:
            return 1, words[4], words[3]
        if type_ == "cgroup2":
            two = two or (2, words[4], words[3])
    return two

def own_mount():
    libc = ctypes.CDLL(None, use_errno=True)
    point = place + "/cgroups"
    os.mkdir(point)
    if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None) not in (0, -1):
        refuse("a mount namespace of one's own: " + os.strerror(ctypes.get_errno()))
    if libc.mount(b"cgroup2", os.fsencode(point), b"cgroup2", 0, None):
        refuse("mounting cgroup2: " + os.strerror(ctypes.get_errno()))
    return 2, point, "/"

version, point, root = hierarchy() or own_mount()
undo = contextlib.ExitStack()
name = "vmatlas-test-" + uuid.uuid4().hex[:12]
folder = os.path.join(point, name)
with undo:
    if version == 2:
        control = point + "/cgroup.subtree_control"
        try:
            if "memory" not in open(point + "/cgroup.controllers").read().split():
                refuse("cgroup v2 has no memory controller here")
            if "memory" not in open(control).read().split():
                open(control, "w").write("+memory")
                undo.callback(lambda: open(control, "w").write("-memory"))
        except OSError as error:
            refuse("the memory controller of cgroup v2: " + str(error))
    try:
        os.mkdir(folder)
    except OSError as error:
        refuse("making a cgroup: " + str(error))

    def remove():
        for _ in range({int(PATIENCE * 20)}):  # its last process may not be gone as yet
            try:
                return os.rmdir(folder)
            except OSError:
                time.sleep(0.05)
        os.rmdir(folder)

    undo.callback(remove)
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", {CHILD!r}, folder, place + "/made"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end():
        child.kill()
        child.communicate()

    undo.callback(end)
    if child.stdout.readline() != "there\\n":
        refuse("the child did not come into the cgroup")
    names = ("memory.current",) if version == 2 else ("memory.usage_in_bytes",)

    def files():
        stat = dict(line.split() for line in open(folder + "/memory.stat"))
        return {{"current": int(open(os.path.join(folder, *names)).read()), **{{k: int(v) for k, v in stat.items()}}}}

    path = root.rstrip("/") + "/" + name
    before = files()
    asked = subprocess.run([sys.executable, "-m", "vmatlas", "summary", "cgroup:" + path, "--json"],
                           capture_output=True, text=True)
    table = subprocess.run([sys.executable, "-m", "vmatlas", "summary", "cgroup:" + path, "--bytes"],
                           capture_output=True, text=True)
    rollup = {{line.split()[0]: 1024 * int(line.split()[1])
              for line in list(open(f"/proc/{{child.pid}}/smaps_rollup"))[1:]}}
    print(json.dumps({{"version": version, "path": path, "pid": child.pid, "before": before, "after": files(),
                      "code": asked.returncode, "told": asked.stdout, "errors": asked.stderr,
                      "table": table.stdout, "rollup": rollup}}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What vmatlas tells of a cgroup with one process that stands still, and what the kernel's files say around it."""
    place = tmp_path_factory.mktemp("cgroup")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(place)], capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    if "refused" in told:
        pytest.skip(told["refused"])
    return told


def test_the_counters_are_those_of_the_kernels_files(seen: dict[str, Any]) -> None:
    assert seen["code"] == 0, seen["errors"]
    told = json.loads(seen["told"])
    [counted] = told["cgroups"]
    assert (counted["path"], counted["untold"]) == (seen["path"], None)
    names = {
        1: {"anonymous": "total_rss", "file": "total_cache", "mapped_file": "total_mapped_file"},
        2: {"anonymous": "anon", "file": "file", "mapped_file": "file_mapped", "shared_memory": "shmem"},
    }[seen["version"]] | {"current": "current"}
    for ours, kernels in names.items():
        low, high = sorted((seen["before"][kernels], seen["after"][kernels]))
        assert low <= counted[ours] <= high, (ours, counted, seen["before"], seen["after"])


def test_the_sum_beside_them_is_that_of_the_processes(seen: dict[str, Any]) -> None:
    told = json.loads(seen["told"])
    assert [each["pid"] for each in told["processes"]] == [seen["pid"]]
    use = told["total"]["memory"]
    assert use["anonymous"] == seen["rollup"]["Anonymous:"] >= HELD
    assert use["resident"] == seen["rollup"]["Rss:"]
    [counted] = told["cgroups"]
    # What it filled after it had come in is charged here; its pages from before, elsewhere.
    assert HELD <= counted["anonymous"] <= use["anonymous"]
    assert counted["current"] >= HELD and counted["file"] >= counted["mapped_file"]  # files the kernel may drop
    rows = [line.split(None, 1) for line in seen["table"].splitlines() if "charged to" in line or "page cache" in line]
    charged, unmapped = (int(size) for size, _ in rows)
    low, high = sorted((seen["before"]["current"], seen["after"]["current"]))
    assert low <= charged <= high and unmapped <= counted["file"]
