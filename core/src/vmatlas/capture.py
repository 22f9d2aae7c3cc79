"""A capture: the kernel's own bytes for one process, and all that is needed to decode them elsewhere, years later.

Saved as a zip: `manifest.json` and a member `streams/NAME` for each byte stream. The format's number is `FORMAT`; a
reader refuses a newer one by name. docs/captures.md describes it.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping

from vmatlas import arguments
from vmatlas.errors import MalformedData, UsageError, legible
from vmatlas.extents import occupied, open_plain
from vmatlas.model import ANY, Consistency, Filter, Origin, Query, SystemInfo
from vmatlas.model.columns import MOST_REGIONS as MOST_REGIONS
from vmatlas.notebook import draw
from vmatlas.patterns import pattern
from vmatlas.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zipfile
    from typing import Any, BinaryIO

FORMAT = 1
"""The number of the format that this version writes, and the newest that it reads."""

LARGEST = 2**28
"""The most bytes that a saved capture may unpack to: a map of 250,000 regions with residency, or of all that there may
be without. Reading one takes a small multiple of that (tests/test_cost_of_captures.py)."""

DENSEST = 128
"""How many bytes one byte of the file may unpack to. The densest that a kernel gave: 68, of 60,000 untouched regions
with residency. A file made to fill memory comes near 1,000."""

ALWAYS_READ = 2**24
"""Bytes that a capture may unpack to, however small the file is."""

LARGEST_FILE = LARGEST + 2**22
"""The most bytes that a capture's own file has: what it unpacks to as it is, and what a zip says of its members."""

SERIES = b"vmatlas series "
"""How a file begins that holds many (`vmatlas.series`), of whatever format."""

LARGEST_MANIFEST = 2**17
"""Bytes of the JSON. A program that recorded wrote some 1,000; as objects in memory each can take 24."""

_MOST_MEMBERS = 1000
_LARGEST_DIRECTORY = 2**20
"""Bytes of a zip's own list of its members: each entry becomes an object, before anybody can count them."""
_LONGEST_FILTER = 4096
_BITS = 64
"""Of a number: no system has larger ones."""
_MANIFEST = "manifest.json"
_WIDTHS = (16, 32, 64)
_PAGE_SIZES = frozenset(1 << bits for bits in range(9, 31))
_STREAMS = "streams/"
_PLUGIN_NAME = pattern(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
"""What a distribution may be called: it is shown to users, so nothing else may stand in the manifest."""


@dataclass(frozen=True, slots=True, repr=False)
class Capture:
    """Named byte streams as the kernel gave them, with the system and the process that they come from."""

    picture = draw

    streams: Mapping[str, bytes]
    system: SystemInfo
    pid: int
    backend: str
    """The backend that acquired it, and that decodes it."""
    distribution: str
    """The distribution that holds that backend, as whoever made the capture claims."""
    query: Query
    time: float
    """Seconds since 1970-01-01 UTC."""
    start_time: int | None = None
    thread: int | None = None
    pointer_width: int | None = None
    """Bits in a pointer of the process, where known: 32 for a 32-bit process on a 64-bit kernel."""
    target: str = "local"
    consistency: Consistency = Consistency.PER_REGION
    incomplete: str | None = None
    """None, or why something may be missing from the streams."""
    name: str | None = None
    """What the system called the process, in short, where it was asked."""
    number_inside: int | None = None
    """Its number in its own pid namespace, where that is another and was asked."""
    stack_limit: int | None = None
    """Bytes that a stack which grows by itself may have; 2**64 - 1 where there is no limit. None: not asked."""

    def __repr__(self) -> str:
        streams = ", ".join(f"{name} ({len(content):,} bytes)" for name, content in self.streams.items())
        incomplete = "" if self.incomplete is None else ", incomplete"
        return f"<Capture of pid {self.pid} by {self.backend}: {streams or 'no stream'}{incomplete}>"

    @property
    def origin(self) -> Origin:
        """Where the address space that this decodes to comes from."""
        return Origin(
            system=self.system,
            pid=self.pid,
            backend=self.backend,
            time=self.time,
            start_time=self.start_time,
            thread=self.thread,
            target=self.target,
            consistency=self.consistency,
            incomplete=self.incomplete,
            name=self.name,
            number_inside=self.number_inside,
            stack_limit=self.stack_limit,
        )

    def stream(self, name: str) -> bytes:
        """One stream. Raises MalformedData when the capture lacks it."""
        if not isinstance(name, str):
            raise UsageError(f"{arguments.shown(name)} is no name of a stream")
        try:
            return self.streams[name]
        except KeyError:
            raise MalformedData(
                name,
                0,
                f"a stream of this name (there are: {', '.join(self.streams) or 'none'})",
                pid=self.pid,
                backend=self.backend,
            ) from None

    def save(self, path: str | os.PathLike[str], *, replace: bool = True) -> None:
        """Write it as a file, under a temporary name first, so that what stood there is replaced whole or not at all.

        A new file is for its owner alone (0600). Who may read and write one that is replaced stays as it was; of
        somebody else's file, nobody gets more than of a new one. A link
        stays, and what it leads to is replaced, unless it is somebody else's, neither ours nor root's (PermissionError,
        in more folders than by the kernel's fs.protected_symlinks). Without `replace` nothing is replaced, whenever it
        came there. Raises OSError; FileExistsError for that, and where something stands that is no regular file (a
        device would be replaced by a file, and be gone). Raises UsageError for what `load` would not read: more than
        `LARGEST` bytes, a time beyond the calendar.
        """
        from vmatlas.writing import write_whole  # few commands save

        write_whole(arguments.path(path, "capture"), self._packed(), replace=replace)

    def write(self, file: BinaryIO) -> None:
        """Write it to a file that is open for bytes, a pipe too, from where it stands.

        Raises OSError; UsageError for what `load` would not read, as `save` does.
        """
        if not hasattr(file, "write"):
            raise UsageError(f"{arguments.shown(file)} is no open file", hint="save(PATH) opens one")
        file.write(self._packed())

    def _packed(self) -> bytes:
        import zipfile
        from io import BytesIO

        total = sum(map(len, self.streams.values()))
        if total > LARGEST:
            raise UsageError(
                f"the capture has {total:,} bytes, and a file of one may have {LARGEST:,}",
                hint="capture it without residency, or decode it here",
            )
        manifest = manifest_packed(self.manifest(), indent=2) + b"\n"
        packed = BytesIO()
        for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            packed = BytesIO()
            with zipfile.ZipFile(packed, "w", method) as archive:
                archive.writestr(_MANIFEST, manifest)
                for name, content in self.streams.items():
                    archive.writestr(_STREAMS + name, content)
            if total + len(manifest) <= most(packed.tell()):
                break  # else it is denser than a reader takes from anybody: as it is, then
        return packed.getvalue()

    def manifest(self) -> dict[str, Any]:
        """All but the bytes, as it is saved: docs/captures.md. Raises UsageError for a time in no calendar."""
        from datetime import UTC, datetime

        try:
            time = datetime.fromtimestamp(self.time, UTC)
        except (ValueError, OverflowError, OSError):
            raise UsageError(f"the capture's time, {self.time!r} seconds since 1970, is in no calendar") from None
        import dataclasses  # few commands save

        asked = dataclasses.asdict(self.query)
        query = {name: asked[name] for name in MANIFEST["query"] or ()}
        try:
            query["where"] = _short(str(self.query.where)) or None
        except ValueError as error:
            raise UsageError(f"it was asked with {error}") from None
        if not self.query.totals:
            del query["totals"]  # older readers of format 1 do not know it
        query["limit"] = self.query.limit_of_answer  # 0 where all was asked for; `null` would be no number for format 1
        return {
            "format": FORMAT,
            "system": dataclasses.asdict(self.system),
            "pid": self.pid,
            "name": self.name,
            "number_inside": self.number_inside,
            "stack_limit": self.stack_limit,
            "start_time": self.start_time,
            "thread": self.thread,
            "pointer_width": self.pointer_width,
            "target": self.target,
            "backend": self.backend,
            "distribution": self.distribution,
            "query": query,
            "time": time.isoformat(),
            "consistency": self.consistency.value,
            "incomplete": self.incomplete,
            "streams": {name: len(content) for name, content in self.streams.items()},
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Capture:
        """Read a saved capture.

        Raises OSError when the file cannot be read or is a pipe or a device (whose end might never come), MalformedData
        when it is no whole capture, and UsageError when it was written in a newer format.
        """
        shown = os.path.basename(arguments.path(path, "capture"))
        with open_plain(path, "a capture") as file:
            return cls.of_file(file, shown)

    @classmethod
    def of_file(cls, file: BinaryIO, shown: str) -> Capture:
        """The same of a regular file that was opened (`vmatlas.extents.open_plain`), which errors call `shown`."""
        size = os.fstat(file.fileno()).st_size
        return cls._unpacked(_unpack(file, shown, occupied(file, size, LARGEST // DENSEST)), shown)

    @classmethod
    def read(cls, file: BinaryIO, name: str = "the stream") -> Capture:
        """Read a saved capture from a stream, a pipe too, to its end; `name` is what errors call it.

        It is kept whole before it is looked at, so no more than `LARGEST_FILE` bytes are taken. Raises OSError,
        MalformedData and UsageError, as `load` does.
        """
        from io import BytesIO

        if not hasattr(file, "read"):
            raise UsageError(f"{arguments.shown(file)} is no open file", hint="Capture.load(PATH) opens one")
        content = file.read(LARGEST_FILE + 1)
        if not isinstance(content, bytes):
            raise UsageError("a stream of text is no capture", hint="open it for bytes: mode 'rb', sys.stdin.buffer")
        if len(content) > LARGEST_FILE:
            raise MalformedData(name, LARGEST_FILE, f"the end of a capture, which has at most {LARGEST_FILE:,} bytes")
        return cls._unpacked(_unpack(BytesIO(content), name, len(content)), name)

    @classmethod
    def _unpacked(cls, members: dict[str, bytes], shown: str) -> Capture:
        if _MANIFEST not in members:
            raise _no_capture(shown, f"it is a zip file without a member {_MANIFEST}", "a member of that name")
        try:
            manifest = manifest_of(members[_MANIFEST])
        except ValueError as error:
            raise MalformedData(_MANIFEST, 0, str(error)) from None
        streams = {
            name.removeprefix(_STREAMS): content for name, content in members.items() if name.startswith(_STREAMS)
        }
        return cls.of_manifest(manifest, streams)

    @classmethod
    def of_manifest(cls, manifest: Any, streams: dict[str, bytes]) -> Capture:
        """The capture of a manifest, whatever it is, and its streams. Raises MalformedData, UsageError."""
        if not isinstance(manifest, dict):
            raise MalformedData(_MANIFEST, 0, "an object with a number 'format'")
        read = _Fields(manifest)
        if (version := read.number("format")) > FORMAT:
            raise UsageError(
                f"the capture has format {version}, and this version of vmatlas reads up to {FORMAT}",
                hint="read it by the version that wrote it, or a newer one",
            )
        sizes = read.mapping("streams")
        actual = {name: len(content) for name, content in streams.items()}
        if sizes != actual:
            raise MalformedData(_MANIFEST, 0, f"streams of the sizes that it names ({sizes}), the file has {actual}")
        system, query = _Fields(read.mapping("system")), _Fields(read.mapping("query"))
        byte_order = system.text("byte_order")
        if byte_order not in ("little", "big"):
            raise MalformedData(_MANIFEST, 0, "byte_order 'little' or 'big'")
        from datetime import datetime

        try:
            time = datetime.fromisoformat(read.text("time"))
            consistency = Consistency(read.text("consistency"))
            filtered = _short(query.optional_text("where") or "")
            where = Filter.parse(filtered) if filtered else ANY
        except ValueError as error:
            raise MalformedData(_MANIFEST, 0, f"a time, a consistency and a filter ({error})") from None
        # At the ends of the calendar it has no name in another zone.
        if time.tzinfo is None or not 2 <= time.year <= 9998:
            expected = "a time with its zone, of the years 2 to 9998"
            raise MalformedData(_MANIFEST, 0, expected, found=read.text("time").encode())
        return cls(
            streams=streams,
            system=SystemInfo(
                system=system.text("system"),
                release=system.text("release"),
                version=system.text("version"),
                machine=system.text("machine"),
                byte_order="little" if byte_order == "little" else "big",
                pointer_width=system.one_of("pointer_width", _WIDTHS),
                page_size=system.one_of("page_size", _PAGE_SIZES),
            ),
            pid=read.number("pid"),
            backend=read.plugin_name("backend"),
            distribution=read.plugin_name("distribution"),
            query=Query(
                address=query.optional_number("address"),
                or_next=query.flag("or_next"),
                limit=query.number("limit") or 1,
                residency=query.flag("residency"),
                totals=query.flag("totals") if query.has("totals") else False,
                build_ids=query.flag("build_ids"),
                where=where,
            ),
            time=time.timestamp(),
            start_time=read.optional_number("start_time"),
            thread=read.optional_number("thread"),
            pointer_width=read.one_of("pointer_width", _WIDTHS) if read.has("pointer_width") else None,
            target=read.text("target"),
            consistency=consistency,
            incomplete=read.optional_text("incomplete"),
            name=read.optional_text("name"),
            number_inside=read.optional_number("number_inside"),
            stack_limit=read.optional_number("stack_limit"),
        )


def check_count(stream: str, count: int, *, what: str = "regions", pid: int | None = None) -> None:
    """Before a decoder makes an object of each of so many. Raises MalformedData beyond `MOST_REGIONS`."""
    if count > MOST_REGIONS:
        raise MalformedData(stream, 0, f"at most {MOST_REGIONS:,} {what}, not {count:,}", pid=pid)


def most(on_disk: int) -> int:
    """Bytes that a file which occupies so many may unpack to: one capture, or a moment of a series."""
    return min(LARGEST, max(ALWAYS_READ, DENSEST * on_disk))


MANIFEST: Mapping[str, tuple[str, ...] | None] = {
    **dict.fromkeys(
        ("stack_limit", "format", "pid", "name", "number_inside", "start_time", "thread", "pointer_width", "target"), ()
    ),
    **dict.fromkeys(("backend", "distribution", "time", "consistency", "incomplete"), ()),
    "system": ("system", "release", "version", "machine", "byte_order", "pointer_width", "page_size"),
    "query": ("address", "or_next", "limit", "residency", "totals", "build_ids", "where"),
    "streams": None,
}
"""The fields of a manifest, and of those that are objects what is in them (None: whatever streams there are)."""


def manifest_of(text: bytes) -> dict[str, Any]:
    """The fields of a manifest, of its JSON; others, as later versions may have, are passed over.

    So what is kept of it is small, whatever was in it. Raises ValueError: what was expected.
    """
    if len(text) > LARGEST_MANIFEST:
        raise ValueError(f"a manifest of at most {LARGEST_MANIFEST:,} bytes")
    import json  # a map that is asked live does not pay for it

    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON ({error})") from None
    if not isinstance(told, dict):
        raise ValueError("an object with a number 'format'")
    return {name: _plain(name, told[name], inner) for name, inner in MANIFEST.items() if name in told}


def _plain(name: str, value: Any, inner: tuple[str, ...] | None) -> Any:
    if isinstance(value, dict) and inner != ():
        return {each: _plain(each, value[each], ()) for each in (value if inner is None else inner) if each in value}
    if isinstance(value, (dict, list)):
        raise ValueError(f"text, a number, true, false or null in '{legible(name)}'")
    return value


def manifest_packed(fields: Mapping[str, Any], indent: int | None = None) -> bytes:
    """The JSON of a manifest. Raises UsageError for more than is read."""
    import json

    told = json.dumps(fields, indent=indent, separators=None if indent else (",", ":")).encode()
    if len(told) >= LARGEST_MANIFEST:
        hint = "what is incomplete, or the target, takes too many words"
        raise UsageError(f"what is said of the capture has {len(told):,} bytes of {LARGEST_MANIFEST:,}", hint=hint)
    return told


class _Opening:
    """A file while `zipfile` opens it: the list of members is read at once, and an object made of each entry."""

    def __init__(self, file: BinaryIO, shown: str) -> None:
        self._file, self._shown = file, shown
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close
        self.is_open = False

    def read(self, size: int = -1) -> bytes:
        if not self.is_open and size > _LARGEST_DIRECTORY:
            expected = f"a list of members of at most {_LARGEST_DIRECTORY:,} bytes"
            raise MalformedData(self._shown, self._file.tell(), expected)
        return self._file.read(size)  # what is read to the end is the end: at most 64 KiB


def _unpack(file: BinaryIO, shown: str, size: int) -> dict[str, bytes]:
    """Every member of a zip. Raises MalformedData for whatever keeps it from being unpacked whole.

    What it may cost is known before anything is unpacked, from what the file occupies, which does not lie: `size`.
    """
    import zipfile

    largest = most(size)
    opening: Any = _Opening(file, shown)
    try:
        with zipfile.ZipFile(opening) as archive:
            opening.is_open = True
            members = archive.infolist()
            if sum(member.file_size for member in members) > largest:
                raise MalformedData(shown, 0, f"a capture that unpacks to at most {largest:,} bytes, as small as it is")
            if len(members) > _MOST_MEMBERS:
                raise MalformedData(shown, 0, f"at most {_MOST_MEMBERS:,} members, not {len(members):,}")
            for member in members:
                # Others cannot be told to stop after as many bytes as a member says that it has.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise MalformedData(shown, member.header_offset, "members that are deflated, or stored as they are")
            sizes = {member.filename: member.file_size for member in members}
            if len(sizes) < len(members) or sizes.get(_MANIFEST, 0) > LARGEST_MANIFEST:
                expected = f"members of different names, {_MANIFEST} of at most {LARGEST_MANIFEST:,} bytes"
                raise MalformedData(shown, 0, expected)
            return {member.filename: _read(archive, member) for member in members}
    except MalformedData:
        raise
    except Exception as error:  # zipfile and its decompressors raise errors of a dozen kinds for foreign bytes
        raise _no_capture(shown, _amiss(file, error), "a whole zip file") from None


def _amiss(file: BinaryIO, error: Exception) -> str:
    """Why a file is no whole zip, in words that do not take one who knows zips."""
    file.seek(0)
    begin = file.read(len(SERIES))
    if not begin:
        return "it is empty"
    if begin == SERIES:
        return "it is a series of captures, which vmatlas.Series.open reads (and vmatlas.replay, its last)"
    if not begin.startswith(b"PK"):
        return "it is a file of another kind"
    import zipfile
    import zlib

    # Their words are of magic numbers and headers; ours, and that it is encrypted, say what is amiss.
    own = "" if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError) else f" ({error})"
    return f"{_DAMAGED}{own}"


_DAMAGED = "it is cut off or damaged"


def _no_capture(shown: str, why: str, expected: str) -> MalformedData:
    """The error of a whole file, in the words of one who named the wrong file; a position in it would say nothing."""
    error = MalformedData(shown, 0, expected)
    what = "no whole capture" if why.startswith(_DAMAGED) else "no capture"
    error.message = f"{shown} is {what} of vmatlas: {why}"
    return error


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """One member, and not a byte more than its size: `ZipFile.read` unpacks whatever is there before it looks."""
    with archive.open(member) as file:
        content = file.read(member.file_size)
        if len(content) != member.file_size or file.read(1):
            raise ValueError(f"{member.filename} has not the {member.file_size:,} bytes that it should")
    return content


def _short(words: str) -> str:
    """Raises ValueError: each word of a filter takes longer to read than to write."""
    if len(words) > _LONGEST_FILTER:
        raise ValueError(f"a filter of {len(words):,} characters; at most {_LONGEST_FILTER:,} are read")
    return words


class _Fields:
    """The fields of a JSON object, each checked for its type."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def _typed(self, name: str, kind: type, what: str) -> Any:
        value = self._fields.get(name)
        is_other = isinstance(value, int) and (isinstance(value, bool) or value.bit_length() > _BITS)
        if not isinstance(value, kind) or (kind is int and is_other):
            raise MalformedData(_MANIFEST, 0, f"{what} in '{name}', found {value!r}")
        return value

    def text(self, name: str) -> str:
        return str(self._typed(name, str, "text"))

    def optional_text(self, name: str) -> str | None:
        return None if self._fields.get(name) is None else self.text(name)

    def plugin_name(self, name: str) -> str:
        text = self.text(name)
        if not _PLUGIN_NAME.fullmatch(text):
            raise MalformedData(_MANIFEST, 0, f"a name in '{name}'", found=text.encode("utf-8", "backslashreplace"))
        return text

    def number(self, name: str) -> int:
        return int(self._typed(name, int, "a whole number"))

    def optional_number(self, name: str) -> int | None:
        return None if self._fields.get(name) is None else self.number(name)

    def one_of(self, name: str, known: Container[int]) -> int:
        """A number that decoders shift by, or divide by."""
        found = self.number(name)
        if found not in known:
            raise MalformedData(_MANIFEST, 0, f"'{name}' to be one that there is", found=str(found)[:40].encode())
        return found

    def has(self, name: str) -> bool:
        """Whether it is there, and not null."""
        return self._fields.get(name) is not None

    def flag(self, name: str) -> bool:
        return bool(self._typed(name, bool, "true or false"))

    def mapping(self, name: str) -> dict[str, Any]:
        return dict(self._typed(name, dict, "an object"))
