"""For which machines agents are built: a table, one row a processor. Another Linux processor is another row; another
distribution's system is an entry of the group `vmatlas.agent_systems`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SYSTEM_SOURCES = {
    "freebsd": ("system_freebsd.c", "system_plain.c", "system_unix.c"),
    "linux": ("system_linux.c", "stat_linux.c", "look_up_linux.c", "system_proc.c", "system_unix.c", "init_linux.c"),
    "netbsd": ("system_netbsd.c", "system_plain.c", "system_unix.c"),
    "qnx": ("system_qnx.c", "system_plain.c", "system_proc.c"),
}
"""The C files by system: its own, and those that it has in common with another."""

PORTABLE_SOURCES = (
    "main.c",
    "port.c",
    "serve.c",
    "dispatch.c",
    "relay.c",
    "access.c",
    "children.c",
    "files.c",
    "memory.c",
    "processes.c",
    "session.c",
    "watch.c",
    "fields.c",
    "guard.c",
    "process_record.c",
    "reader.c",
    "tty.c",
    "answer.c",
    "pieces.c",
    "channel.c",
    "clock.c",
    "errno_name.c",
    "frame.c",
    "life.c",
)
"""The C files of every agent, floor by floor (README.md)."""


MUSL_FILES = {
    "dirent": "closedir opendir readdir",
    "env": "__environ __init_tls __libc_start_main",
    "errno": "__errno_location",
    "exit": "_Exit abort_lock exit",
    "fcntl": "fcntl open openat",
    "internal": "defsysinfo libc procfdname syscall_ret vdso",
    "ipc": "shmat shmctl shmget",
    "linux": "mount prctl",
    "misc": "getauxval ioctl syscall",
    "mman": "mmap msync munmap shm_open",
    "process": "_Fork waitpid",
    "select": "poll",
    "setjmp": "longjmp setjmp",
    "signal": "block kill raise restore sigaction siglongjmp signal sigsetjmp sigsetjmp_tail",
    "stat": "chmod fstat fstatat lstat mkdir stat",
    "termios": "cfsetospeed tcgetattr tcsetattr",
    "thread": "__lock __set_thread_area __syscall_cp default_attr pthread_setcancelstate pthread_testcancel",
    "time": "clock_gettime",
    "unistd": "ftruncate isatty lseek pread read readlink readlinkat setsid write",
}
"""What the agent needs of musl, by folder: files that ziglang has; where a processor has one of its own, that one."""

MUSL_BESIDE = ("libc_linux.c",)
"""What it needs besides."""


@dataclass(frozen=True, slots=True)
class NamesOnly:
    """A system whose C library and headers are not at hand: the program is linked against a library of bare names.

    At run time the system's own library of that name is loaded; what it is told on the way is its ABI.
    """

    library: str
    """What the program says that it needs: "libc.so.3"."""
    symbols: str
    """The file with the names that the library has, below the agent's sources; a name that is not there is an error."""
    include: str
    """The folder with our declarations of that library."""
    start: tuple[str, ...]
    """The C files that stand in for the system's start files."""
    link: tuple[str, ...]
    """What ziglang's ld.lld is told."""


QNX_X86 = NamesOnly(
    library="libc.so.3",
    symbols="qnx/libc.symbols",
    include="qnx/include",
    start=("qnx/start_x86.c",),
    link=(
        *("-m", "elf_i386", "--dynamic-linker", "/usr/lib/ldqnx.so.2", "--hash-style=sysv", "--image-base=0x08048000"),
        # The loader of 6.4 parses each PT_NOTE and knows no RELRO; it wants code and headers in one segment.
        *("-z", "norelro", "-z", "noseparate-code", "-z", "lazy", "--no-rosegment", "--build-id=none"),
    ),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of machine that an agent is built for."""

    name: str
    """What `--target` takes: ziglang's name for it, but where `zig` is given."""
    system: str
    """In small letters, as `uname -s` says: the key of SYSTEM_SOURCES, and of the plugins' sources."""
    machines: tuple[str, ...]
    """What `uname -m` says there; the first one names the file."""
    flags: tuple[str, ...] = ("-static",)
    """What the compiler is told besides the common flags."""
    asked: bool = False
    """Built when nothing is named."""
    zig: str = ""
    """ziglang's name for it, when it is another."""
    musl: str = ""
    """musl's name for the processor, where the agent is linked against MUSL_FILES alone: to compile all of musl, as
    ziglang does, takes ten times as long as the agent."""
    names_only: NamesOnly | None = None
    """How it is linked where ziglang has no C library for the system."""
    largest: int = 100_000
    """Bytes: an agent goes over serial lines, so it stays below. Where every instruction takes four bytes, and every
    name that is used a table's entry, it is more."""
    qcc: str = ""
    """The variant (`qcc -V`) by which QNX's own compiler builds it, in place of ziglang."""

    @property
    def file(self) -> str:
        """The name of the built agent."""
        return f"vmatlas-agent-{self.system}-{self.machines[0]}"


_OWN_ENTRY = ("-Wl,-e,vmatlas_start", "-Wl,-z,lazy")
"""system_freebsd.c has an entry of its own, so that what is built against FreeBSD 14 needs nothing that 13.2 lacks."""

_SDP = ("-D_QNX_SOURCE", "-Wno-error")
"""For headers that nobody here has seen: all that they have, and no warning of theirs ends a build."""

TARGETS = (
    Target("x86_64-linux-musl", "linux", ("x86_64", "amd64"), asked=True, musl="x86_64"),
    Target("x86-linux-musl", "linux", ("i686", "i386", "i486", "i586"), asked=True, musl="i386"),
    Target("aarch64-linux-musl", "linux", ("aarch64", "arm64"), musl="aarch64"),
    Target("riscv64-linux-musl", "linux", ("riscv64",), musl="riscv64"),
    Target("arm-linux-musleabihf", "linux", ("armv7l", "armv8l"), musl="arm"),
    Target("s390x-linux-musl", "linux", ("s390x",), musl="s390x"),
    Target("powerpc64le-linux-musl", "linux", ("ppc64le",), musl="powerpc64"),
    Target("loongarch64-linux-musl", "linux", ("loongarch64",), musl="loongarch64"),
    # uname says "mips64" of either order of bytes: Debian's name is the one that tells.
    Target(
        "mips64el-linux-muslabi64",
        "linux",
        ("mips64el",),
        flags=("-static", "-Wno-option-ignored"),  # of -fno-PIC, which ziglang passes and this processor has no use for
        musl="mips64",
        largest=130_000,
    ),
    Target("x86_64-freebsd", "freebsd", ("amd64", "x86_64"), flags=_OWN_ENTRY),
    Target("aarch64-freebsd", "freebsd", ("arm64", "aarch64"), flags=_OWN_ENTRY),
    Target("x86_64-netbsd", "netbsd", ("amd64", "x86_64"), flags=()),
    Target(
        "x86-qnx",
        "qnx",
        ("x86", "x86pc", "i686", "i386"),
        flags=("-mcpu=pentium", "-ffreestanding", "-fno-builtin", "-fno-pic", "-fno-stack-protector"),
        asked=True,
        zig="x86-linux-none",
        names_only=QNX_X86,
    ),
    Target("x86_64-qnx", "qnx", ("x86_64", "amd64"), flags=_SDP, qcc="gcc_ntox86_64"),
    Target("aarch64-qnx", "qnx", ("aarch64", "aarch64le", "arm64"), flags=_SDP, qcc="gcc_ntoaarch64le"),
)


GROUP = "vmatlas.agent_systems"


@dataclass(frozen=True, slots=True)
class AgentSystem:
    """A system whose part of the agent is another distribution's; what its entry point of the group gives."""

    system: str
    """In small letters, as `uname -s` says."""
    files: tuple[Path, ...]
    """C files that implement system.h."""
    ours: tuple[str, ...]
    """Files of this table that serve the system too: "system_plain.c"."""
    targets: tuple[Target, ...]
    """What is built for it: a row for each processor."""


class BrokenSystem(Exception):
    """A distribution gives what is no part of an agent: which, and why."""


def foreign_systems() -> list[AgentSystem]:
    """Those of other distributions, by the name of their entry. Raises BrokenSystem."""
    from importlib.metadata import entry_points  # it takes as long to import as all else here

    found = []
    own = {*SYSTEM_SOURCES, *(target.name for target in TARGETS)}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            told = entry.load()
        except Exception as error:  # a plugin may fail in any way
            raise BrokenSystem(f"{entry.name} of {GROUP} cannot be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(told, AgentSystem):
            raise BrokenSystem(f"{entry.name} of {GROUP} gives {entry.value}, which is no AgentSystem")
        names = {told.system, *(target.name for target in told.targets)}
        if taken := names & own:
            raise BrokenSystem(f"{entry.name} of {GROUP} takes a name that is taken: {min(taken)}")
        if strays := {target.system for target in told.targets} - {told.system}:
            raise BrokenSystem(f"{entry.name} of {GROUP} has a target for {min(strays)}, and is of {told.system}")
        own |= names
        found.append(told)
    return found


def all_targets() -> tuple[Target, ...]:
    """The table, and what other distributions add. Raises BrokenSystem."""
    return (*TARGETS, *(target for each in foreign_systems() for target in each.targets))
