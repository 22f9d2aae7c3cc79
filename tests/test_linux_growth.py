"""Real programs that leak: which memory grows is the first line of `growth`, and adds up to what the kernel counts, and
`ps`, `pmap -X` and psutil tell of it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import vmatlas
from vmatlas import Verdict
from vmatlas.conformance.patience import PATIENCE

MOMENTS = 12

LEAKS = r"""
const kept = [];
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  for (let number = 0; line === "leak" && number < 4000; number++) kept.push(new Array(50).fill(number));
  let garbage = [];
  for (let number = 0; number < 20000; number++) garbage.push({ number });
  console.log("ok");
});
console.log("ok");
"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []

    def start(*command: str) -> subprocess.Popen[str]:
        begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for each in begun:
        each.kill()
        each.communicate()


def recorded(pid: int, file: Path, step: Callable[[], object]) -> vmatlas.Trends:
    """What `growth` tells of a process between whose moments something happens."""
    for moment in vmatlas.record_series(pid, file, 0.05, wait=lambda _: step()):
        if moment.number == MOMENTS:
            break
    with vmatlas.Series.open(file) as series:
        return vmatlas.trends_of(series)


def held_still(pid: int) -> None:
    """The regions of a process that stands still add up to what the kernel counts of it as a whole, to the page; and
    so do `pmap -X`, psutil and `ps`. Where others share its memory and run on, the caller stops them.
    """
    os.kill(pid, signal.SIGSTOP)
    wait_until_stopped(pid)
    capture = vmatlas.capture(pid, residency=True)
    told, whole = vmatlas.replay(capture).memory.use, vmatlas.replay_memory(capture)
    assert (told.resident, told.swapped, told.private) == (whole.resident, whole.swapped, whole.private)
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        rss, pss = (
            next(int(line.split()[1]) for line in rollup if line.startswith(f"{key}:")) for key in ("Rss", "Pss")
        )
    assert told.resident == rss * 1024
    theirs = psutil.Process(pid).memory_full_info()
    assert (theirs.uss, theirs.swap) == (told.private, told.swapped)
    assert whole.proportional is not None
    # Its part of a library hangs on who else maps it just now: others begin and end between two looks.
    assert all(abs(each - whole.proportional) <= 1 << 20 for each in (pss * 1024, theirs.pss))
    if (pmap := shutil.which("pmap")) is not None:
        assert pmap_total(pmap, pid, "Rss") == told.resident
    # These two read what the kernel counts as it goes: each processor keeps some pages to itself for a while.
    counted = len(os.sched_getaffinity(0)) * 64 * os.sysconf("SC_PAGESIZE") * 4
    assert abs(theirs.rss - rss * 1024) <= counted
    if (ps := shutil.which("ps")) is not None:
        shown = subprocess.run([ps, "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, timeout=PATIENCE)
        assert abs(int(shown.stdout) * 1024 - rss * 1024) <= counted
    os.kill(pid, signal.SIGCONT)


def wait_until_stopped(pid: int) -> None:
    """By its state: it may be another's child."""
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.01)


def pmap_total(pmap: str, pid: int, column: str) -> int:
    """Bytes: what stands below a column of `pmap -X`."""
    done = subprocess.run([pmap, "-X", str(pid)], capture_output=True, text=True, timeout=PATIENCE, check=True)
    lines = done.stdout.splitlines()
    titles = next(line.split() for line in lines if line.lstrip().startswith("Address"))
    totals = lines[-1].split()
    return int(totals[titles.index(column) - titles.index("Size")]) * 1024


def grown(found: vmatlas.Trends) -> set[tuple[str, str]]:
    return {(each.by, each.key) for each in found if each.verdict is Verdict.GROWS}


def node(started: Callable[..., subprocess.Popen[str]], line: str) -> tuple[int, Callable[[], object]]:
    process = started(program("node"), "--max-semi-space-size=1", "-e", LEAKS)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ok\n"

    def tell() -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ok\n"

    for _ in range(5):  # the start
        tell()
    return process.pid, tell


def test_a_leaking_node_grows_by_its_heap(started, tmp_path):
    pid, step = node(started, "leak")
    found = recorded(pid, tmp_path / "node.vmatlas", step)
    first = found[0]
    assert (first.verdict, first.by) == (Verdict.GROWS, "nameless"), list(found)[:5]
    assert ("kind", "anonymous") in grown(found) and first.gained > 10 << 20
    held_still(pid)


def test_a_node_that_makes_garbage_alone_does_not_grow(started, tmp_path):
    """By more than the leak above at the least: what a collector leaves lying for a while is no heap that grows."""
    pid, step = node(started, "garbage")
    found = recorded(pid, tmp_path / "node.vmatlas", step)
    assert max((each.gained for each in found if each.verdict is Verdict.GROWS), default=0) < 10 << 20


def test_a_redis_that_is_filled_while_it_saves_grows_by_its_allocator(started, tmp_path):
    server, where = program("redis-server"), tmp_path / "socket"
    process = started(server, "--port", "0", "--unixsocket", str(where), "--dir", str(tmp_path), "--save", "")
    assert process.stdout is not None
    heard = next((line for line in process.stdout if "Ready to accept" in line or "ready to accept" in line), None)
    assert heard is not None, "redis-server does not serve"
    numbers = iter(range(10**6))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(where))

        def fill() -> None:
            """A MiB and more, in keys; every third time it begins to save."""
            number = next(numbers)
            words = b"".join(
                b"*3\r\n$3\r\nSET\r\n$8\r\n%08d\r\n$400\r\n%s\r\n" % (3000 * number + each, b"v" * 400)
                for each in range(3000)
            )
            client.sendall(words)
            left = 3000 * len(b"+OK\r\n")
            while left:
                left -= len(client.recv(left))
            if number % 3 == 0:
                client.sendall(b"*1\r\n$6\r\nBGSAVE\r\n")
                assert client.recv(200)

        found = recorded(process.pid, tmp_path / "redis.vmatlas", fill)
    first = found[0]
    assert first.verdict is Verdict.GROWS, list(found)[:5]
    assert ("use", "data") in grown(found)
    total = found.of("all")[0]
    assert first.gained > total.gained / 2 > 5 << 20
    # What the child that saves shares is not private: it must not end between two looks.
    for saving in psutil.Process(process.pid).children():
        saving.wait(PATIENCE)
    held_still(process.pid)


FILLS = r"""
import java.util.*;
public class Fills {
    static List<byte[]> kept = new ArrayList<>();
    public static void main(String[] words) throws Exception {
        Scanner lines = new Scanner(System.in);
        System.out.println("ok");
        while (lines.hasNextLine()) {
            boolean leaks = lines.nextLine().equals("leak");
            for (int number = 0; number < 100; number++) {
                byte[] made = new byte[100_000];
                Arrays.fill(made, (byte) number);
                if (leaks) kept.add(made);
            }
            System.out.println("ok");
        }
    }
}
"""
"""At each line of its input 10 MB, kept or not."""


def test_a_jvm_that_fills_its_heap_grows_by_it(started, tmp_path):
    """Its address space is taken at the start: what grows is what is in memory."""
    (tmp_path / "Fills.java").write_text(FILLS)
    heap = ("-Xms400m", "-Xmx400m", "-Xmn16m", "-XX:+UseSerialGC")  # what is young is soon all in memory
    process = started(program("java"), *heap, str(tmp_path / "Fills.java"))
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline() != "ok\n":
        pytest.skip("this java runs no source text: it has no compiler")

    def tell(line: str) -> None:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ok\n"

    tell("leak")
    found = recorded(process.pid, tmp_path / "java.vmatlas", lambda: tell("leak"))
    first = found[0]
    assert first.verdict is Verdict.GROWS and first.gained > 50 << 20, list(found)[:5]
    assert "JVM heap" in (first.guess or first.key), first
    held_still(process.pid)


@pytest.fixture
def postgres() -> Iterator[tuple[int, Callable[[], subprocess.Popen[bytes]]]]:
    """A server of PostgreSQL with 256 MiB of shared buffers and the tables of pgbench, its pid; and what starts a
    client of pgbench that reads row after row, at random."""
    folders = [
        Path(shutil.which("postgres") or "/").resolve().parent,
        *sorted(Path("/usr/lib/postgresql").glob("*/bin")),
    ]
    tools = next((each for each in folders if all((each / name).exists() for name in ("initdb", "pgbench"))), None)
    if tools is None:
        pytest.skip("PostgreSQL and pgbench are not installed")
    user = None
    if os.geteuid() == 0:  # it runs for nobody who may do everything
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run for root, and there is no user postgres")
    with tempfile.TemporaryDirectory(prefix="vmatlas-pg-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        environment = os.environ | {"PGHOST": name, "PGDATABASE": "postgres", "LC_ALL": "C", "TMPDIR": name}
        how = {"cwd": name, "env": environment, "user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        data = folder / "data"
        made = [tools / "initdb", "-D", data, "-N", "--auth=trust", "-U", "postgres"]
        subprocess.run(made, check=True, timeout=PATIENCE * 4, **how)
        options = [f"unix_socket_directories={name}", "listen_addresses=", "shared_buffers=256MB", "huge_pages=off"]
        options += ["fsync=off", "autovacuum=off", "jit=off"]
        server = subprocess.Popen([tools / "postgres", "-D", data, *(f"--{each}" for each in options)], **how)
        clients: list[subprocess.Popen[bytes]] = []

        def client() -> subprocess.Popen[bytes]:
            asked = [tools / "pgbench", "-n", "-S", "-c", "1", "-R", "400", "-T", "3600", "-U", "postgres"]
            clients.append(subprocess.Popen(asked, **how))
            return clients[-1]

        try:
            deadline = time.monotonic() + PATIENCE
            while subprocess.run([tools / "pg_isready", "-q"], timeout=PATIENCE, **how).returncode:
                assert server.poll() is None and time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.1)
            fill = [tools / "pgbench", "-i", "-q", "-s", "8", "-U", "postgres"]
            subprocess.run(fill, check=True, timeout=PATIENCE * 4, **how)
            yield server.pid, client
        finally:
            for each in clients:
                each.kill()
                each.wait(PATIENCE)
            server.send_signal(signal.SIGQUIT)
            try:
                server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(PATIENCE)


@pytest.mark.slow
def test_a_backend_of_postgresql_grows_by_the_shared_buffers_that_it_comes_to_know(postgres, tmp_path):
    """Under pgbench: no leak, but what grows is told, and that it is shared."""
    server, client = postgres
    client()
    deadline, backend = time.monotonic() + PATIENCE, None
    while backend is None:
        assert time.monotonic() < deadline, "no backend serves pgbench"
        below = [each.pid for each in vmatlas.select(f"children:{server}")]
        titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in below if Path(f"/proc/{pid}").exists()}
        backend = next((pid for pid, title in titles.items() if b"[local]" in title), None)
    found = recorded(backend, tmp_path / "pg.vmatlas", lambda: time.sleep(0.5))
    first = found[0]
    assert first.verdict is Verdict.GROWS and first.gained > 4 << 20, list(found)[:5]
    assert (first.by, first.key) in {("file", "/dev/zero (deleted)"), ("kind", "shared-memory")}, first
    everybody = [server, *(each.pid for each in vmatlas.select(f"children:{server}") if each.pid != server)]
    for pid in everybody:  # they share its memory
        os.kill(pid, signal.SIGSTOP)
    try:
        held_still(backend)
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
