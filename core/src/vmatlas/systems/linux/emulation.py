"""Whether a program of another processor has been loaded into a process: then an emulator (qemu-user) runs it, whatever
its file is called.

What such an emulator maps of the guest's program is an ELF file of another machine than its own, segment by segment. It
is linked statically wherever containers of another processor are run (binfmt_misc with the flag F), and other static
programs map hardly a file beside their own: so a process that has an interpreter costs one small file of /proc.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from vmatlas.model import Device, Protection, Region
from vmatlas.patterns import pattern

if TYPE_CHECKING:
    from vmatlas.systems.linux.host import LinuxProcess

_AT_NULL, _AT_BASE = 0, 7  # include/uapi/linux/auxvec.h
_LARGEST_KEY = 255
_MACHINE = slice(18, 20)
"""e_machine of an ELF header, in whose own byte order does not matter: equal or not."""
_ORDER = slice(4, 6)
"""Its word size and byte order."""
_HEAD = 65536
_MOST_FILES = 8
"""So many files beside its own are looked at: what an emulator loads it loads first, the program and its loader."""
_LINE = pattern(rb"(?m)^([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])p ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) +(/.*)$")
_DELETED = b" (deleted)"


class _Mapped(NamedTuple):
    """A file that is mapped, privately: its regions in order."""

    regions: list[Region]

    def is_loaded_as(self, head: bytes) -> bool:
        """Whether the segments of an ELF file lie at the distances that its headers say: it was not read as data."""
        from vmatlas.symbols.elf import parse_elf  # a process with an interpreter does not pay for it

        elf = parse_elf(head)
        if elf is None or not elf.segments:
            return False
        page = os.sysconf("SC_PAGESIZE")
        first = elf.segments[0]
        base = self.regions[0].start - (first.address - first.address % page)
        starts = {each.start for each in self.regions}
        return all(base + each.address - each.address % page in starts for each in elf.segments if each.file_size)


_with_interpreter: set[str] = set()
"""Programs by their paths that were seen to have one: who asks again and again pays for it once. (That a container has
another program at that path, and that one is such an emulator, is the price.)"""
_MOST_KNOWN = 4096


def runs_another_machine(process: LinuxProcess, program: str) -> bool:
    """`program`: the path of the one that it runs. Raises OSError, VmatlasError for what cannot be read."""
    if program in _with_interpreter:
        return False
    interpreter = _interpreter(process.read_file("auxv"))
    if interpreter is None:  # in the middle of execve nothing is told yet
        return False
    if interpreter:
        if len(_with_interpreter) >= _MOST_KNOWN:
            _with_interpreter.clear()
        _with_interpreter.add(program)
        return False
    files = _private_files(process.read_file("maps"))
    own = files.pop(os.fsencode(program), None)
    if own is None or not files:
        return False
    head = process.file_head(own.regions[0], _MACHINE.stop)
    if head is None or head[:4] != b"\x7fELF":
        return False
    for each in islice(files.values(), _MOST_FILES):
        other = process.file_head(each.regions[0], _HEAD)
        if other is None or other[:4] != b"\x7fELF":
            continue
        is_other = (other[_ORDER], other[_MACHINE]) != (head[_ORDER], head[_MACHINE])
        if is_other and each.is_loaded_as(other):
            return True
    return False


def _interpreter(auxv: bytes) -> int | None:
    """Where the kernel loaded a dynamic linker (AT_BASE); 0: there is none; None where that is not told."""
    for width in "QI":
        layout = struct.Struct(f"{'<' if sys.byteorder == 'little' else '>'}2{width}")
        pairs = list(layout.iter_unpack(auxv[: len(auxv) - len(auxv) % layout.size]))
        if pairs and all(key <= _LARGEST_KEY for key, _ in _until_end(pairs)):
            return dict(pairs).get(_AT_BASE)
    return None


def _until_end(pairs: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    for pair in pairs:
        yield pair
        if pair[0] == _AT_NULL:
            return


def _private_files(text: bytes) -> dict[bytes, _Mapped]:
    """By their names, those whose first region begins at the file's beginning."""
    found: dict[bytes, _Mapped] = {}
    for start, end, read, write, execute, offset, major, minor, inode, name in _LINE.findall(text):
        protection = Protection.READ if read == b"r" else Protection.NONE
        protection |= Protection.WRITE if write == b"w" else Protection.NONE
        protection |= Protection.EXECUTE if execute == b"x" else Protection.NONE
        region = Region(
            int(start, 16),
            int(end, 16),
            protection,
            False,
            int(offset, 16),
            Device(int(major, 16), int(minor, 16)),
            int(inode),
            os.fsdecode(name.removesuffix(_DELETED)),
            deleted=name.endswith(_DELETED),
        )
        if name in found:
            found[name].regions.append(region)
        elif not region.offset:
            found[name] = _Mapped([region])
    return found
