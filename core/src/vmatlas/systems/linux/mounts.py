"""The mount table of a process, /proc/PID/mountinfo: which device belongs to which file system. Pure.

A line is `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS FIELDS... - TYPE SOURCE OPTIONS` (proc_pid_mountinfo(5)). The device
is that of the map (both are the superblock's), also on btrfs, where stat(2) tells another.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmatlas.patterns import pattern
from vmatlas.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

Numbers: TypeAlias = tuple[int, int]
"""Major and minor number of a device."""

OBJECTS: Numbers = (0, 1)
"""The device on which the kernel makes shared memory and memfds: the first that it mounts, where no folder is."""

LOCAL = frozenset(
    b"bcachefs btrfs cramfs devpts devtmpfs erofs exfat ext2 ext3 ext4 f2fs hfsplus hugetlbfs iso9660 jffs2 jfs minix"
    b" nilfs2 ntfs3 proc ramfs reiserfs romfs rootfs squashfs sysfs tmpfs ubifs udf vfat xfs zfs".split()
)
"""File systems that answer by themselves. All others may wait for somebody who never answers: a server, a daemon."""

_LINE = pattern(rb"(?m)^(\d{1,18}) \d+ (\d{1,9}):(\d{1,9}) ([^ \n]+) ([^ \n]+) .*? - ([^ \n]+) [^ \n]* ?(.*)$")
_ESCAPES = [(b"\\%03o" % ord(letter), letter) for letter in (b" ", b"\t", b"\n", b"#", b",", b"=", b"\\")]
"""What the kernel does not write as it is (show_mountinfo(), seq_show_option()); the backslash, one of them, last."""
_LAYERS = pattern(rb"(?:^|,)(?:lowerdir\+?|upperdir|datadir\+?)=([^,]*)")


class Mount(NamedTuple):
    """One mount, nothing escaped."""

    number: int
    device: Numbers
    point: bytes
    type: bytes
    options: bytes
    """Of the superblock."""
    mark: int = 0
    """The CRC-32 of its line."""
    root: bytes = b"/"
    """What of the file system is there: the folder that is seen at `point`."""

    @property
    def is_local(self) -> bool:
        """Whether its file system answers by itself, whatever else is mounted."""
        return self.type in LOCAL

    @property
    def is_overlay(self) -> bool:
        """Whether it asks other file systems, its layers."""
        return self.type == b"overlay"


MOST, MOST_OF_OTHERS = 16 << 20, 4 << 20
"""Bytes of a table that are read: of one's own, and of a process's, which may have a hundred thousand mounts
(fs.mount-max) under paths of 4,096 bytes, each written as four."""


def one(table: bytes, number: int) -> Mount | None:
    """The mount of a number, without looking at the others."""
    begin = b"%d " % number
    at = 0 if table.startswith(begin) else table.find(b"\n" + begin) + 1
    if not table.startswith(begin, at):
        return None
    return next(iter(read(table[at : table.find(b"\n", at) + 1 or len(table)])), None)


def read(table: bytes) -> list[Mount]:
    """The mounts of a table, in its order; what is no such line is passed over."""
    from binascii import crc32  # a library of its own, for who looks at mounts

    return [
        Mount(
            int(line[1]),
            (int(line[2]), int(line[3])),
            _plain(line[5]),
            line[6],
            line[7],
            crc32(line[0]),
            _plain(line[4]),
        )
        for line in _LINE.finditer(table)
    ]


def _plain(text: bytes) -> bytes:
    for written, meant in _ESCAPES if b"\\" in text else ():
        text = text.replace(written, meant)
    return text


def may_not_answer(what: str) -> str:
    """Why nothing is read of a file on such a file system (`MountTable.describe`), in words."""
    return f"its file system is not asked, which may not answer ({what})"


class MountTable:
    """The mounts that the reader sees, and those that the process sees: numbers are the same everywhere."""

    def __init__(self, own: list[Mount], others: list[Mount]) -> None:
        self.own = own
        self.others = others
        self._by_number = {mount.number: mount for mount in (*others, *own)}
        self._by_device: dict[Numbers, list[Mount]] = {}
        for mount in self._by_number.values():
            self._by_device.setdefault(mount.device, []).append(mount)
        self._root = next((mount.device for mount in reversed(self.own) if mount.point == b"/"), None)

    def mount(self, number: int | None) -> Mount | None:
        """The mount of a number; None for one that neither sees."""
        return None if number is None else self._by_number.get(number)

    def of_device(self, device: Numbers) -> Mount | None:
        """A mount of the file system of this device; None: none is mounted that either sees."""
        return next(iter(self._by_device.get(device, ())), None)

    def silent(self, devices: Iterable[Numbers]) -> dict[Numbers, str]:
        """Of these devices those whose file system may not answer, and what it is."""
        return {
            device: self.describe(mount)
            for device in devices
            if not self.answers(mount := self.of_device(device)) and device != OBJECTS
        }

    def describe(self, mount: Mount | None) -> str:
        """What a file system is, for people."""
        if mount is None:
            return "mounted elsewhere"
        if mount.is_overlay and all(each.device != mount.device for each in self.own):
            return "overlay mounted elsewhere"
        return mount.type.decode("utf-8", "backslashreplace")

    def answering_on(self, path: bytes) -> dict[int, int]:
        """The mounts that lie on the way to a path and answer, at most 64: numbers, and marks of their lines."""
        on_the_way = [mount for mount in (*self.others, *self.own) if _holds(mount, path)]
        return dict(list({mount.number: mount.mark for mount in on_the_way if self.answers(mount)}.items())[:64])

    def lead_to(self, path: bytes, device: Numbers) -> bool:
        """Whether a path leads to a file system of this device that answers, for the reader or for the process."""
        leading = [_longest(mounts, path) for mounts in (self.own, self.others)]
        return any(
            mount is not None and (mount.device == device or mount.is_overlay) and self.answers(mount)
            for mount in leading
        )

    def answers(self, mount: Mount | None) -> bool:
        """Whether its file system answers by itself, so that asking it does not wait for anybody.

        So does what the reader itself runs from, and an overlay of such that the reader sees mounted.
        """
        if mount is None:
            return False
        if mount.is_local or mount.device == self._root:
            return True
        if not mount.is_overlay:
            return False
        seen = next((each for each in self.own if each.device == mount.device), None)
        if seen is None:  # its layers are told as paths of somebody else's
            return False
        layers = [layer for found in _LAYERS.finditer(seen.options) for layer in _plain(found[1]).split(b":") if layer]
        return bool(layers) and all(map(self._is_local, layers))

    def _is_local(self, path: bytes) -> bool:
        holding = _longest(self.own, path) if path.startswith(b"/") else None
        return holding is not None and (holding.is_local or holding.device == self._root)


def _longest(mounts: Iterable[Mount], path: bytes) -> Mount | None:
    """The mount that holds a path: the longest point, and of equal ones the last, which covers those before."""
    found: Mount | None = None
    for mount in mounts:
        if _holds(mount, path) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _holds(mount: Mount, path: bytes) -> bool:
    point = mount.point.rstrip(b"/")
    return path == point or path.startswith(point + b"/")
