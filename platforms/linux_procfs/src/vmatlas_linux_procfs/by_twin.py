"""Reads a map of a process of this machine and takes it apart in one go, by the compiled twin: what is plain.

All else is read by `acquire` and taken apart by `decode`; what those take is not loaded for this.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmatlas.backend import LocalProcess
from vmatlas.model import Columns
from vmatlas.model.facts import Rows
from vmatlas.systems.linux import LinuxProcess, links
from vmatlas_linux_procfs.decode import MAPS, NATIVE, SMAPS, columns_of_known, columns_of_native
from vmatlas_linux_procfs.unlisted import ESCAPE, UNLISTED


def read(process: LocalProcess, name: str, most: int) -> Columns | None:
    """Acquire and decode in one go, by the compiled twin; None: to be asked in two steps, which tell what is wrong.

    So it is for more than `most` regions, unless that is 0, and for all that is not plain: a process that has no
    memory (any more), regions out of order, memory in a hole of the text.
    """
    if NATIVE is None or not isinstance(process, LinuxProcess) or (process.is_self and process.emulator is not None):
        return None
    descriptor, maps = opened(process, name)
    reads = NATIVE.read_self if process.is_self else NATIVE.read
    found = reads(descriptor, maps, name == SMAPS, most)
    if found is None:
        return None
    if (known := columns_of_known(found)) is not None:
        return known
    rows: Rows = found[0] if isinstance(found, tuple) else found
    if any(ESCAPE in file for file, _ in rows.facts()):
        return None
    columns = columns_of_native(found, links.NOTHING)
    if columns is not None and (names := links.open_names(columns)):
        return columns_of_native(found, links.settle(names, process))
    return columns


def reads_like(process: LocalProcess, streams: Mapping[str, bytes]) -> bool | None:
    """Whether the map reads just as it did, found out without an object made of it; None where it cannot be told."""
    if NATIVE is None or not isinstance(process, LinuxProcess) or UNLISTED in streams:
        return None
    if process.is_self and process.emulator is not None:
        return None
    name = next((each for each in (SMAPS, MAPS) if streams.get(each)), None)
    if name is None:
        return None
    descriptor = process.memory_file(name)
    same: bool = NATIVE.reads_like(descriptor, streams[name])
    return same


def opened(process: LinuxProcess, name: str) -> tuple[int, int]:
    """Descriptors of the file, and of maps, which alone takes questions about single addresses."""
    maps = process.memory_file(MAPS)
    return (maps if name == MAPS else process.memory_file(name)), maps
