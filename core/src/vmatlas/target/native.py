"""What a plugin gives to agents, and how an agent is then asked. Registered under `vmatlas.agent_sources`.

An entry has the name of the plugin's backend. Its C half is compiled into agents; its other half, in Python, knows what
to ask of them and what the answers mean. No I/O here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vmatlas.backend import Availability, Reading
from vmatlas.model import Query, SystemInfo
from vmatlas.target.wire import Looked


class RemoteProcess(Protocol):
    """A process at the other end of a wire, held by identity."""

    @property
    def pid(self) -> int:
        """Its process id there."""
        ...

    @property
    def thread(self) -> int | None:
        """The thread through which it is asked, if one was named."""
        ...

    @property
    def start_time(self) -> int | None:
        """When it started, in that system's own unit."""
        ...

    @property
    def system(self) -> SystemInfo:
        """The machine it lives on."""
        ...

    @property
    def emulator(self) -> str | None:
        """The emulator that runs it, where that is known: its map is told by the emulator, not by the kernel."""
        ...

    def streams(
        self,
        source: str,
        *,
        thread: int | None = None,
        flags: int = 0,
        address: int = 0,
        limit: int = 0,
        build_ids: bool = False,
        ranges: Sequence[tuple[int, int]] | None = None,
    ) -> Mapping[str, bytes]:
        """The kernel's bytes, as the agent's source gives them.

        `ranges`, at most 2,000, is for sources that are asked about ranges of addresses, [start, end): they heed
        `flags` besides.
        Raises AgentRefused (its `streams` are what came before the error), TargetLost.
        """
        ...

    def apart(self) -> AbstractContextManager[RemoteProcess]:
        """The same process, asked by somebody there who can be left behind: for what the kernel may keep waiting.

        An agent has one thread, so a child of it asks; where it can have none it asks itself. What is asked then raises
        Unanswered as well.
        """
        ...

    def list_folder(self, path: bytes) -> list[bytes]:
        """The names in a folder there. Raises AgentRefused."""
        ...

    def read_file(self, path: bytes, limit: int = 0) -> bytes:
        """The content of a file there, at most `limit` bytes (0: all). Raises AgentRefused."""
        ...

    def read_link(self, path: bytes) -> bytes:
        """Where a symbolic link there points. Raises AgentRefused."""
        ...

    def look_up(self, root: bytes, path: bytes, answering: Mapping[int, int] | None = None) -> Looked | None:
        """What stands at a path below a root: see PROTOCOL.md. None where the agent cannot look, or not so."""
        ...

    def inode(self, path: bytes) -> int | None:
        """The inode number of a file there (of a symbolic link: its own); None when it cannot be told."""
        ...


@dataclass(frozen=True, slots=True)
class AgentSources:
    """What a plugin gives to agents. Another system's plugin gives the same."""

    system: str
    """"linux": the agents of this system get it."""
    files: tuple[Path, ...]
    """The C files. They are compiled as they are, with the folder of the agent's headers in the search path."""
    table: str
    """The symbol of the plugin's `const struct source []`, which ends with a source without a name."""
    names: tuple[str, ...]
    """The sources in that table without which it cannot serve: "linux.maps". A target offers the backend only when its
    agent has all of them; what an agent of an older version lacks is no longer asked for, and Unsupported."""
    probe: Callable[[RemoteProcess], Availability]
    """Whether the kernel there answers, found out by asking about the agent's own process. Raises TargetLost."""
    ask: Callable[[RemoteProcess, Query], Reading]
    """What `Backend.acquire` does on this machine, through an agent; raises the same, and TargetLost."""
