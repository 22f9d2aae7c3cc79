"""What a file tells of a process's end, besides its map. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from vmatlas.values import dataclass

SIGNALS_OF_BSD = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGEMT", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGBUS", 11: "SIGSEGV", 12: "SIGSYS", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
}  # fmt: skip
"""As FreeBSD, NetBSD, OpenBSD and QNX count them: those that end a process."""


class CrashedThread(NamedTuple):
    """A thread as it stood when the file was written."""

    number: int | None
    """Its id in the process's own pid namespace."""
    program_counter: int | None
    """The address of the instruction that it was about to execute; None where that is not told."""
    stack_pointer: int | None


class Module(NamedTuple):
    """A program or library that a file lists, where it tells no map: one range from its first segment to its last."""

    start: int
    size: int
    """Bytes."""
    name: str
    """As the file calls it: a path, or the library's own name for itself."""
    build_id: bytes | None

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Crash:
    """Why and where a process ended, as far as a file tells. What it does not tell is None."""

    signal: int | None
    """The number of the signal, as its system and processor count them; None where it did not stop by one."""
    signal_name: str | None
    """"SIGSEGV"."""
    code: int | None
    """The signal's `si_code`: what sent it."""
    fault_address: int | None
    """The address at which an access faulted."""
    fault_span: int
    """The address is known to so many bytes: 1, or a page where the processor tells no more (s390x)."""
    no_address: str
    """Why there is no fault address, in words; empty where there is one."""
    threads: tuple[CrashedThread, ...]
    """The one that crashed first."""
    program: str | None
    """The system's short name of the program."""
    arguments: str | None
    """The beginning of its command line, as the system kept it."""
    modules: tuple[Module, ...] = ()
    """Programs and libraries, where a file lists them."""
    no_map: str = ""
    """Why the file tells no map, in words; empty where it does."""
    left_out: str = ""
    """Why its map may lack regions, in words: a gap in it is not known to be a hole in the process. Else empty."""
    said: str | None = None
    """What a report itself says of the end, where that was no signal: a sanitizer's finding, a panic of Go."""
    unit: str | None = None
    """The unit of systemd that the process was of."""
    executable: str | None = None
    """The path of the program, as systemd noted it."""
    host: str | None = None
    """The machine's name, as systemd noted it."""
