"""What a process of this machine belongs to: a user, a cgroup, a program. For groups of many; read when asked for."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from vmatlas.systems.linux.host import LinuxProcess
from vmatlas.systems.linux.proc import keys_of, lines_of


def user_of(process: LinuxProcess) -> str | None:
    """Whose rights it has, by name; by number where the user has none here."""
    numbers = keys_of(process.read_file("status")).get(b"Uid", b"").split(b"\t")
    return _name_of(int(numbers[1])) if len(numbers) > 1 and numbers[1].isdigit() and len(numbers[1]) <= 10 else None


@functools.lru_cache(maxsize=1024)
def _name_of(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except (KeyError, OverflowError):
        return str(user)


def cgroup_of(process: LinuxProcess) -> str | None:
    """cgroups(7): the path in cgroup v2; with v1 alone that of the first hierarchy that has it in other than its root.

    As the one who asks sees it: from the root of its own cgroup namespace.
    """
    told = [parts for line in lines_of(process.read_file("cgroup")) if len(parts := line.split(b":", 2)) == 3]
    paths = [path for _, _, path in told]
    unified = [path for number, controllers, path in told if (number, controllers) == (b"0", b"")]
    if unified and (unified[0] != b"/" or len(paths) == 1):
        found: bytes | None = unified[0]
    else:
        found = next((path for path in paths if path != b"/"), paths[0] if paths else None)
    return None if found is None else found.decode("utf-8", "surrogateescape")


def program_of(process: LinuxProcess) -> str | None:
    """The path of its program, as the kernel tells it; with " (deleted)" where that has been unlinked."""
    return os.readlink("exe", dir_fd=process.directory)


MEMBERSHIPS: dict[str, Callable[[LinuxProcess], str | None]] = {
    "user": user_of,
    "cgroup": cgroup_of,
    "program": program_of,
}
"""By the word for it."""
