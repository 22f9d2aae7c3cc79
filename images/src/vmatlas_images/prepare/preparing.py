"""From fetched files to what QEMU boots: the kernel out of its package, an initramfs with the agent, a CD, an
unpacked disk.

Made in Python alone, with no root and no tools of the host, and byte for byte the same from the same parts, so that
a prepared image is cached by the digests of what went into it. A disk is never written to: QEMU's snapshot mode keeps a
run's changes in a throw-away overlay. This module starts no machine.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import re
import tarfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import pycdlib
from debian.arfile import ArError
from debian.debfile import DebError, DebFile

from ..describe.machine import DebianKernel, DebianProgram, Machine
from ..errors import FetchError, ImagesError
from ..fetch.cache import Cache, digest_of, key_of
from ..fetch.sources import Fetched

_RECIPE = 1  # part of every key: raise it when the same parts are prepared in another way
_KERNEL = re.compile(r"\.?/?(boot/vmlinu[xz]-[^/]+|usr/lib/modules/[^/]+/vmlinu[xz])")
_PIECE = 1 << 20  # bytes
_MEMORY = 256 << 20
"""Bytes that unpacking may take; `xz -9` asks for 65 MiB, and a file may ask for 4 GiB."""
_LARGEST_DISK = 256 << 30
"""Bytes of an unpacked image, most of which is empty; FreeBSD's have 6 GB."""
_MOST_WRITTEN = 16 << 30
"""Bytes of it that are not empty, and so take room on this disk. What a mirror packs may unpack to any number."""


@dataclass(frozen=True)
class Prepared:
    """What QEMU is given; what a machine does not have is None."""

    kernel: Path | None = None
    initramfs: Path | None = None
    disk: Path | None = None
    cd: Path | None = None
    agent: Path | None = None


@dataclass(frozen=True)
class Entry:
    """A file of an initramfs or CD: its bytes, and whether it can be run; or a symbolic link (its bytes are its target)
    or a folder.
    """

    content: bytes = b""
    executable: bool = False
    link: bool = False
    folder: bool = False

    @property
    def mode(self) -> int:
        """As stat(2) tells it, of what is no folder."""
        return 0o120777 if self.link else 0o100755 if self.executable else 0o100644


def prepare(machine: Machine, fetched: Fetched, agent: Path, cache: Cache | None = None) -> Prepared:
    """Makes, or finds in the cache, what the machine boots from. `agent` is the built agent's file.

    Raises `ImagesError` when a package or image does not hold what it should.
    """
    cache = cache or Cache()
    limit = machine.limits.prepare
    try:
        program = Entry(agent.read_bytes(), executable=True)
    except OSError as error:
        raise ImagesError(f"the agent {agent} cannot be read: {error.strerror}", target=machine.name) from error
    with cache.in_use():
        boots = _boot_file(machine, fetched, cache, limit)
        if machine.agent.delivery == "cd":
            cd = cached(cache, "cd", [digest_of(agent)], limit, lambda to: write_cd(to, {"agent": program}))
        else:
            cd = None
        if machine.boot.start == "disk":
            return Prepared(disk=boots, cd=cd)
        if machine.boot.start == "sandbox":
            return Prepared(kernel=boots, agent=agent)
        wanted = machine.source.modules if isinstance(machine.source, DebianKernel) else ()
        parts = [digest_of(agent) if cd is None else "", list(wanted), list(fetched.digests) if wanted else []]

        def make(to: Path) -> None:
            files = {} if cd else {"init": program}
            for index, (name, content) in enumerate(modules(fetched.files[-1], wanted)):
                files[f"modules/{index:02}-{name}.ko"] = Entry(content)
            to.write_bytes(b"".join(cpio(files)))

        nothing = cd is not None and not wanted
        initramfs = None if nothing else cached(cache, "initramfs", parts, limit, make)
        return Prepared(kernel=boots, initramfs=initramfs, disk=fetched.disk, cd=cd)


def cached(cache: Cache, name: str, parts: Sequence[object], limit: float, make: Callable[[Path], object]) -> Path:
    """The file `name` that `make` writes, from the cache when it was made of the same parts before."""
    folder = cache.prepared(key_of(_RECIPE, name, list(parts)), lambda new: make(new / name), limit=limit)
    return folder / name


def _boot_file(machine: Machine, fetched: Fetched, cache: Cache, limit: float) -> Path:
    """The kernel or disk itself: out of its package, or unpacked, or as it came."""
    path = fetched.files[0]
    if isinstance(machine.source, DebianKernel):
        return cached(cache, "kernel", [fetched.digests[0]], limit, lambda to: to.write_bytes(kernel_in(path)))
    if isinstance(machine.source, DebianProgram):
        name = machine.source.program

        def lay(to: Path) -> None:
            to.write_bytes(member(path, name))
            to.chmod(0o755)

        return cached(cache, Path(name).name, [fetched.digests[0], name], limit, lay)
    unpack = _UNPACKERS.get(Path(fetched.says).suffix)
    if unpack is None:
        return path
    return cached(cache, "image", [fetched.digests[0]], limit, lambda to: _unpack(unpack, path, to, limit))


class _Stream(Protocol):
    """Unpacks one stream of a file, as the decompressors of lzma and bz2 do."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """The same of gzip."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


def _pieces(path: Path, begin: Callable[[], _Stream]) -> Iterator[bytes]:
    """Streams one after the other, with zeros between them.

    A piece for each step, be it empty: there may be streams without number in which nothing is, and whoever takes the
    pieces has a limit of time.
    """
    with path.open("rb") as source:
        stream: _Stream | None = None
        while True:
            if stream is None or stream.eof:
                packed = (stream.unused_data if stream is not None else b"") or source.read(_PIECE)
                if not packed:
                    return
                packed = packed.lstrip(b"\0")
                stream = begin() if packed else None
                if stream is None:
                    continue
            else:
                packed = source.read(_PIECE) if stream.needs_input else b""
                if stream.needs_input and not packed:
                    raise EOFError("it ends in the midst of a stream")
            yield stream.decompress(packed, _PIECE)


_Unpacker = Callable[[Path], Iterator[bytes]]
_UNPACKERS: dict[str, _Unpacker] = {
    ".xz": lambda path: _pieces(path, lambda: lzma.LZMADecompressor(memlimit=_MEMORY)),
    ".gz": lambda path: _pieces(path, _Gzip),
    ".bz2": lambda path: _pieces(path, bz2.BZ2Decompressor),
}


def _unpack(unpack: _Unpacker, path: Path, to: Path, limit: float) -> None:
    """What is empty becomes a hole. Raises `FetchError` for what is no image, or more than one can have."""
    end = time.monotonic() + limit
    empty, size, written = bytes(_PIECE), 0, 0
    try:
        with to.open("wb") as target:
            for chunk in unpack(path):
                size += len(chunk)
                if chunk == empty[: len(chunk)]:
                    target.truncate(size)
                    target.seek(size)
                else:
                    written += target.write(chunk)
                if size > _LARGEST_DISK or written > _MOST_WRITTEN:
                    raise FetchError(f"{path}: unpacks to more than an image may have: {size:,} bytes and more")
                if time.monotonic() > end:
                    raise ImagesError(f"{path}: not unpacked within {limit:g} s")
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise FetchError(f"{path}: cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise FetchError(f"{path}: cannot be unpacked: {error}") from error  # as gzip and bz2 tell of damage


def member(package: Path, wanted: str) -> bytes:
    """A file of a Debian package. Raises `ImagesError` where it has none of that name."""
    for name, content in _members(package):
        if name.removeprefix("./") == wanted:
            return content()
    raise ImagesError(f"{package}: holds no {wanted}")


def kernel_in(package: Path) -> bytes:
    """The kernel in a Debian package: boot/vmlinuz-VERSION, or usr/lib/modules/VERSION/vmlinuz (linux-binary
    packages).
    """
    for name, content in _members(package):
        if _KERNEL.fullmatch(name):
            return content()
    raise ImagesError(f"{package}: holds no kernel (boot/vmlinuz-VERSION or usr/lib/modules/VERSION/vmlinuz)")


def modules(package: Path, wanted: Iterable[str]) -> list[tuple[str, bytes]]:
    """The named kernel modules of a package and all that they need, unpacked, each after those that it needs.

    What a module needs stands in its own .modinfo section (`depends=`); a package has no modules.dep.
    Raises `ImagesError` for a name that the package does not have.
    """
    todo = list(dict.fromkeys(_module_name(name) for name in wanted))
    if not todo:
        return []
    found: dict[str, bytes] = {}
    for level in itertools.count():
        if not (missing := [name for name in todo if name not in found]):
            break
        if level == _MOST_LEVELS:
            raise ImagesError(f"{package}: kernel modules need others, {level} times over: {', '.join(missing[:5])}")
        before = len(found)
        for name, content in _members(package):
            file, _, packed = Path(name).name.partition(".ko")
            if _module_name(file) in missing and packed in ("", ".xz", ".gz") and ".ko" in name:
                found[_module_name(file)] = _unpacked(content(), packed, f"{package}: {name}")
        if len(found) == before:
            raise ImagesError(f"{package}: holds no kernel module {', '.join(missing)}")
        todo = list(dict.fromkeys([*todo, *(need for content in found.values() for need in _needs(content))]))
    ordered: dict[str, bytes] = {}

    def place(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ImagesError(f"{package}: kernel modules need each other in a circle: {', '.join(above)}")
        for need in _needs(found[name]):
            place(need, (*above, name))
        ordered.setdefault(name, found[name])

    for name in todo:
        place(name, ())
    return list(ordered.items())


def _module_name(name: str) -> str:
    return name.replace("-", "_")


def _needs(module: bytes) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [_module_name(name.decode("utf-8", "replace")) for name in found[1].split(b",") if name] if found else []


def _unpacked(raw: bytes, packed: str, where: str) -> bytes:
    """A module, which may be packed. Raises `ImagesError`."""
    if not packed:
        return raw
    try:
        with (lzma.open if packed == ".xz" else gzip.open)(io.BytesIO(raw)) as file:
            content = file.read(_MOST_MEMBER + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ImagesError(f"{where}: cannot be unpacked: {error}") from error
    if len(content) > _MOST_MEMBER:
        raise ImagesError(f"{where}: unpacks to more than {_MOST_MEMBER:,} bytes")
    return content


def _members(package: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The regular files of a .deb, in order, each with a way to read it before the next is asked for."""
    try:
        with DebFile(package) as deb:
            archive = deb.data.tgz()
            for member in archive:
                if member.isfile():
                    yield member.name, lambda member=member: _read(package, archive, member)  # type: ignore[misc]
    except (*_NO_PACKAGE, RecursionError) as error:
        raise _unreadable(package, error) from error


_MOST_MEMBER = 256 << 20
"""Bytes of one file of a package: the largest kernel has a tenth of them."""
_MOST_LEVELS = 32
"""How often modules may need others that need others: each time the package is read again. Six times is usual."""

_NO_PACKAGE = (DebError, ArError, tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error, ValueError)
"""What the readers of packages raise for one that is damaged, or made to harm; and RecursionError, for headers without
end."""


def _unreadable(package: Path, error: BaseException) -> ImagesError:
    return ImagesError(f"{package}: is no Debian package that can be read: {error or type(error).__name__}")


def _read(package: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Raises `ImagesError`."""
    if member.size > _MOST_MEMBER:
        raise ImagesError(f"{package}: {member.name} has {member.size:,} bytes, and {_MOST_MEMBER:,} are the most")
    try:
        file = archive.extractfile(member)
        assert file is not None, "it is a regular file"
        with file:
            return file.read()
    except _NO_PACKAGE as error:
        raise _unreadable(package, error) from error


def cpio(files: dict[str, Entry], *, devices: bool = True) -> Iterator[bytes]:
    """A cpio archive in the kernel's `newc` format (initramfs buffer format, Documentation/driver-api/early-userspace).

    Folders are added for the paths; with `devices`, /dev/console and the folders that init mounts on are added, since
    init's first descriptors are opened on it. Times are 0 and everything belongs to root, so the same files always give
    the same bytes.
    """
    mounts = ["dev", "proc", "sys", "tmp"] if devices else []
    within = [*files, *(f"{name}/*" for name, entry in files.items() if entry.folder)]
    folders = [str(parent) for name in within for parent in reversed(PurePosixPath(f"/{name}").parents)]
    number = 0
    for number, folder in enumerate(dict.fromkeys([*mounts, *(name[1:] for name in folders if name != "/")]), 1):
        yield _cpio_entry(number, folder, 0o040755, b"")
    if devices:
        yield _cpio_entry(number + 1, "dev/console", 0o020600, b"", device=(5, 1))
    for index, (name, entry) in enumerate(files.items(), number + 2):
        if not entry.folder:
            yield _cpio_entry(index, name, entry.mode, entry.content)
    yield _cpio_entry(0, "TRAILER!!!", 0, b"")


def _cpio_entry(number: int, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    path = name.encode() + b"\0"
    links = 2 if mode & 0o040000 else 1
    #         inode   mode  uid gid links mtime size       devmajor minor   rdevmajor minor     namesize   check
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)


def write_cd(place: Path, files: dict[str, Entry]) -> None:
    """Writes an ISO 9660 image with Rock Ridge names and modes; `files` stand in its root."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", vol_ident="VMATLAS")
    try:
        for index, (name, entry) in enumerate(files.items()):
            iso.add_fp(
                io.BytesIO(entry.content),
                len(entry.content),
                iso_path=f"/F{index:07}.;1",
                rr_name=name,
                file_mode=0o100555 if entry.executable else 0o100444,
            )
        with place.open("wb") as target:
            iso.write_fp(target)
    finally:
        iso.close()
