"""Settles names that the map leaves open, and carries the answers in a capture.

A name that ends in " (deleted)" is an unlinked file, a file whose name really ends so, or an object of the kernel's
that never had a name. The kernel's map cannot tell; the file system and the mount table can. `settle` asks them on the
process's machine. The answers travel as two streams:
- `links`: for each name "1" (a file of just this name is mapped) or "0", the inode, a space, the name, and a NUL byte.
  The inode belongs to it: both of two such files may be mapped at once, under one and the same name.
- `unsettled`: alike for names of which nobody could tell: the inode, a space, the name, and a NUL byte.
- `mounted`: for each device on which such an object may lie "1" (a file system of this number is mounted, or was: it
  is none on which the kernel makes memory, and a name there that looks so is a file's) or "0", a space, MAJOR:MINOR in
  decimal, and a NUL byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import compress

from vmatlas.capture import check_count
from vmatlas.errors import MalformedData
from vmatlas.model import UNKNOWN, Columns
from vmatlas.model.columns import unpack_device
from vmatlas.patterns import pattern
from vmatlas.systems.linux.mounts import OBJECTS, Numbers
from vmatlas.systems.linux.naming import DELETED, is_in_a_folder, is_made_up, is_of_memory
from vmatlas.values import NamedTuple, dataclass, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import TypeAlias

    from vmatlas.systems.linux.host import LinuxProcess

STREAM = "links"
UNSETTLED = "unsettled"
MOUNTED = "mounted"

Name: TypeAlias = tuple[bytes, int]
"""A name as the kernel tells it, nothing escaped, and the inode that stands with it."""

_ITEM = pattern(rb"([01])([0-9]{1,20}) ([^\0]*)\0")
_UNSETTLED = pattern(rb"([0-9]{1,20}) ([^\0]*)\0")
_DEVICE = pattern(rb"([01]) ([0-9]{1,10}):([0-9]{1,10})\0")


_NO_DEVICE: Numbers = (0, 0)


class OpenName(NamedTuple):
    """A name to settle, as the map has it, nothing escaped; and one region that has it."""

    name: bytes
    inode: int
    device: Numbers
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What is known besides a map about the names in it."""

    linked: Mapping[Name, bool | None] = field(default_factory=dict)
    """Whether a file of just this name is mapped; None where nobody could tell."""
    mounted: Mapping[Numbers, bool] = field(default_factory=dict)
    """Whether a file system of this device is mounted anywhere that was looked at, or was mounted once."""

    def __bool__(self) -> bool:
        return bool(self.linked or self.mounted)

    def streams(self) -> dict[str, bytes]:
        """Those that are not empty."""
        told = {
            STREAM: encode({name: there for name, there in self.linked.items() if there is not None}),
            UNSETTLED: b"".join(b"%d %s\0" % (i, name) for (name, i), there in self.linked.items() if there is None),
            MOUNTED: b"".join(_encode_device(*each) for each in self.mounted.items()),
        }
        return {stream: content for stream, content in told.items() if content}

    @classmethod
    def of(cls, streams: Mapping[str, bytes]) -> Settled:
        """From the streams of a capture; old ones have none but `links`. Raises MalformedData."""
        linked = {**_decode_unsettled(streams.get(UNSETTLED, b"")), **decode(streams.get(STREAM, b""))}
        return cls(linked, _decode_devices(streams.get(MOUNTED, b"")))

    def seeing(self, names: Iterable[tuple[bytes, int, int]]) -> Settled:
        """With what the map itself shows: a device that also holds a file in a folder is that of a mounted file system.

        `names`: each name in the map, with the major and minor number of its device.
        """
        listed = list(names)
        if not any(is_made_up(name, major) for name, major, _ in listed):
            return self
        seen = {(major, minor): True for name, major, minor in listed if is_in_a_folder(name)}
        return replace(self, mounted={**self.mounted, **seen})


NOTHING = Settled()


def is_open(name: bytes, device: Numbers) -> bool:
    """Whether only the file system or the mount table can tell what a name means."""
    return name.endswith(DELETED) and name.startswith(b"/") and not (device == OBJECTS and is_made_up(name, 0))


def open_names(columns: Columns) -> list[OpenName]:
    """Those in a map that was decoded with nothing settled."""
    found: dict[tuple[int, int, int], OpenName] = {}
    called = [label.deleted and label.path is not None for label in columns.labels]
    # Once through the rows, whatever names there are: each may have another one.
    for row in compress(range(len(columns)), map(called.__getitem__, columns.label)) if any(called) else ():
        key = columns.label[row], columns.inode[row], columns.device[row]
        if key in found:
            continue
        name = (columns.labels[key[0]].path or "").encode("utf-8", "surrogateescape") + DELETED
        device = _NO_DEVICE if key[2] == UNKNOWN else unpack_device(key[2])
        if is_open(name, device):
            found[key] = OpenName(name, key[1], device, columns.start[row], columns.end[row])
    return list(found.values())


def settle(names: Iterable[OpenName], process: LinuxProcess) -> Settled:
    """Asks the file system of this machine, and the mount tables of the process and of ourselves.

    A device number of the map is not always that of stat(2): see `files`.
    """
    from vmatlas.systems.linux.files import (
        ProcessFiles,
        holds_objects,
        own_objects,
    )  # for few processes, and not cheap to import

    linked: dict[Name, bool | None] = {}
    mounted: dict[Numbers, bool] = {}
    with ProcessFiles(process) as files:
        for name, inode, device, start, end in names:
            if is_made_up(name, device[0]):
                if device in own_objects():
                    linked[name, inode] = False
                elif is_of_memory(name) and holds_objects(device) is False:
                    mounted[device] = True
                elif device not in mounted:
                    mounted[device] = files.table.of_device(device) is not None
            if (name, inode) in linked:
                continue
            linked[name, inode] = files.is_linked(name, files.mapped(start, end, name), inode, device)
    return Settled(linked, mounted)


def encode(linked: Mapping[Name, bool]) -> bytes:
    """The stream `links`."""
    return b"".join(b"%d%d %s\0" % (there, inode, name) for (name, inode), there in linked.items())


def decode(stream: bytes) -> dict[Name, bool]:
    """Raises MalformedData."""
    check_count(STREAM, stream.count(b"\0"), what="names")
    items = _items(STREAM, stream, _ITEM, "'0' or '1', an inode, a space, a name, and a NUL byte")
    return {(item[3], int(item[2])): item[1] == b"1" for item in items}


def _decode_unsettled(stream: bytes) -> dict[Name, bool | None]:
    check_count(UNSETTLED, stream.count(b"\0"), what="names")
    items = _items(UNSETTLED, stream, _UNSETTLED, "an inode, a space, a name, and a NUL byte")
    return {(item[2], int(item[1])): None for item in items}


def _encode_device(device: Numbers, is_mounted: bool) -> bytes:
    return b"%d %d:%d\0" % (is_mounted, *device)


def _decode_devices(stream: bytes) -> dict[Numbers, bool]:
    check_count(MOUNTED, stream.count(b"\0"), what="devices")
    items = _items(MOUNTED, stream, _DEVICE, "'0' or '1', a space, MAJOR:MINOR, and a NUL byte")
    return {(int(item[2]), int(item[3])): item[1] == b"1" for item in items}


def _items(name: str, stream: bytes, pattern: re.Pattern[bytes], expected: str) -> Iterator[re.Match[bytes]]:
    """One after another, until the stream is at its end. Raises MalformedData at the first that has another shape."""
    position = 0
    while position < len(stream):
        item = pattern.match(stream, position)
        if item is None:
            raise MalformedData(name, position, expected, found=stream[position:])
        yield item
        position = item.end()
