"""Real guests in QEMU: to the hello in seconds, and out again whatever goes wrong on the way.

The Linux guests run Debian's kernel of `linux-6.12` (from the cache, or this host's mirror) with tests/guest/init.c;
the VGA guest is ten bytes of ours that echo keys.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import (
    Cache,
    Case,
    CaseState,
    Greeting,
    Machine,
    NotAsExpected,
    Outcome,
    RunningMachine,
    StageError,
    State,
    boot,
    fetch,
    find,
    run,
)
from vmatlas_images.describe.machine import Step
from vmatlas_images.run import console
from vmatlas_images.run.console import converse

from .conftest import ask, describe, hello
from .test_guard import within

pytestmark = [pytest.mark.machine, pytest.mark.network, pytest.mark.timeout(6 * PATIENCE)]


Booting = Callable[..., AbstractContextManager[RunningMachine]]


@pytest.fixture
def booting(guest_init: Path, tmp_path: Path) -> Booting:
    """`boot` with the test guest's init, its hello, and the console in the test's folder."""
    return functools.partial(
        boot, hello=hello, find_agent=lambda system, processor: guest_init, console=tmp_path / "console.log"
    )


def ask_once(stream: socket.socket, word: bytes, answer: bytes, limit: float) -> None:
    """Asks once, for what must not be done twice."""
    stream.settimeout(limit)
    stream.sendall(word)
    heard = b""
    while answer not in heard:
        if not (said := stream.recv(4096)):
            raise EOFError
        heard += said


def altered(tmp_path: Path, old: str = "", new: str = "", name: str = "linux-6.12") -> Machine:
    """One of our machines with a changed line."""
    text = find(name).path.read_text()
    assert old in text
    return describe(tmp_path, name, text.replace(old, new))


def pid_of(running: RunningMachine) -> int:
    """The pid of a running machine's QEMU, by the descriptors that only it has been given."""
    assert running._guarded is not None
    children = Path(f"/proc/{running._guarded.process.pid}/task/{running._guarded.process.pid}/children")
    return int(children.read_text().split()[0])


@pytest.mark.parametrize("name", ["linux-6.1", "linux-6.12", "linux-6.17", "linux-newest"])
def test_a_machine_boots_to_its_hello(booting: Booting, name: str) -> None:
    machine = find(name)
    with booting(machine) as running:
        assert running.kernel in machine.expect.kernel
        assert running.greeting == Greeting(running.kernel, 64)
        assert running.accelerator.name in ("kvm", "tcg")
        assert ask(running.stream, "hello", r"hello (\S+) \d+\n", PATIENCE)[1].decode() == running.kernel
        pid = pid_of(running)
        assert Path(f"/proc/{pid}/exe").resolve().name.startswith("qemu-system")
    assert not Path(f"/proc/{pid}").exists()
    assert not running.socket_path.parent.exists()
    assert "test init is here" in running.console_path.read_text()


def test_a_panic_ends_the_boot_at_once_with_its_words(booting: Booting, tmp_path: Path) -> None:
    machine = altered(tmp_path, "console=ttyS0", "init=/nonexistent rdinit=/nonexistent console=ttyS0")
    started = time.monotonic()
    with (
        pytest.raises(StageError, match=r"the kernel panicked: .*Kernel panic - not syncing") as caught,
        booting(machine),
    ):
        pass
    assert time.monotonic() - started < PATIENCE
    assert "Kernel panic - not syncing" in caught.value.last_words
    assert caught.value.target == "linux-6.12"
    assert "nonexistent" in (tmp_path / "console.log").read_text()


def test_a_panic_ends_the_test_stage_at_once(booting: Booting) -> None:
    with booting(find("linux-6.12")) as running:
        started = time.monotonic()
        with pytest.raises(StageError, match=r"test: the kernel panicked: .*Attempted to kill init"):
            running.watched("test", 4 * PATIENCE, lambda: ask(running.stream, "panic", "never", 2 * PATIENCE))
        assert time.monotonic() - started < PATIENCE


def test_a_guest_that_hangs_ends_at_its_limit_and_frees_the_waiting_test(booting: Booting) -> None:
    ended = threading.Event()

    def wait_for_ever(stream: socket.socket) -> None:
        stream.settimeout(None)
        stream.sendall(b"silence\n")
        try:
            while stream.recv(100):
                pass
        finally:
            ended.set()

    with booting(find("linux-6.12")) as running:
        scale = running.accelerator.scale
        with pytest.raises(StageError, match=f"test: not through within {2 * scale:g} s"):
            running.watched("test", 2, lambda: wait_for_ever(running.stream))
        assert ended.wait(PATIENCE)
        assert running._guarded is not None
        assert running._guarded.wait(0) is not None


@pytest.mark.parametrize("word", ["off", "reset"])
def test_a_guest_that_goes_away_is_told_from_one_that_hangs(booting: Booting, word: str) -> None:
    with booting(find("linux-6.12")) as running, pytest.raises(StageError, match="QEMU ended with status 0"):
        running.watched("test", 120, lambda: ask(running.stream, word, "never", 100))


def test_a_qemu_that_is_killed_ends_the_stage(booting: Booting) -> None:
    with booting(find("linux-6.12")) as running:
        threading.Timer(0.5, os.kill, (pid_of(running), signal.SIGKILL)).start()
        with pytest.raises(StageError, match="QEMU ended with status 137"):
            running.watched("test", 120, lambda: ask(running.stream, "silence", "never", 100))


def test_a_flooded_console_costs_neither_disk_nor_the_test(booting: Booting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "HEAD", 64 << 10)
    monkeypatch.setattr(console, "TAIL", 16 << 10)
    with booting(find("linux-6.12")) as running:
        running.watched("test", 240, lambda: ask_once(running.stream, b"flood 512\n", b"flooded\n", 200))
    kept = running.console_path.read_bytes()
    assert len(kept) <= (64 << 10) + (16 << 10) + 200
    assert kept.startswith(b"[    0.000000] Linux version")
    found = re.search(rb"\[vmatlas: (\d+) bytes of this console are left out here\]", kept)
    assert found is not None
    assert int(found[1]) > 400 << 10
    assert b"a console that is flooded" in kept[-100:]


def test_a_kernel_that_is_not_the_expected_one_fails(booting: Booting, tmp_path: Path) -> None:
    machine = altered(tmp_path, 'kernel: {at_least: "6.12"', 'kernel: {at_least: "6.12.9999"')
    with (
        pytest.raises(NotAsExpected, match=r"expected a kernel >= 6.12.9999 and < 6.13, found 6\.12\."),
        booting(machine),
    ):
        pass


def test_a_process_of_the_wrong_width_fails(booting: Booting, tmp_path: Path) -> None:
    machine = altered(tmp_path, "pointer_bits: 64", "pointer_bits: 32")
    with pytest.raises(NotAsExpected, match="expected an agent of 32 bits, found one of 64"), booting(machine):
        pass


@pytest.mark.parametrize("fact", ["page_size: 16384", "byte_order: big"])
def test_a_machine_of_other_pages_or_bytes_fails(booting: Booting, tmp_path: Path, fact: str) -> None:
    def told(stream: socket.socket, limit: float) -> Greeting:
        return replace(hello(stream, limit), details={"page_size": "4096", "byte_order": "little"})

    machine = altered(tmp_path, "pointer_bits: 64", fact)
    expected = fact.replace(":", "")
    with pytest.raises(NotAsExpected, match=f"expected {expected}, found (4096|little)"), booting(machine, hello=told):
        pass


def test_a_hello_that_never_comes_is_a_lost_machine(booting: Booting, tmp_path: Path) -> None:
    def deaf(stream: socket.socket, limit: float) -> Greeting:
        raise TimeoutError("no hello")

    with pytest.raises(StageError, match="agent: no hello") as caught, booting(find("linux-6.12"), hello=deaf):
        pass
    assert "Linux version" in (tmp_path / "console.log").read_text()
    assert str(tmp_path / "console.log") in (caught.value.hint or "")


def test_arguments_that_qemu_refuses_are_told_in_its_words(booting: Booting, tmp_path: Path) -> None:
    machine = altered(tmp_path, "start: kernel", "start: kernel\n  board: no-such-board")
    with (
        pytest.raises(StageError, match=r"boot: QEMU ended with status 1: .*unsupported machine type"),
        booting(machine),
    ):
        pass


def test_another_process_can_use_the_agents_socket(booting: Booting) -> None:
    with booting(find("linux-6.12")) as running:
        running.stream.close()
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as stream:
                stream.settimeout(PATIENCE)
                stream.connect(str(running.socket_path))
                assert hello(stream, PATIENCE).kernel == running.kernel


RUNNER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from vmatlas_images import boot, find
from {package}.conftest import hello
agent, console = Path({init!r}), Path({console!r})
with boot(find("linux-6.12"), hello=hello, find_agent=lambda system, processor: agent, console=console) as machine:
    print(machine.socket_path.parent, flush=True)
    machine.stream.settimeout(None)
    # Until it ends: on a busy host hello is asked twice, and the second answer comes late.
    machine.watched("test", 500, lambda: [None for _ in iter(lambda: machine.stream.recv(4096), b"")])
"""


@pytest.mark.parametrize(
    ("number", "whom"), [(signal.SIGKILL, os.kill), (signal.SIGINT, os.killpg), (signal.SIGTERM, os.killpg)]
)
def test_no_qemu_outlives_its_runner(guest_init: Path, tmp_path: Path, number: int, whom: object) -> None:
    here = Path(__file__).parent
    text = RUNNER.format(
        tests=str(here.parent), package=here.name, init=str(guest_init), console=str(tmp_path / "console.log")
    )
    runner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert runner.stdout is not None
    folder = Path(runner.stdout.readline().strip())
    guard = int(Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()[0])
    qemu = int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])
    assert Path(f"/proc/{qemu}/exe").resolve().name.startswith("qemu-system")
    whom(runner.pid, number)  # type: ignore[operator]
    assert runner.wait(PATIENCE) != 0
    assert within(PATIENCE, lambda: not Path(f"/proc/{qemu}").exists() and not Path(f"/proc/{guard}").exists())
    assert within(PATIENCE, lambda: not folder.exists())
    runner.stdout.close()


KEYS = bytes.fromhex("30e4 cd16 b40e cd10 ebf6")  # xor ah,ah; int 16h; mov ah,0eh; int 10h; jmp: echoes each key
VGA = """\
name: vga
about: a boot sector that echoes keys on a VGA text screen
system: other
processor: x86_64
source: {kind: file, path: disk, obtain: the test makes it}
boot: {start: disk, console: vga, memory: 32}
agent: {delivery: cd}
dialogue:
- {wait: Booting from Hard Disk}
- {type: "Qnx -v /dev/ser1 & ls > x", enter: false}
- {wait: "Qnx -v /dev/ser1 & ls > x", at: last_line}
"""


@pytest.fixture
def vga(tmp_path: Path, cache: Cache) -> Machine:
    """A machine with a VGA console and no serial one."""
    (tmp_path / "disk").write_bytes(KEYS.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    (tmp_path / "agent").write_bytes(b"agent")
    return describe(tmp_path, "vga", VGA)


def test_a_vga_machine_is_driven_through_its_screen_and_keys(vga: Machine, tmp_path: Path) -> None:
    before = (tmp_path / "disk").read_bytes()
    with boot(
        vga, hello=lambda stream, limit: Greeting("none"), find_agent=lambda *_: tmp_path / "agent",
        console=tmp_path / "screen.log",
    ) as running:  # fmt: skip
        converse([Step(type="!again_"), Step(wait="!again_", within=20)], running.console, scale=1, check=running.check)
        assert "Booting from Hard Disk" in running.console.last_words()
    assert "ls > x" in (tmp_path / "screen.log").read_text()
    assert (tmp_path / "disk").read_bytes() == before


def test_a_dialogue_that_gets_no_answer_names_its_step(vga: Machine, tmp_path: Path) -> None:
    silent = describe(
        tmp_path, "vga", VGA.replace("- {wait: Booting from Hard Disk}", "- {wait: never said, within: 3}")
    )
    with (
        pytest.raises(StageError, match="boot: step 1 of the dialogue: nothing like 'never said' came") as caught,
        boot(silent, hello=hello, find_agent=lambda *_: tmp_path / "agent", console=tmp_path / "screen.log"),
    ):
        pass
    assert "SeaBIOS" in caught.value.last_words


def test_machines_run_side_by_side_and_each_is_told(guest_init: Path, tmp_path: Path) -> None:
    def conformance(running: RunningMachine) -> Outcome:
        if running.machine.name == "linux-6.17":
            ask(running.stream, "panic", "never", 100)
        kernel = ask(running.stream, "hello", r"hello (\S+) \d+\n", 20)[1].decode()
        case = Case("same kernel twice", CaseState.PASSED if kernel == running.kernel else CaseState.FAILED)
        expect = running.machine.expect
        return Outcome(
            (case,), expect.all_answering, {name: f"before {why}" for name, why in expect.all_refusing.items()}
        )

    chosen = [find(name) for name in ("linux-6.1", "linux-6.12", "linux-6.17")]
    for machine in chosen:
        fetch(machine)
    report = run(
        chosen, conformance, hello=hello, output=tmp_path / "out", find_agent=lambda system, processor: guest_init
    )
    assert [result.verdict for result in report.results] == ["passed", "passed", "LOST"]
    assert report.results[2].state is State.LOST
    assert "Attempted to kill init" in report.results[2].last_words
    assert re.fullmatch(r"6\.1\.\d.*", report.results[0].kernel)
    assert sorted(path.name for path in (tmp_path / "out" / "consoles").iterdir()) == [
        "linux-6.1.log", "linux-6.12.log", "linux-6.17.log",
    ]  # fmt: skip


ATTENDANT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from rich.console import Console
from vmatlas_images import attend, find
from {package}.conftest import hello
out = Console(width=300)
attend(find("linux-6.12"), hello=hello, out=out, find_agent=lambda s, p: Path({init!r}), console=Path({console!r}))
"""


def test_a_person_is_told_where_everything_is_and_ends_it_with_ctrl_c(guest_init: Path, tmp_path: Path) -> None:
    here = Path(__file__).parent
    text = ATTENDANT.format(
        tests=str(here.parent), package=here.name, init=str(guest_init), console=str(tmp_path / "console.log")
    )
    person = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert person.stdout is not None
        shown = ""
        while "Ctrl-C ends it." not in shown and (line := person.stdout.readline()):
            shown += line
        assert f"console:     {tmp_path}/console.log" in shown
        found = re.search(r"agent: +(\S+)", shown[shown.index("is up") :])
        assert found is not None
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(found[1])
            assert hello(stream, PATIENCE).kernel in shown
        os.killpg(person.pid, signal.SIGINT)
        assert person.communicate(timeout=PATIENCE)[0].endswith("linux-6.12: ended\n")
        assert person.returncode == 0
        assert not Path(found[1]).exists()
    finally:
        if person.poll() is None:
            os.killpg(person.pid, signal.SIGKILL)
            person.communicate()
