"""What a process of this machine belongs to: a user, a cgroup, a program. For groups of many; read when asked for."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable

from vmatlas.systems.linux.host import LinuxProcess


def user_of(process: LinuxProcess) -> str | None:
    """Whose rights it has, by name; by number where the user has none here."""
    found = re.search(rb"^Uid:\s+\d+\s+(\d{1,10})\s", process.read_file("status"), re.MULTILINE)
    return _name_of(int(found[1])) if found else None


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
    text = process.read_file("cgroup").decode("utf-8", "surrogateescape")
    paths = [parts[2] for line in text.splitlines() if len(parts := line.split(":", 2)) == 3]
    unified = [line[3:] for line in text.splitlines() if line.startswith("0::")]
    if unified and (unified[0] != "/" or len(paths) == 1):
        return unified[0]
    return next((path for path in paths if path != "/"), paths[0] if paths else None)


def program_of(process: LinuxProcess) -> str | None:
    """The path of its program, as the kernel tells it; with " (deleted)" where that has been unlinked."""
    return os.readlink("exe", dir_fd=process.directory)


MEMBERSHIPS: dict[str, Callable[[LinuxProcess], str | None]] = {
    "user": user_of,
    "cgroup": cgroup_of,
    "program": program_of,
}
"""By the word for it."""
