"""A core that systemd-coredump itself stored, with its journal: journald, the helper and its socket run in namespaces
of their own, and the helper is called as the kernel calls it (`kernel.core_pattern` is every process's, and stays).

It takes root, and Debian's package systemd-coredump: installed, or unpacked (`apt-get download`, `dpkg -x`) into the
folder that VMATLAS_TEST_COREDUMP names. Two processes have the same number there, one behind the other, and the same
addresses: of the first the kernel wrote the core, the second stands where it died while the helper looks at /proc.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import vmatlas
from vmatlas import operations, remains
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import FaultCause

ROOT = Path(os.environ.get("VMATLAS_TEST_COREDUMP", "/"))
HELPER = next(
    (each for each in (ROOT / "usr/lib/systemd", ROOT / "lib/systemd") if (each / "systemd-coredump").exists()), None
)
JOURNALD = Path("/lib/systemd/systemd-journald")
TOOLS = ("unshare", "setarch", "systemd-socket-activate", "journalctl")
PID = 5000

DIES = """
import ctypes, os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_CORE, [resource.getrlimit(resource.RLIMIT_CORE)[1]] * 2)
if os.path.exists("stop"):
    os.kill(os.getpid(), signal.SIGSTOP)
ctypes.memset(24, 1, 1)
"""
STORES = f"""
import os, pathlib, subprocess, sys
helper, name = sys.argv[1:]
def start():
    pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str({PID} - 1))
    return subprocess.Popen(["setarch", "-R", sys.executable, "-B", "dies once.py", "an argument"])
process = start()
process.wait()
pathlib.Path("stop").touch()
again = start()
assert process.pid == again.pid == {PID}
os.waitid(os.P_PID, again.pid, os.WSTOPPED | os.WNOWAIT)
pathlib.Path("maps").write_bytes(pathlib.Path(f"/proc/{{again.pid}}/maps").read_bytes())
with open("core", "rb") as core:  # %P %u %g %s %t %c %h of its core_pattern
    told = [str(again.pid), "0", "0", "11", "1795975400", "18446744073709551615", name]
    subprocess.run([helper, *told], stdin=core, check=True)
again.kill()
again.wait()
"""
INSIDE = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal /run/log/journal stored/coredump
mount --bind stored /var/lib/systemd
echo 0123456789abcdef0123456789abcdef >/run/machine-id
mount --bind /run/machine-id /etc/machine-id
"$JOURNALD" >journald.log 2>&1 &
systemd-socket-activate --seqpacket --accept -l /run/systemd/coredump "$HELPER" >socket.log 2>&1 &
until [ -S /run/systemd/coredump ] && [ -S /run/systemd/journal/socket ]; do sleep 0.1; done
"$PYTHON" stores.py "$HELPER" host.example
match=MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1
until journalctl --all -o json $match >journal.json && [ -s journal.json ]; do sleep 0.2; done
journalctl --all -o export $match >journal.export
export PATH="$(dirname "$COREDUMPCTL"):$PATH"
"$PYTHON" -m vmatlas explain /var/lib/systemd/coredump/core.* --json >explained.json
"""


class Stored(NamedTuple):
    """What is there then."""

    core: Path
    journal: Path
    export: Path
    maps: bytes
    """As they were just before."""
    explained: dict[str, object]
    """What `vmatlas explain` said of the core, with coredumpctl at hand."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Skips where it cannot be done."""
    missing = [each for each in TOOLS if shutil.which(each) is None]
    if HELPER is None or missing or not JOURNALD.exists():
        pytest.skip(
            f"no systemd-coredump here (VMATLAS_TEST_COREDUMP), or no {', '.join(missing) or 'systemd-journald'}"
        )
    if os.geteuid() != 0 or Path("/proc/sys/kernel/core_pattern").read_text() != "core\n":
        pytest.skip("it takes root, and a kernel that writes cores beside the program (kernel.core_pattern)")
    folder = tmp_path_factory.mktemp("stored")
    (folder / "dies once.py").write_text(DIES)
    (folder / "stores.py").write_text(STORES)
    done = subprocess.run(
        ["unshare", "-mpf", "--kill-child", "--mount-proc", "sh", "-c", INSIDE],
        cwd=folder,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "HELPER": str(HELPER / "systemd-coredump"),
            "JOURNALD": str(JOURNALD),
            "COREDUMPCTL": str(ROOT / "usr/bin/coredumpctl"),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip(f"no namespaces may be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr + (folder / "socket.log").read_text()
    (core,) = (folder / "stored" / "coredump").iterdir()
    yield Stored(
        core,
        folder / "journal.json",
        folder / "journal.export",
        (folder / "maps").read_bytes(),
        json.loads((folder / "explained.json").read_text()),
    )


def test_stored_core_is_read_and_what_systemd_noted_is_told(stored: Stored) -> None:
    assert stored.core.name.startswith("core.python") and stored.core.suffix in (".zst", ".lz4", ".xz")
    found = operations.explain(stored.core)
    assert (found.crash.signal_name, found.crash.fault_address) == ("SIGSEGV", 24)
    assert found.fault is not None and found.fault.cause is FaultCause.HOLE
    assert found.space.pid == PID
    assert (found.crash.executable, found.crash.host) == (os.path.realpath(sys.executable), "host.example")
    told = stored.explained
    assert (told["pid"], told["signal_name"], told["fault_address"]) == (PID, "SIGSEGV", 24)
    assert (told["executable"], told["host"]) == (found.crash.executable, "host.example")
    assert "dies once.py" in str(told["arguments"]) and "an argument" in str(told["arguments"])


def test_map_of_the_stored_core_is_that_of_the_process(stored: Stored) -> None:
    space = vmatlas.replay(stored.core)
    known = [line.split(None, 5) for line in stored.maps.decode().splitlines()]
    ours = [(f"{each.start:08x}-{each.end:08x}", each.permissions[:3]) for each in space]
    assert ours == [(line[0], line[1][:3]) for line in known]


@pytest.mark.parametrize("form", ["journal", "export"])
def test_map_in_the_journal_is_that_of_the_process_or_said_to_be_its_beginning(stored: Stored, form: str) -> None:
    capture = remains.load(getattr(stored, form))
    told = capture.streams["maps"]
    assert told and stored.maps.startswith(told)
    assert (len(told) == len(stored.maps)) == ("the beginning of the map alone" not in (capture.incomplete or ""))
    assert operations.explain(capture).crash.signal_name == "SIGSEGV"
