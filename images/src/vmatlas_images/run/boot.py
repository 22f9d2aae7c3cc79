"""Boots a machine to its agent's hello, in stages that each have a limit, and ends it whatever happens.

Stages: fetch, prepare, boot (QEMU starts; the console speaks; the dialogue is held), agent (the hello), test (the
caller's). A word of panic on the console, or QEMU's end, ends a stage at once with the console's last words. QEMU
runs under a guard, so it does not outlive this process. What a hello is, the caller says: this module moves bytes
and reads none.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vmatlas.errors import VmatlasError

from ..describe.machine import Machine
from ..errors import ImagesError, NotAsExpected, NotRunnable, StageError
from ..fetch.cache import Cache
from ..fetch.download import Progress, quiet
from ..fetch.guarded import Guarded
from ..fetch.python import fetch_userland
from ..fetch.sources import Fetched, fetch
from ..prepare.agents import FindAgent, built_agent
from ..prepare.preparing import Prepared, prepare
from ..prepare.userland import with_userland
from . import accelerator as acceleration
from . import programs
from .accelerator import Accelerator
from .console import Console, SerialConsole, Transcript, VgaConsole, converse
from .qemu import Monitor, Sockets, arguments, qemu_for

T = TypeVar("T")
_WEEK = 7 * 24 * 3600


@dataclass(frozen=True)
class Greeting:
    """What the agent's hello told: the exact kernel, the width of its pointers (None: not told), all else by name."""

    kernel: str
    pointer_bits: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)


Hello = Callable[[socket.socket, float], Greeting]
"""Asks the agent at the end of a connected stream who it is, for at most so many seconds.

The guest may still be booting: it asks again until an answer comes. It raises when the stream ends; it is then over
with the machine, so the stream is shut down to end it.
"""
Watch = Callable[[str], None]
"""Told the name of each stage as it begins."""


class RunningMachine:
    """A machine that runs, with a connected stream to its agent. Made by `boot`; over when that context ends.

    `stream` is the connected socket; `socket_path` is where another process can connect once `stream` is closed (one
    at a time). `console_path` is the console's file, written to as the guest speaks.
    """

    def __init__(self, machine: Machine, prepared: Prepared, accelerator: Accelerator, console_path: Path) -> None:
        self.machine = machine
        self.accelerator = accelerator
        self.console_path = console_path
        self.greeting: Greeting | None = None
        self.fetched: Fetched | None = None
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        """Seconds of a processor that were spent on it, by what on: `boot` and `test` in the emulator, the `suite`
        beside it. What is not told is not in it."""
        self.notes: tuple[str, ...] = ()
        self._ended = False
        self._folder = _socket_folder()
        self.socket_path = self._folder / "agent"
        self._qemu_says = (self._folder / "qemu").open("w+b")
        self._console: Console | None = None
        self._monitor: Monitor | None = None
        self._guarded: Guarded | None = None
        self._stage = "boot"
        self._open: list[socket.socket] = []
        try:
            self._start_program(prepared) if machine.boot.is_program else self._start(prepared)
        except BaseException:
            self.stop()
            raise

    def _start_program(self, prepared: Prepared) -> None:
        """A kernel that is a program of this host: its console and wire are its descriptors."""
        machine = self.machine
        console, wire = socket.socketpair(), socket.socketpair()
        self._open += [console[0], wire[0]]
        with console[1], wire[1]:
            started = programs.start_of(machine, prepared, self._folder, console[1].fileno(), wire[1].fileno())
            self._guarded = Guarded(
                started.command,
                folder=self._folder,
                output=self._qemu_says,
                environment=started.environment,
                keep=(console[1].fileno(), wire[1].fileno()),
            )
        self._console = SerialConsole(console[0], Transcript(self.console_path), machine.boot.panic)
        programs.Relay(self._listen("agent"), wire[0], slowly=machine.boot.start == "user-mode")
        self.stream = self._connect("agent")

    def _start(self, prepared: Prepared) -> None:
        machine = self.machine
        qemu = qemu_for(machine)
        console, agent, monitor = (self._listen(name) for name in ("console", "agent", "monitor"))
        sockets = Sockets(console.fileno(), agent.fileno(), monitor.fileno())
        command = [str(qemu), *arguments(machine, prepared, self.accelerator.name, sockets)]
        keep = (sockets.console, sockets.agent, sockets.monitor)
        # The guard removes the folder, also when this process is killed.
        self._guarded = Guarded(command, folder=self._folder, output=self._qemu_says, keep=keep)
        for listening in (console, agent, monitor):
            listening.close()  # QEMU has its own: when it ends, a connection fails at once
        try:
            self._monitor = Monitor(self._connect("monitor"))
            transcript = Transcript(self.console_path)
            if machine.boot.console == "vga":
                self._console = VgaConsole(self._memory, self._press, transcript, machine.boot.panic)
            else:
                self._console = SerialConsole(self._connect("console"), transcript, machine.boot.panic)
            self.stream = self._connect("agent")
            self._monitor.execute("cont")
        except (ImagesError, OSError) as error:
            self._guarded.wait(2)  # its own word on why it ended says more than a connection that broke
            self.check()
            raise self._lost(f"QEMU does not answer: {error}") from error

    @property
    def kernel(self) -> str:
        """The exact release that the guest itself told; before its hello, what its package is called."""
        if self.greeting is not None:
            return self.greeting.kernel
        return self.fetched.says if self.fetched is not None else "unknown"

    @property
    def console(self) -> Console:
        """The console, to read and to type on."""
        assert self._console is not None
        return self._console

    def check(self) -> None:
        """Raises `StageError` when the machine has panicked or QEMU has ended."""
        assert self._guarded is not None
        if self._console is not None and self._console.panic is not None:
            self._console.settle()
            raise self._lost(f"the kernel panicked: {self._console.panic}")
        if (status := self._guarded.wait(0)) is not None:
            if self._console is not None:
                self._console.close()  # reads what is left
                if (panic := self._console.panic) is not None:
                    raise self._lost(f"the kernel panicked: {panic}")
            said = self._qemu_words()
            if self.machine.boot.is_program:
                raise self._ended_as_program(status, said)
            raise self._lost(
                f"QEMU ended with status {status}{': ' + said if said else ' (the guest reset or halted)'}"
            )

    def watched(self, stage: str, limit: float, work: Callable[[], T]) -> T:
        """Does `work` in a thread of its own, for at most `limit` seconds under TCG, while the machine lives.

        Raises `StageError` when the machine is lost or the limit passes: the machine is ended then, which closes the
        stream, so that work that waits for it comes to an end too. What goes wrong before the test stage is a
        `StageError` too; there, what `work` raises is raised, unless the machine's loss was the cause.
        """
        self._stage = stage
        limit *= self.accelerator.scale
        started = time.monotonic()
        results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def do() -> None:
            try:
                results.put((work(), None))
            except BaseException as error:
                results.put((None, error))

        thread = threading.Thread(target=do, name=f"{self.machine.name}-{stage}", daemon=True)
        thread.start()
        try:
            while True:
                try:
                    value, error = results.get(timeout=0.1)
                except queue.Empty:
                    self.check()
                    if time.monotonic() - started > limit:
                        raise self._lost(f"not through within {limit:g} s") from None
                    continue
                if error is not None:
                    self._give_time_to_fall()
                    self.check()
                    if stage != "test" and isinstance(error, VmatlasError | OSError | EOFError):
                        raise self._lost(str(error) or type(error).__name__) from error
                    raise error
                return value  # type: ignore[return-value]
        except BaseException:
            self.stop()
            thread.join(5)
            raise
        finally:
            self.seconds[stage] = time.monotonic() - started

    def has_booted(self) -> None:
        """What its emulator has spent until now, it has spent on the boot."""
        if self._guarded is not None and (spent := self._guarded.spent()) is not None:
            self.processor["boot"] = spent

    def stop(self) -> None:
        """Ends the machine and lets go of everything. May be called again."""
        if self._ended:
            return
        self._ended = True
        stream: socket.socket | None = getattr(self, "stream", None)
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        if self._guarded is not None:
            self._guarded.end()
            if (spent := self._guarded.processor_seconds) is not None:
                booted = self.processor.setdefault("boot", spent)
                if spent > booted:
                    self.processor["test"] = spent - booted
        if self._console is not None:
            self._console.close()
            if problem := self._console.transcript.problem:
                self.notes += (f"the file of its console is not whole: {problem}",)
        if self._monitor is not None:
            self._monitor.close()
        for opened in self._open:
            opened.close()
        self._qemu_says.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self, name: str) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open.append(listening)
        listening.bind(str(self._folder / name))
        listening.listen(1)
        return listening

    def _connect(self, name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open.append(connection)
        connection.connect(str(self._folder / name))
        return connection

    def _memory(self, address: int, size: int) -> bytes:
        assert self._monitor is not None
        place = self._folder / "memory"
        self._monitor.execute("pmemsave", {"val": address, "size": size, "filename": str(place)})
        return place.read_bytes()

    def _press(self, keys: Sequence[str]) -> None:
        assert self._monitor is not None
        named: list[object] = [{"type": "qcode", "data": key} for key in keys]
        self._monitor.execute("send-key", {"keys": named, "hold-time": 20})
        time.sleep(0.05)  # a guest's keyboard driver loses keys that come faster

    def _give_time_to_fall(self) -> None:
        """When the work failed, the machine may just be falling: its own last words are the better story."""
        assert self._guarded is not None
        self._guarded.wait(0.5)

    def _qemu_words(self) -> str:
        self._qemu_says.seek(0)
        return " ".join(self._qemu_says.read(4000).decode("utf-8", "replace").split())[:500]

    def _ended_as_program(self, status: int, said: str) -> VmatlasError:
        """One that a host does not let run (no ptrace, no user namespaces, an older C library) is no lost machine."""
        words = self._console.last_words() if self._console is not None else ""
        if self.greeting is None and not programs.has_begun(self.machine, words):
            told = " ".join(f"{said} {words}".split())[-500:] or "no word"
            return NotRunnable(f"its program does not run on this host (status {status}): {told}")
        return self._lost(f"its program ended with status {status}{': ' + said if said else ''}")

    def _lost(self, problem: str) -> StageError:
        words = self._console.last_words() if self._console is not None else ""
        hint = f"the console is in {self.console_path}"
        return StageError(self._stage, problem, target=self.machine.name, last_words=words, hint=hint)


def _socket_folder() -> Path:
    """A new folder whose sockets have names that fit (sun_path holds 108 bytes, unix(7))."""
    folder = tempfile.mkdtemp(prefix="vmatlas-")
    if len(folder) > 90:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="vmatlas-", dir="/tmp")
    return Path(folder)


def emulator_for(machine: Machine) -> Path | None:
    """QEMU for the machine; None where it needs none. Raises `NotRunnable` where it cannot run on this host."""
    if machine.boot.is_program:
        programs.check_host(machine)
        return None
    return qemu_for(machine)


@contextlib.contextmanager
def boot(
    machine: Machine,
    *,
    hello: Hello,
    cache: Cache | None = None,
    console: Path | None = None,
    find_agent: FindAgent = built_agent,
    accelerator: Accelerator | None = None,
    progress: Progress = quiet,
    watch: Watch = lambda stage: None,
    started: Callable[[RunningMachine], None] = lambda running: None,
) -> Iterator[RunningMachine]:
    """Fetches, prepares and boots a machine, waits for its agent's hello, and ends it when the context ends.

    `console` names the console's file (else it is one in the cache, kept for a week); `started` is told of the machine
    as soon as QEMU runs, so that the caller has it even if its hello never comes. Raises `NotRunnable`,
    `FetchError`, or `StageError` for a machine that did not come to its hello.
    """
    cache = cache or Cache()
    emulator_for(machine)  # before anything is fetched for it
    seconds: dict[str, float] = {}
    with _timed(seconds, "fetch", watch):
        fetched = fetch(machine, cache, progress=progress)
        userland = fetch_userland(machine, cache, progress=progress) if machine.python is not None else None
    with contextlib.ExitStack() as held:
        with _timed(seconds, "prepare", watch):
            agent = find_agent(machine.system, machine.agent_processor)
            prepared = prepare(machine, fetched, agent, cache)
            if userland is not None:
                space = held.enter_context(cache.workspace())
                prepared = with_userland(prepared, machine, userland, agent, cache, space)
            if accelerator is None and machine.boot.is_program:
                accelerator = acceleration.without()
            accelerator = accelerator or acceleration.choose(machine.processor, cache)
        watch("boot")
        begun = time.monotonic()
        running = RunningMachine(machine, prepared, accelerator, console or _console_path(machine, cache))
        held.callback(running.stop)
        running.fetched, running.notes = fetched, fetched.notes + (userland.notes if userland is not None else ())
        started(running)
        running.watched("boot", machine.limits.boot, lambda: _come_up(running))
        seconds["boot"] = time.monotonic() - begun
        watch("agent")
        limit = machine.limits.agent * accelerator.scale
        running.greeting = running.watched("agent", machine.limits.agent, lambda: hello(running.stream, limit))
        running.seconds |= seconds
        running.has_booted()
        _check_greeting(running, running.greeting)
        yield running


def _come_up(running: RunningMachine) -> None:
    """The boot stage: the dialogue, or the console's first word where there is none."""
    machine = running.machine
    if machine.dialogue:
        converse(machine.dialogue, running.console, scale=running.accelerator.scale, check=running.check)
        return
    while machine.boot.start != "sandbox" and not running.console.said_anything():
        running.check()
        running.console.wait(0.1)


def _check_greeting(running: RunningMachine, greeting: Greeting) -> None:
    """What the description says of the kernel must be what the guest itself says."""
    expect = running.machine.expect
    if greeting.kernel not in expect.kernel:
        raise NotAsExpected(running.machine.name, f"a kernel {expect.kernel}", greeting.kernel)
    if expect.pointer_bits is not None and greeting.pointer_bits not in (None, expect.pointer_bits):
        told = f"one of {greeting.pointer_bits}"
        raise NotAsExpected(running.machine.name, f"an agent of {expect.pointer_bits} bits", told)
    for name, wanted in (("byte_order", expect.byte_order), ("page_size", expect.page_size)):
        said = greeting.details.get(name, "not told")
        if wanted is not None and said != str(wanted):
            raise NotAsExpected(running.machine.name, f"{name} {wanted}", said)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str, watch: Watch) -> Iterator[None]:
    watch(stage)
    started = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - started


def _console_path(machine: Machine, cache: Cache) -> Path:
    folder = cache.room("consoles")
    for old in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > _WEEK:
                old.unlink()
    return folder / f"{machine.name}-{os.getpid()}.log"
