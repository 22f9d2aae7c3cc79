"""For which machines agents are built: a table, one row a processor. Another Linux processor is another row."""

from __future__ import annotations

from dataclasses import dataclass

SYSTEM_SOURCES = {
    "linux": ("system_linux.c", "init_linux.c"),
}
"""The C files that are one system's own; all other systems' are left out."""

PORTABLE_SOURCES = (
    "agent.c",
    "answer.c",
    "channel.c",
    "child.c",
    "errno_name.c",
    "frame.c",
    "memory.c",
    "port.c",
    "reader.c",
)


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of machine that an agent is built for."""

    name: str
    """What `--target` takes: ziglang's name for it."""
    system: str
    """In small letters, as `uname -s` says: the key of SYSTEM_SOURCES, and of the plugins' sources."""
    machines: tuple[str, ...]
    """What `uname -m` says there; the first one names the file."""
    flags: tuple[str, ...] = ("-static",)
    """What the compiler is told besides the common flags."""
    asked: bool = False
    """Built when nothing is named."""

    @property
    def file(self) -> str:
        """The name of the built agent."""
        return f"vmatlas-agent-{self.system}-{self.machines[0]}"


TARGETS = (
    Target("x86_64-linux-musl", "linux", ("x86_64", "amd64"), asked=True),
    Target("x86-linux-musl", "linux", ("i686", "i386", "i486", "i586"), asked=True),
    Target("aarch64-linux-musl", "linux", ("aarch64", "arm64")),
    Target("riscv64-linux-musl", "linux", ("riscv64",)),
    Target("arm-linux-musleabihf", "linux", ("armv7l", "armv8l")),
    Target("s390x-linux-musl", "linux", ("s390x",)),
)
