"""`kernels.lock`: what the kernels of the machines came to, so that a run can be repeated on the very same ones.

It lies beside the descriptions, and is made from what a mirror had (`invoke lock-kernels`). With VMATLAS_LOCKED=1 a
machine whose kernel is Debian's takes the package that stands there and no other; what the mirror no longer has, and
the cache does not hold, is not run. Its digests stand beside Debian's signatures, not in their place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict

from ..describe.machine import Machine, Part, Text, natural, read
from ..errors import NotRunnable
from ..files import replace_file

NAME = "kernels.lock"
_REFRESH = "./run invoke lock-kernels writes it anew, from what the mirror has today"
_HEAD = (
    "# Which packages the kernels of these machines are, for VMATLAS_LOCKED=1: ./run invoke lock-kernels writes it.\n"
)


class LockedKernel(Part):
    """The package of a machine's kernel as reports call it, its version, and the digests of all that was fetched."""

    package: Text
    release: Text
    sha256: Annotated[tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...], Strict(False), Field(min_length=1)]

    def gone(self, why: str) -> NotRunnable:
        """The mirror does not have it any more."""
        return NotRunnable(f"{NAME} wants {self.package}, which is not to be had: {why}", hint=_REFRESH)


class Lock(Part):
    """The file."""

    kernels: dict[Text, LockedKernel] = Field(default={})


def is_locked() -> bool:
    """Whether `VMATLAS_LOCKED` asks for the kernels of the lock file."""
    return os.environ.get("VMATLAS_LOCKED", "") not in ("", "0")


def locked(machine: Machine) -> LockedKernel | None:
    """What the lock file says of a machine, where that is asked for; else None.

    Raises `NotRunnable` when it has no such machine, MachineError for a file that is none.
    """
    if not is_locked():
        return None
    path = machine.path.parent / NAME
    found = read_lock(path).get(machine.name)
    if found is None:
        raise NotRunnable(f"VMATLAS_LOCKED is set, and {path} has no kernel of this machine", hint=_REFRESH)
    return found


def read_lock(path: Path) -> Mapping[str, LockedKernel]:
    """The kernels of a file, by machine; none where there is no file. Raises MachineError for one that is none."""
    return read(path, Lock)[0].kernels if path.is_file() else {}


def write_lock(path: Path, kernels: Mapping[str, LockedKernel]) -> None:
    """Write it; the one that was there is replaced at once."""
    lines = [_HEAD, "kernels:\n" if kernels else "kernels: {}\n"]
    for name in sorted(kernels, key=natural):
        kernel = kernels[name]
        lines += [f"  {name}:\n", f"    package: {json.dumps(kernel.package)}\n"]
        lines += [f"    release: {json.dumps(kernel.release)}\n", "    sha256:\n"]
        lines += [f'    - "{digest}"\n' for digest in kernel.sha256]  # one of digits alone would be a number
    replace_file(path, "".join(lines).encode())
