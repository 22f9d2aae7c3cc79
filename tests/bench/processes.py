"""The processes that are measured, and those that measure: C, Rust, Python. All that is started here is ended here."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 120
"""Seconds that a started program may take for one thing."""


@contextlib.contextmanager
def child(regions: int) -> Iterator[int]:
    """The pid of a process with so many regions.

    It ends with the context; and when we are killed, since its input ends then.
    """
    program = [sys.executable, "-I", "-S", str(HERE / "child.py"), str(regions)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.strip().isdigit():
                raise RuntimeError(f"the child with {regions} regions did not come up (is vm.max_map_count smaller?)")
            yield process.pid
        finally:
            process.kill()
            process.wait(LIMIT)


@contextlib.contextmanager
def paged(how: str) -> Iterator[tuple[int, int, int]]:
    """The pid of a process with known pages (see pages.py), and where they are. It ends as `child`."""
    program = [sys.executable, "-I", "-S", str(HERE / "pages.py"), how]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().split()
            if len(said) != 2:
                raise RuntimeError(f"the process with {how} pages did not come up (is there a GiB of memory?)")
            yield process.pid, int(said[0]), int(said[1])
        finally:
            process.kill()
            process.wait(LIMIT)


@contextlib.contextmanager
def sleepers(count: int) -> Iterator[None]:
    """So many small processes, which end with the context; and by themselves, should we be killed."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stack.callback(process.wait, LIMIT)
            stack.callback(process.kill)
        yield


class Floors:
    """The bare system calls, in C."""

    def __init__(self, folder: Path) -> None:
        """Builds the program in a folder. `missing` says why there is none."""
        self.missing: str | None = None
        self._program = folder / "floors"
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            self.missing = "no C compiler (cc, gcc, clang) in PATH"
            return
        command = [compiler, "-O2", "-o", str(self._program), str(HERE / "floors.c")]
        built = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        if built.returncode:
            self.missing = f"floors.c does not build here: {built.stderr.strip().splitlines()[-1]}"

    def run(self, what: str, file: str, *, addresses: list[int] | None = None, repeat: int = 1) -> float:
        """Nanoseconds of the thing done once, the mean of `repeat`, after one that does not count. Raises Missing."""
        if self.missing is not None:
            raise Missing(self.missing)
        given = "\n".join(map(hex, addresses or [])).encode()
        done = subprocess.run(
            [self._program, what, file, str(repeat + 1)], input=given, capture_output=True, timeout=LIMIT
        )
        if done.returncode == 3:
            call = "PAGEMAP_SCAN (older than Linux 6.7)" if what == "scan" else "PROCMAP_QUERY (older than Linux 6.11)"
            raise Missing(f"this kernel has no {call}")
        if done.returncode:
            raise RuntimeError(f"floors {what} {file}: {done.stderr.decode().strip()}")
        return _mean(done.stdout)


def _mean(output: bytes) -> float:
    """Of all lines but the first, which warms up."""
    taken = [float(line) for line in output.split()[1:]]
    return sum(taken) / len(taken)


class Rust:
    """The Rust crate procfs, where cargo and Debian's package of it are (librust-procfs-dev)."""

    def __init__(self, folder: Path) -> None:
        """Builds the program in a folder. `missing` says why there is none."""
        self.missing: str | None = None
        self.version = ""
        self._program = folder / "peer" / "target" / "release" / "peer"
        cargo = shutil.which("cargo")
        found = sorted(REGISTRY.glob("procfs-[0-9]*"))
        if cargo is None or not found:
            self.missing = "no cargo in PATH" if cargo is None else "apt-get install librust-procfs-dev"
            return
        self.version = found[-1].name
        peer = folder / "peer"
        (peer / "src").mkdir(parents=True)
        (peer / ".cargo").mkdir()
        (peer / "Cargo.toml").write_text(MANIFEST)
        (peer / ".cargo" / "config.toml").write_text(SOURCES)
        shutil.copy(HERE / "peer.rs", peer / "src" / "main.rs")
        command = [cargo, "build", "--release", "--offline", "--quiet"]
        built = subprocess.run(command, cwd=peer, capture_output=True, text=True, timeout=600)
        if built.returncode:
            self.missing = f"peer.rs does not build here: {built.stderr.strip().splitlines()[-1]}"

    def run(self, what: str, pid: int, *, repeat: int = 1) -> float:
        """Nanoseconds of the thing done once, as of the floors. Raises Missing."""
        if self.missing is not None:
            raise Missing(self.missing)
        command = [self._program, what, str(pid), str(repeat + 1)]
        done = subprocess.run(command, capture_output=True, timeout=LIMIT)
        if done.returncode:
            raise RuntimeError(f"peer {what} {pid}: {done.stderr.decode().strip()}")
        return _mean(done.stdout)


REGISTRY = Path("/usr/share/cargo/registry")
MANIFEST = """[package]
name = "peer"
version = "0.0.0"
edition = "2021"

[dependencies]
procfs = { version = "0", default-features = false }

[profile.release]
opt-level = 3
"""
SOURCES = f"""[source.crates-io]
replace-with = "debian"

[source.debian]
directory = "{REGISTRY}"
"""


class Worker:
    """A Python process that does jobs (see `worker`), with the compiled twins or without. A context manager."""

    def __init__(self, *, compiled: bool) -> None:
        environment = os.environ | {"VMATLAS_PURE": "0" if compiled else "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=HERE.parents[1],
        )

    def __enter__(self) -> Worker:
        return self

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def do(self, job: str, **details: object) -> float:
        """What a job says: nanoseconds. Raises Missing."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"job": job} | details) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], LIMIT)
        answer = self._process.stdout.readline().strip() if ready else ""
        if answer.startswith("missing "):
            raise Missing(answer.removeprefix("missing "))
        if not answer:
            raise RuntimeError(f"the worker did not do the job {job} within {LIMIT} seconds")
        return float(answer)


class Missing(Exception):
    """Something cannot be measured on this machine; the message says why."""
