"""Names for addresses: the function or object that lies there, from the files that a process has mapped, their debug
files, and what a JIT wrote for perf.

Of a process of this machine the very files that it has mapped are read. Of a capture, a core file or a minidump those
that lie at the same path here, if they are the same: by the build id, or by device and inode. No other file is opened,
and none of another machine; but where the URL of a debuginfod server is set, it is asked for what is not at hand.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vmatlas import arguments
from vmatlas.api import Pid
from vmatlas.backend import NO_JIT_MAP, JitMap, OpensFiles
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, Region
from vmatlas.once import cached_property
from vmatlas.process import Process
from vmatlas.symbols.elf import HEAD, Elf, parse_elf
from vmatlas.symbols.jit import jit_names
from vmatlas.symbols.lines import Frames, SourceLine
from vmatlas.symbols.places import Places
from vmatlas.symbols.table import (
    MOST_SYMBOLS,
    Sections,
    Symbol,
    SymbolTable,
    TooManySymbols,
    has_symbols,
    symbols_of,
)

if TYPE_CHECKING:
    from vmatlas.debuginfod import Debuginfod

DEBUG_FOLDERS = ("/usr/lib/debug", "/usr/local/lib/debug")
"""Below them, `.build-id/ab/cdef....debug` is the debug file of the build id abcdef...."""

_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Place(NamedTuple):
    """An address that was looked up."""

    region: Region | None
    elf_address: int | None
    symbol: Symbol | None
    lines: Frames = ()
    """Where lines were asked for, and are told: the innermost function first."""


class _File:
    """A mapped file that was read once: its program headers, its build id and its symbols."""

    def __init__(self, descriptor: int, debuginfod: Debuginfod | None = None) -> None:
        """Closes the descriptor when its symbols were read, or nobody needs them any more. `debuginfod`: is asked for
        the debug file where none is at hand."""
        self._descriptor = descriptor
        self._debuginfod = debuginfod
        self.elf: Elf | None = None
        self.build_id: bytes | None = None
        self.too_many = 0
        """How many symbols it or its debug file has, where those are more than are read."""
        with contextlib.suppress(OSError):
            self.elf = parse_elf(os.pread(descriptor, HEAD, 0))
            self.build_id = self._sections.build_id if self.elf is not None else None

    @cached_property
    def _sections(self) -> Sections:
        """Raises OSError."""
        return Sections(self._read)

    def _read(self, offset: int, size: int) -> bytes:
        if offset >= 1 << 63:
            return b""
        return os.pread(self._descriptor, size, offset) if size else b""

    @cached_property
    def symbols(self) -> tuple[SymbolTable, str] | None:
        """The best table that is at hand, and where it stands."""
        if self.elf is None:
            return None
        try:
            if self.build_id is not None and not has_symbols(self._sections):
                for file in self._debug_files():
                    debug = symbols_of(file._sections)
                    if debug is not None and debug.source == ".symtab":
                        return debug, "debug file"
            own = symbols_of(self._sections)
        except OSError:
            return None
        except TooManySymbols as error:
            self.too_many = int(error.args[0])
            return None
        return None if own is None else (own, own.source)

    def lines(self, addresses: Sequence[int]) -> list[Frames]:
        """For each address of the file's own. Raises Unsupported, and Unreadable with the reason why none is told."""
        from vmatlas.debug_lines import Unreadable, lines_of

        try:
            if self._has_lines:
                return lines_of(self._descriptor, self._base, addresses)
            for file in self._debug_files():
                if file._has_lines:
                    return lines_of(file._descriptor, file._base, addresses)
        except OSError as error:
            raise Unreadable(f"it cannot be read: {error.strerror}") from None
        raise Unreadable("no debug information of it is at hand")

    def _debug_files(self) -> Iterator[_File]:
        """Those in the usual folders, then that of a server; one is closed when the next is wanted."""
        if self.build_id is None:
            return
        yield from _debug_files(self.build_id)
        descriptor = None if self._debuginfod is None else self._debuginfod.file(self.build_id, "debuginfo")
        if descriptor is not None:
            with contextlib.closing(_File(descriptor)) as file:
                yield file

    @property
    def _has_lines(self) -> bool:
        """Raises OSError."""
        return any(each.name in (".debug_line", ".zdebug_line") for each in self._sections.all)

    @property
    def _base(self) -> int:
        return self.elf.segments[0].address if self.elf is not None and self.elf.segments else 0

    def close(self) -> None:
        """Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _debug_files(build_id: bytes) -> Iterator[_File]:
    """The debug files of it in the usual folders, which root alone writes to; one is closed when the next is wanted."""
    name = build_id.hex()
    for folder in DEBUG_FOLDERS:
        descriptor = _opened(os.path.join(folder, ".build-id", name[:2], f"{name[2:]}.debug"))
        if descriptor is None:
            continue
        with contextlib.closing(_File(descriptor)) as file:
            if file.build_id == build_id:
                yield file


def _opened(path: str) -> int | None:
    """A regular file to read; None where there is none that may be read. A pipe or a device is not opened."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        descriptor = os.open(path, _READING)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # another was laid there meanwhile
        os.close(descriptor)
        return None
    return descriptor


class Symbolizer:
    """Looks addresses of one process, or of one map, up; each file is read once. Close it, or use it in a `with`."""

    def __init__(
        self, source: Process | AddressSpace, *, debuginfod: Sequence[str] | None = None, demangle: bool = False
    ) -> None:
        """Of a process of another machine, and of one whose system does not let its files be read, no name is told.

        `debuginfod`: URLs of servers to ask for what is not at hand; None: those in DEBUGINFOD_URLS, none: nobody.
        `demangle`: mangled names of C++ and Rust are made legible as well, where a program here can do that.
        Raises UsageError for what is no URL.
        """
        self._demangle = arguments.flag(demangle, "demangle")
        self._debuginfod: Debuginfod | None = None
        self._said: list[str] = []
        if debuginfod or (debuginfod is None and os.environ.get("DEBUGINFOD_URLS")):
            from vmatlas.debuginfod import Debuginfod, urls_of

            urls, self._said = urls_of(debuginfod)
            self._debuginfod = Debuginfod(urls) if urls else None
        self._files: dict[object, _File | None] = {}
        self._why: dict[object, str | None] = {}
        self._asks_why: Callable[[Region], str | None] = lambda region: None
        self._jit: dict[int, Symbol | None] = {}
        self.why_no_jit_map: str | None = None
        """Why a file that a JIT wrote for perf was not taken for this process's, in words; None: it was, or there is
        none, or it was not asked for."""
        self._why_no_lines: dict[str, str] = {}
        self._own: Process | None = None
        self._elsewhere, self._time = False, 0.0
        if isinstance(source, AddressSpace):
            self._page = source.system.page_size
            is_here = source.origin.target == "local" and source.system.system == os.uname().sysname.lower()
            self._elsewhere, self._time = not is_here, source.origin.time
            self._find_many: Callable[[Sequence[int]], list[Region | None]] = source.find_many
            lookup: Callable[[int], Region | None] = source.find
            self._open: Callable[[Region], int | None] = self._open_here
            self._open_jit: Callable[[], JitMap] = lambda: NO_JIT_MAP
        elif isinstance(source, Process):
            self._page = source.target.system_info.page_size
            self._find_many, lookup = source.find_many, source.find
            self._asks_why = source.why_unread
            opens = source.opens_files()
            self._open = opens.open_mapped if opens is not None else lambda region: None
            self._open_jit = opens.open_jit_map if opens is not None else lambda: NO_JIT_MAP
        else:
            raise UsageError(f"{arguments.shown(source)} is neither a process nor a map")
        self._places = Places(elf_of=self._elf_of, lookup=lookup, page=self._page)

    def symbols(self, addresses: Iterable[int]) -> list[Symbol | None]:
        """The symbol of each, in their order. Raises what `find_many` raises."""
        asked = _listed(addresses)
        return self._legible(self._both(asked, self._find_many(asked))[1])

    def look_up(self, addresses: Iterable[int]) -> list[Place]:
        """The region, the ELF address and the symbol of each, in their order. Raises what `find_many` raises."""
        asked = _listed(addresses)
        return self.look_up_in(asked, self._find_many(asked))

    def look_up_in(self, addresses: Sequence[int], regions: Sequence[Region | None]) -> list[Place]:
        """The same where the regions are known."""
        own, symbols = self._both(addresses, regions)
        return list(map(Place, regions, own, self._legible(symbols)))

    def _legible(self, symbols: list[Symbol | None]) -> list[Symbol | None]:
        """The same, with what mangled names mean, where that is asked for."""
        told = self._meanings(each.name for each in symbols if each is not None) if self._demangle else {}
        if not told:
            return symbols
        return [each and each._replace(legible=told.get(each.name)) for each in symbols]

    def _meanings(self, names: Iterable[str]) -> dict[str, str]:
        from vmatlas.demangling import is_mangled, is_possible, legible

        mangled = list(filter(is_mangled, names))
        if mangled and not is_possible():
            line = "names of C++ and Rust are shown as the files have them: neither c++filt nor llvm-cxxfilt is here"
            self._said = list(dict.fromkeys((*self._said, line)))
        return legible(mangled)

    def _both(
        self, addresses: Sequence[int], regions: Sequence[Region | None]
    ) -> tuple[list[int | None], list[Symbol | None]]:
        """The ELF address and the symbol of each."""
        own: list[int | None] = [None] * len(addresses)
        symbols: list[Symbol | None] = [None] * len(addresses)
        by_region: dict[Region, list[int]] = {}
        last: Region | None = None
        start = end = 0
        rows: list[int] = []
        for row, (address, at) in enumerate(zip(addresses, regions, strict=True)):
            if at is not last and at is not None:
                last, start, end = at, at.start, at.end
                rows = by_region.setdefault(at, [])
            if at is not None and start <= address < end:
                rows.append(row)
        of_no_file: list[int] = []
        for at, rows in by_region.items():
            shift = self._places.shift(at)
            if shift is not None:
                self._name(at, rows, [addresses[row] + shift for row in rows], own, symbols)
                continue
            for row in rows:
                place = self._places.of(addresses[row], at)
                if place is not None:
                    self._name(place[1], [row], [place[0]], own, symbols)
                else:  # also in a memfd, as .NET has it
                    of_no_file.append(row)
        if of_no_file:
            made = self._made([addresses[row] for row in of_no_file])
            for row in of_no_file:
                symbols[row] = made[addresses[row]]
        return own, symbols

    def _name(
        self, of: Region, rows: list[int], places: list[int], own: list[int | None], symbols: list[Symbol | None]
    ) -> None:
        """Fills in what is told of addresses of a file; `of` is a region of it."""
        file = self._files.get(_key(of))
        told = None if file is None else file.symbols
        if file is not None and file.too_many:
            line = f"no symbols of {of.path}: it has {file.too_many:,}, more than are read ({MOST_SYMBOLS:,})"
            self._said = list(dict.fromkeys((*self._said, line)))
        found = [None] * len(rows) if told is None else told[0].find_many(places, file=of.path, source=told[1])
        if len(rows) == len(own):  # all of one file
            own[:], symbols[:] = places, found
            return
        for row, place, symbol in zip(rows, places, found, strict=True):
            own[row], symbols[row] = place, symbol

    def with_lines(self, addresses: Sequence[int], places: Sequence[Place]) -> list[Place]:
        """The same places, with the lines of source code where debug information of the file is at hand.

        Raises Unsupported where nothing here reads it.
        """
        from vmatlas.debug_lines import Unreadable, check_installed

        check_installed()
        rows: dict[object, list[tuple[int, int]]] = {}
        for row, (address, place) in enumerate(zip(addresses, places, strict=True)):
            found = None if place.region is None else self._places.of(address, place.region)
            if found is not None:
                rows.setdefault(_key(found[1]), []).append((row, found[0]))
        told = list(places)
        for key, asked in rows.items():
            file = self._files.get(key)
            if file is None:
                continue
            try:
                frames = file.lines([own for _, own in asked])
            except Unreadable as error:
                for row, _ in asked:
                    region = places[row].region
                    self._why_no_lines[(region and region.path) or ""] = str(error)
                continue
            if self._demangle:
                means = self._meanings(each.function for lines in frames for each in lines)
                frames = [tuple(each._replace(legible=means.get(each.function)) for each in lines) for lines in frames]
            for (row, _), lines in zip(asked, frames, strict=True):
                told[row] = told[row]._replace(lines=lines)
        return told

    def why_no_lines(self, place: Place) -> str | None:
        """Why `with_lines` told none of a place, in words; None where it did."""
        if place.lines:
            return None
        if place.region is None or place.elf_address is None:
            why = None if place.region is None else self.why_not(place.region)
            return why or "it lies in no file that is read"
        return self._why_no_lines.get(place.region.path or "", "its debug information tells none there")

    def why_not(self, region: Region) -> str | None:
        """Why nothing is told of the file that a region shows, in words; None where it was read, or has no path."""
        key = _key(region)
        if region.path is None or self._files.get(key) is not None:
            return None
        if key not in self._why:
            self._why[key] = self._asks_why(region)
        return self._why[key]

    @property
    def said(self) -> list[str]:
        """What went wrong with debuginfod servers, and what no name could be told for, a line each."""
        return [*self._said, *(self._debuginfod.said if self._debuginfod is not None else ())]

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        if self._debuginfod is not None:
            self._debuginfod.close()
        for file in self._files.values():
            if file is not None:
                file.close()
        self._files.clear()
        if self._own is not None:
            self._own.close()
            self._own = None

    def __enter__(self) -> Symbolizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made(self, addresses: list[int]) -> dict[int, Symbol | None]:
        """What a JIT says that it made at these addresses; each is looked for once."""
        new = [each for each in addresses if each not in self._jit]
        descriptor, why = self._open_jit() if new else NO_JIT_MAP
        self.why_no_jit_map = why or self.why_no_jit_map
        found: dict[int, Symbol] = {}
        if descriptor is not None:
            try:
                size = os.fstat(descriptor).st_size
                found = jit_names(lambda offset, most: os.pread(descriptor, most, offset), size, new)
            except OSError:
                pass
            finally:
                os.close(descriptor)
        self._jit.update((each, found.get(each)) for each in new)
        return self._jit

    def _elf_of(self, region: Region) -> Elf | None:
        key = _key(region)
        if key not in self._files:
            descriptor = self._open(region)
            self._files[key] = None if descriptor is None else _File(descriptor, self._debuginfod)
        file = self._files[key]
        return None if file is None else file.elf

    def _open_here(self, region: Region) -> int | None:
        """The file at a region's path on this machine, if it is the one that was mapped; else a server's."""
        found = self._open_by_path(region)
        if found is None and region.build_id is not None and self._debuginfod is not None:
            found = self._debuginfod.file(region.build_id, "executable")
            if found is not None and region.path is not None:
                self._why.pop(_key(region), None)
        return found

    def _open_by_path(self, region: Region) -> int | None:
        if region.path is None:
            return None
        if region.build_id is None and (region.device is None or not region.inode):
            self._why[_key(region)] = "neither its build id nor device and inode are told: no file is taken for it"
            return None
        descriptor = self._opened_here(region.path_bytes or b"")
        if descriptor is None:
            self._why[_key(region)] = "no file that can be read lies at that path here"
            return None
        if self._is_it(descriptor, region):
            return descriptor
        os.close(descriptor)
        self._why[_key(region)] = "another file lies at that path here"
        return None

    def _opened_here(self, path: bytes) -> int | None:
        """As this process sees it; not where a file system may not answer: who made the core may have laid one."""
        from vmatlas import api

        if self._own is None:
            self._own = api.open(None)
        opens = self._own.opens_files()
        return None if opens is None else opens.own_file(path)

    def _is_it(self, descriptor: int, region: Region) -> bool:
        if region.build_id is not None:
            with contextlib.suppress(OSError):
                return Sections(lambda offset, size: os.pread(descriptor, size, offset)).build_id == region.build_id
            return False
        told = os.fstat(descriptor)
        if self._elsewhere or told.st_mtime > self._time:  # the same numbers of another machine, or of a later file
            return False
        return (os.major(told.st_dev), os.minor(told.st_dev), told.st_ino) == (*(region.device or ()), region.inode)


def _listed(addresses: Iterable[int]) -> list[int]:
    """Raises UsageError."""
    try:
        return list(addresses)
    except TypeError:
        hint = "several addresses, each a whole number"
        raise UsageError(f"{arguments.shown(addresses)} is no list of addresses", hint=hint) from None


def _key(region: Region) -> object:
    return region.device, region.inode, region.path, region.build_id


def symbolize_many(
    source: Process | AddressSpace | Pid,
    addresses: Iterable[int],
    *,
    debuginfod: Sequence[str] | None = None,
    demangle: bool = False,
) -> list[Symbol | None]:
    """The function or object at each address, in their order; None where none is known.

        symbolize_many(1234, [0x7f0012345678])

    `source` is a pid or anything with `.pid`, None for this process, or an AddressSpace: of a core file the one that
    `vmatlas.replay` gives, for files that lie here with the same build id (or device and inode).
    `debuginfod`: URLs of servers that are asked for files which are not at hand, by build id; None: those in the
    environment's DEBUGINFOD_URLS, `()`: none. `demangle`: what a mangled name of C++ or Rust means stands in
    `Symbol.legible`, where c++filt or llvm-cxxfilt is installed.
    Raises UsageError, and what `Process.find_many` raises.
    """
    with _symbolizer(source, debuginfod, demangle) as symbolizer:
        return symbolizer.symbols(addresses)


def source_lines(
    source: Process | AddressSpace | Pid,
    addresses: Iterable[int],
    *,
    debuginfod: Sequence[str] | None = None,
    demangle: bool = False,
) -> list[Frames]:
    """The functions that each address lies in, and the line of source code in each, in the order of the addresses.

        for frames in source_lines(1234, [0x7f0012345678]):
            print(*frames, sep=" <- ")

    Of functions that were inlined there the innermost stands first, and last the one that the address lies in; no
    frames where no debug information (DWARF, in the file or its debug file) is at hand, or tells none. An address is
    looked up as it is: of a return address ask for the byte before. `source` and what else there is as for
    `symbolize_many`. A process of its own reads the information of a file, for at most 60 seconds and in at most 4 GiB.

    Raises Unsupported where the package symbolic is not installed, and what `Process.find_many` raises.
    """
    with _symbolizer(source, debuginfod, demangle) as symbolizer:
        asked = _listed(addresses)
        return [each.lines for each in symbolizer.with_lines(asked, symbolizer.look_up(asked))]


@contextlib.contextmanager
def _symbolizer(
    source: Process | AddressSpace | Pid, debuginfod: Sequence[str] | None, demangle: bool
) -> Iterator[Symbolizer]:
    from vmatlas import api

    with contextlib.ExitStack() as closing:
        if not isinstance(source, (Process, AddressSpace)):
            source = closing.enter_context(api.open(source))
        yield closing.enter_context(Symbolizer(source, debuginfod=debuginfod, demangle=demangle))


__all__ = [
    "DEBUG_FOLDERS",
    "OpensFiles",
    "Place",
    "SourceLine",
    "Symbol",
    "Symbolizer",
    "source_lines",
    "symbolize_many",
]
