"""Kernels that are programs of this host: the relay to them, and what is said when one does not run."""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, Greeting, Machine, NotRunnable, StageError, boot
from vmatlas_images.report.overview import overview
from vmatlas_images.run.programs import Relay

from .conftest import ask, describe

PROGRAM = """\
name: p
about: a test
system: linux
processor: x86_64
source: {kind: file, path: ./program, obtain: x}
boot: {start: START, panic: ["Kernel panic"]}
agent: {delivery: init}
"""

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="programs for Linux on x86-64"
)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[socket.socket, Path]]:
    """The machine's end of a wire with a relay, and where it listens."""
    wire, machine = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as listening, wire, machine:
        listening.bind(str(tmp_path / "s"))
        listening.listen(1)
        Relay(listening, wire, slowly=True)
        machine.settimeout(PATIENCE)
        yield machine, tmp_path / "s"


def connected(place: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    made.connect(str(place))
    return made


def received(end: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (piece := end.recv(size - len(got))):
        got += piece
    return got


def test_one_after_the_other_is_connected_and_all_ends_with_the_machine(ends: tuple[socket.socket, Path]) -> None:
    machine, place = ends
    for word in (b"first", b"second"):
        with connected(place) as client:
            client.sendall(word)
            assert received(machine, len(word)) == word
            machine.sendall(word.upper())
            assert received(client, len(word)) == word.upper()
    with connected(place) as client:
        client.sendall(b"x")
        assert machine.recv(1) == b"x"
        machine.shutdown(socket.SHUT_RDWR)
        assert client.recv(1) == b""


def test_a_machine_that_reads_slowly_never_has_much_to_read(ends: tuple[socket.socket, Path]) -> None:
    machine, place = ends
    content = os.urandom(4000)
    with connected(place) as client:
        client.sendall(b"x")
        assert machine.recv(1) == b"x"
        machine.sendall(b"y")
        assert client.recv(1) == b"y"
        threading.Thread(target=client.sendall, args=(content,), daemon=True).start()
        got = b""
        while len(got) < len(content):
            got += (piece := machine.recv(1 << 16))
            assert 0 < len(piece) <= 512
    assert got == content


def program(folder: Path, start: str, text: str) -> Machine:
    place = folder / "program"
    place.write_text(text)
    place.chmod(0o755)
    (folder / "agent").write_bytes(b"agent")
    return describe(folder, "p", PROGRAM.replace("START", start))


def greeted(stream: socket.socket, limit: float) -> Greeting:
    return Greeting(ask(stream, "hello", r"hello (\S+)\n", limit)[1].decode())


def booted(machine: Machine, cache: Cache) -> str:
    folder = machine.path.parent
    with boot(
        machine, hello=greeted, cache=cache, console=folder / "log", find_agent=lambda *_: folder / "agent"
    ) as up:
        assert up.accelerator.name == "none"
        return up.kernel


@pytest.mark.parametrize("start", ["user-mode", "sandbox"])
def test_a_program_that_the_host_does_not_let_run_is_not_run_with_its_words(
    cache: Cache, tmp_path: Path, start: str
) -> None:
    machine = program(tmp_path, start, "#!/bin/sh\necho no ptrace for you >&2\nexit 3\n")
    with pytest.raises(NotRunnable, match=r"does not run on this host \(status 3\): no ptrace for you"):
        booted(machine, cache)


def test_a_kernel_that_panics_is_lost(cache: Cache, tmp_path: Path) -> None:
    text = f"""#!{sys.executable}
import os, sys, time
console = next(int(word.partition(":")[2]) for word in sys.argv if word.startswith("con0=fd:"))
os.write(console, b"Linux version 6.1\\nKernel panic - not syncing: x\\n")
time.sleep(60)
"""
    with pytest.raises(StageError, match="the kernel panicked: Kernel panic - not syncing: x"):
        booted(program(tmp_path, "user-mode", text), cache)


@pytest.mark.parametrize("descriptors", [0, 20])
def test_a_program_answers_by_its_standard_input_and_output_whatever_their_numbers_were(
    cache: Cache, tmp_path: Path, descriptors: int
) -> None:
    text = """#!/bin/sh
echo "$@" >&2
while read word; do echo hello 4.4.0; done
"""
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(descriptors)]
    try:
        assert booted(program(tmp_path, "sandbox", text), cache) == "4.4.0"
    finally:
        for descriptor in held:
            os.close(descriptor)
    said = (tmp_path / "log").read_text().split()
    assert said[1:] == ["--rootless", "--network=none", "--ignore-cgroups", "do", str(tmp_path / "agent")]


def test_a_program_for_another_processor_is_not_run(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = program(tmp_path, "sandbox", "")
    assert overview([machine], cache, lambda system, processor: True)[0].obstacle is None
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(NotRunnable, match="a program for Linux on x86_64, and this host is another"):
        booted(machine, cache)
