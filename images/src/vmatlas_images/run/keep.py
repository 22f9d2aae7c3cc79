"""Machines that stay: booted once, asked many times. `invoke machine-boot NAME --keep 30m` holds one, and `qemu:NAME`
joins what is held.

Who holds a machine says so by a file in the cache that it has locked: the lock dies with the process, and what no
process has locked is held by nobody, whatever the file says. It ends with its time, when the file is taken away
(`invoke machine-end`), or with its holder, however that ends (guarded.py). One connection at a time has its agent; the
next waits for its turn.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from ..describe.machine import Machine
from ..errors import MachineError, StageError
from ..fetch.cache import Cache
from ..prepare.agents import FindAgent, built_agent
from ..terminal import line
from .attend import attend
from .boot import RunningMachine
from .handshake import greet

ROOM = "kept"
"""The folder of the cache with a file for each machine that is held."""
LONGEST = 24 * 3600.0
"""Seconds that a machine is kept at most."""
_LOOK = 0.2  # seconds between two looks at a file
_TRIES = 5
_ENDED_WITHIN = 60.0  # seconds in which a machine that shall end is gone


@dataclass(frozen=True)
class Kept:
    """A machine that a process of this user's holds."""

    name: str
    kernel: str
    accelerator: str
    scale: float
    """How many times faster or slower than under TCG on an idle host."""
    socket: str
    """Where its agent is connected to."""
    console: str
    until: float | None
    """When it ends, in seconds since 1970; None: with its holder."""

    @property
    def words(self) -> str:
        """How long it is there, for a person."""
        if self.until is None:
            return "until who holds it ends it"
        return f"until {time.strftime('%H:%M:%S', time.localtime(self.until))}"


def _file(name: str, cache: Cache) -> Path:
    return cache.room(ROOM) / f"{name}.json"


def kept(name: str, cache: Cache | None = None) -> Kept | None:
    """The machine of that name if one is held; None where there is none. Raises `ImagesError` where the cache cannot be
    trusted.
    """
    path = _file(name, cache or Cache())
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                told = json.load(file)
                return Kept(**told)
    except (FileNotFoundError, ValueError, TypeError):  # none; or its holder is just writing it
        return None
    return None


@contextlib.contextmanager
def offered(running: RunningMachine, until: float | None, cache: Cache | None = None) -> Iterator[Callable[[], bool]]:
    """Offers a machine to `qemu:NAME` for as long as the context lasts; gives a function that tells whether it is
    still wanted. Raises `MachineError` where one of that name is offered already.
    """
    name = running.machine.name
    path = _file(name, cache or Cache())
    offer = Kept(
        name=name,
        kernel=running.kernel,
        accelerator=str(running.accelerator),
        scale=running.accelerator.scale,
        socket=str(running.socket_path),
        console=str(running.console_path),
        until=until,
    )
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        for again in range(_TRIES, -1, -1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # or who looks has it, for a moment
                if not again:
                    raise MachineError(f"{name} is up already", hint=_ends(name)) from None
                time.sleep(_LOOK)
        file.truncate()
        file.write(json.dumps(asdict(offer)).encode())
        file.flush()

        def is_wanted() -> bool:
            try:
                return os.path.samestat(os.stat(path), os.fstat(descriptor))
            except FileNotFoundError:
                return False

        try:
            yield is_wanted
        finally:
            if is_wanted():
                path.unlink()


@contextlib.contextmanager
def turn(held: Kept, limit: float, cache: Cache | None = None) -> Iterator[None]:
    """The agent of a held machine, for this process alone. Raises `StageError` when it is another's for `limit`
    seconds.
    """
    path = _file(held.name, cache or Cache()).with_suffix(".turn")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + limit
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    told = f"another connection has had its agent for {limit:.3g} s, and it has one at a time"
                    raise StageError("agent", told, target=held.name) from None
                time.sleep(_LOOK)
        yield
    finally:
        os.close(descriptor)


def end_kept(name: str, cache: Cache | None = None) -> bool:
    """Has a held machine end, and waits until it is gone; false where none was held. Raises `StageError` when it
    stays.
    """
    held = kept(name, cache)
    if held is None:
        return False
    _file(name, cache or Cache()).unlink(missing_ok=True)
    end = time.monotonic() + _ENDED_WITHIN
    while Path(held.socket).exists():
        if time.monotonic() > end:
            raise StageError("end", f"it is still there after {_ENDED_WITHIN:g} s", target=name)
        time.sleep(_LOOK)
    return True


def hold(
    machine: Machine,
    seconds: float | None = None,
    *,
    out: Console,
    came_up: Callable[[], None] = lambda: None,
    find_agent: FindAgent = built_agent,
) -> None:
    """Boots the machine and holds it for so many seconds from its hello on (None: for ever), until it is no longer
    wanted, or Ctrl-C.

    Raises what `attend` and `offered` raise.
    """
    if kept(machine.name) is not None:
        raise MachineError(f"{machine.name} is up already", hint=_ends(machine.name))

    def stay(running: RunningMachine, wait: Callable[[], None]) -> None:
        with offered(running, None if seconds is None else time.time() + seconds) as is_wanted:
            end = None if seconds is None else time.monotonic() + seconds
            came_up()
            while is_wanted() and (end is None or time.monotonic() < end):
                wait()

    ends = "Ctrl-C ends it." if seconds is None else f"it ends in {seconds:,.6g} s, or {_ends(machine.name)}."
    ends = f"--target qemu:{machine.name} joins it; {ends}"
    attend(machine, hello=greet, out=out, stay=stay, ends=ends, find_agent=find_agent)


def _ends(name: str) -> str:
    return f"'invoke machine-end {name}' ends it"


def hold_apart(name: str, seconds: float, out: Console) -> int:
    """Has a process of its own hold the machine, shows what it says until the machine is up, and leaves it.

    Gives its exit status where it ended before that. Ctrl-C, and whatever else ends this process before, ends it too.
    """
    command = [sys.executable, "-P", "-m", "vmatlas_images.keeper", name, repr(seconds)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            for said in holder.stdout:
                words = said.decode("utf-8", "replace").rstrip("\n")
                if words == UP:
                    holder.stdin.write(STAY)
                    holder.stdin.flush()
                    holder.returncode = 0  # it is left: the context must not wait for it
                    return 0
                out.print(line(words), soft_wrap=True)
        except BaseException:
            holder.terminate()
            raise
        return holder.wait()


UP = "up"
STAY = b"stay\n"
"""What a keeper says once its machine is up, and what it is told then; before that, its starter's end is its own."""
