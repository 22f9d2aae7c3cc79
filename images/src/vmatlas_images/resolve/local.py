"""Files of the user's that machines name: where they are."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..describe.machine import LocalFile, Machine
from ..errors import NotRunnable


def is_local(machine: Machine) -> bool:
    """Whether the machine is a file of the user's, which is never downloaded."""
    return isinstance(machine.source, LocalFile)


def local_path(machine: Machine, source: LocalFile) -> Path:
    """The user's file, wherever it is named. Raises `NotRunnable` when it is not named or not there."""
    return _named(machine, source, source.path)


def local_disk(machine: Machine) -> Path | None:
    """The disk of the user's beside a kernel; None when there is none. Raises `NotRunnable` as `local_path` does."""
    source = machine.source
    return _named(machine, source, source.disk) if isinstance(source, LocalFile) and source.disk else None


def _named(machine: Machine, source: LocalFile, name: str) -> Path:
    """Relative to the description that names it, or, where a variable does, to where the user stands who set that."""
    variables = re.findall(r"\$\{?(\w+)", name)
    for variable in variables:
        if not os.environ.get(variable):
            raise NotRunnable(f"{variable} is not set: it names this machine's image", hint=source.obtain)
    folder = Path.cwd() if variables else machine.path.parent
    path = folder / Path(os.path.expandvars(name)).expanduser()
    if not path.is_file():
        raise NotRunnable(f"no image at {path}", hint=source.obtain)
    return path
