"""What a process left, opened: a capture, a series of them, a core file, the text of its map; compressed or not. What
it is, its first bytes tell.

A file that only this machine's plugins can read gives an error that says which system it is of.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from vmatlas import arguments
from vmatlas.capture import LARGEST, SERIES, Capture
from vmatlas.errors import MalformedData, Unsupported, VmatlasError
from vmatlas.extents import open_plain
from vmatlas.series.loading import kept_in
from vmatlas.values import NamedTuple

if TYPE_CHECKING:
    from vmatlas.files.contract import ReadsCores
    from vmatlas.files.packed import PackedSource
    from vmatlas.files.source import BytesSource, FileSource, Source
    from vmatlas.files.texts import Form
    from vmatlas.series.reader import Series

_ELF = b"\x7fELF"
_MINIDUMP = b"MDMP"
_HEAD = 64

_MOST_LINES = 10_000_000
"""Of a text: smaps has 25 for each region."""


def load(path: str | os.PathLike[str], *, lenient: bool = False) -> Capture:
    """What a file holds, as a capture; of a series the last moment. `lenient`: of a text, odd lines are passed over.

    Raises OSError, MalformedData, UsageError (a newer format), Unsupported (nothing that is installed reads it).
    """
    with opened(path, lenient=lenient) as found:
        return found if isinstance(found, Capture) else found[-1]


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], *, lenient: bool = False) -> Iterator[Capture | Series]:
    """What a file holds: a series as such, which is closed in the end. Raises as `load` does.

    It is opened once: what it is, is told of what is read.
    """
    shown = os.path.basename(arguments.path(path, "capture"))
    with open_plain(path, "a capture") as file:
        if _is_foreign(file.read, lenient):
            yield _read(file, shown, lenient).capture
        else:
            yield kept_in(file, shown)


def _is_foreign(read: Callable[[int], bytes], lenient: bool) -> bool:
    """`read` gives the next bytes, as a file's does."""
    from vmatlas.files.packed import packing_of
    from vmatlas.files.texts import HEAD, form_of

    head = read(_HEAD)
    if head.startswith((_ELF, _MINIDUMP)) or packing_of(head) is not None:
        return True
    if head.startswith((b"PK", SERIES)):
        return False
    return lenient or form_of(head + read(HEAD)) is not None


class Remains(NamedTuple):
    """A capture of a file that others wrote, and what reading it took."""

    capture: Capture
    bytes_read: int
    size: int


def read(path: str | os.PathLike[str], *, lenient: bool = False) -> Remains:
    """Of a file that others wrote, and of it no more than tells the map. Raises as `load` does."""
    with open_plain(path, "read") as file:
        return _read(file, os.path.basename(os.fspath(path)), lenient)


def _read(file: BinaryIO, shown: str, lenient: bool) -> Remains:
    from vmatlas.files.source import BytesSource, FileSource

    source = FileSource(file, shown)
    if not source.size:  # a file of /proc, whose size is told by its end alone
        file.seek(0)
        content = file.read(LARGEST)
        return Remains(_capture_of(BytesSource(content, shown), source.time, lenient), len(content), 0)
    capture = _capture_of(source, source.time, lenient)
    if source.has_changed():
        import dataclasses

        told = "; ".join(filter(None, (capture.incomplete, "somebody wrote to the file while it was read")))
        capture = dataclasses.replace(capture, incomplete=told)
    return Remains(capture, source.bytes_read, source.size)


def read_bytes(content: bytes, name: str, time: float, *, lenient: bool = False) -> Capture | None:
    """The same of bytes that are at hand; None for what is no such file. Raises as `load` does, but for OSError."""
    from io import BytesIO

    from vmatlas.files.source import BytesSource

    is_ours = not _is_foreign(BytesIO(content).read, lenient)
    return None if is_ours else _capture_of(BytesSource(content, name), time, lenient)


def _capture_of(file: FileSource | BytesSource, time: float, lenient: bool) -> Capture:
    from vmatlas.files.contract import ELF_CORE
    from vmatlas.files.elf_core import read_core
    from vmatlas.files.packed import PackedSource, packing_of
    from vmatlas.files.texts import HEAD, LINUX_MAPS, form_of

    packing = packing_of(file.read(0, _HEAD))
    packed = None if packing is None else PackedSource(file, packing, file.on_disk)
    source: Source = packed or file
    head = source.read(0, _HEAD)
    if head.startswith(_MINIDUMP):
        return _capture_of_minidump(source, packed, time)
    if not head.startswith(_ELF) and (
        (form := form_of(source.read(0, HEAD))) is not None or (lenient and b"\0" not in head)
    ):
        return _capture_of_text(source, form or LINUX_MAPS, time, lenient)
    core = read_core(source)
    if packed is not None and packed.cut_short is not None:
        core = core._replace(incomplete="; ".join(filter(None, (core.incomplete, packed.cut_short))))
    try:
        reads: ReadsCores = _reader(ELF_CORE, core.system, "core file")
        capture = reads.capture_of_core(core, name=source.name, time=time)
    except VmatlasError as error:
        error.message = f"{source.name}: {error.message}"
        raise
    return capture


def _capture_of_text(source: Source, form: Form, time: float, lenient: bool) -> Capture:
    """Of a text that is read whole."""
    from vmatlas.files.contract import TEXT, ReadsTexts

    text = source.read(0, LARGEST)
    if len(text) == LARGEST:
        raise MalformedData(source.name, LARGEST, f"a text of less than {LARGEST:,} bytes")
    if text.count(b"\n") > _MOST_LINES:  # whose reader makes an object of each
        raise MalformedData(source.name, 0, f"a text of at most {_MOST_LINES:,} lines")
    reads: ReadsTexts = _reader(TEXT, form.system, f"text ({form.called})")
    return reads.capture_of_text(text, form=form.name, name=source.name, time=time, lenient=lenient)


def _capture_of_minidump(source: Source, packed: PackedSource | None, time: float) -> Capture:
    """Of a compressed one everything is unpacked first: its streams lie in any order."""
    from vmatlas.files.contract import MINIDUMP, ReadsMinidumps
    from vmatlas.files.minidump import read_minidump
    from vmatlas.files.source import BytesSource

    if packed is not None:
        source = BytesSource(packed.read(0, LARGEST), packed.name)
    dump = read_minidump(source)
    if packed is not None and packed.cut_short is not None:
        dump.gaps.append(packed.cut_short)
    reads: ReadsMinidumps = _reader(MINIDUMP, dump.system, "minidump")
    return reads.capture_of_minidump(dump, name=source.name, time=time)


def _reader(container: str, system: str, what: str) -> Any:
    """What reads files of a kind, of a system's processes. Raises Unsupported."""
    from vmatlas import registry
    from vmatlas.files.contract import ENTRIES

    name = f"{container}.{system}"
    if name not in registry.entries(ENTRIES):
        systems = [each.rpartition(".")[2] for each in registry.entries(ENTRIES) if each.startswith(f"{container}.")]
        raise Unsupported(
            f"it is the {what} of a process of {system}, which nothing that is installed reads",
            hint=f"such files of these systems are read: {', '.join(systems) or 'none'}",
        )
    return registry.plugin(ENTRIES, name)
