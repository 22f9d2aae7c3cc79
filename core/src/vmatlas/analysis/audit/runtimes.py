"""Just-in-time compilers, recognised by what they map and how: which library, and memory in the shape that it makes.

No name of a process counts. A guess of `naming` (V8's code range, the JVM's code cache) is such a shape; others are
told here. Each has to have both signs: the library, and that this very memory looks like its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vmatlas.analysis.naming import Guess, name_regions
from vmatlas.analysis.naming.layout import MIB, Layout, size_of
from vmatlas.model import AddressSpace, Kind, Protection, Region
from vmatlas.once import cached_property

_GUESSED = {"V8 code range": "V8", "JVM code cache": "a JVM"}
"""Groups of `naming` that are compiled code."""

Looks: TypeAlias = "Callable[[Layout, Region], str | None]"
"""What speaks for it of one region; None: it does not look so."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A compiler that makes code while a program runs."""

    name: str
    files: str
    """A pattern of the file name, without its folder, of what is mapped where it is in use."""
    looks: Looks


def _is_private_code(region: Region) -> bool:
    return region.kind is Kind.ANONYMOUS and not region.shared and bool(region.protection & Protection.EXECUTE)


def _named(*names: str) -> Looks:
    """An object that the compiler gives a name."""

    def looks(_: Layout, region: Region) -> str | None:
        path = region.path or ""
        found = next((name for name in names if path.startswith(f"/memfd:{name}")), None)
        return None if found is None else f"the object is called {found}, as it calls it"

    return looks


def _large(least: int, also: Looks | None = None) -> Looks:
    """One large buffer of code."""

    def looks(layout: Layout, region: Region) -> str | None:
        if also is not None and (named := also(layout, region)) is not None:
            return named
        if not _is_private_code(region):
            return None
        row = layout.at(region.start)
        start, end = (0, 0) if row is None else layout.run_bounds.get(row, (0, 0))
        return f"one buffer of {size_of(end - start)}" if end - start >= least else None

    return looks


def _shared_between_workers(_: Layout, region: Region) -> str | None:
    """Memory without a file that is shared with children: of Linux it is /dev/zero."""
    if region.kind is not Kind.SHARED_MEMORY or region.path != "/dev/zero":
        return None
    return "memory without a file, shared with its workers, as it makes it"


def _small(most: int) -> Looks:
    """Private buffers of code, none of them large."""

    def looks(_: Layout, region: Region) -> str | None:
        if not _is_private_code(region) or region.size > most:
            return None
        return f"private code of {size_of(region.size)}, no more than it makes"

    return looks


def _closures(layout: Layout, region: Region) -> str | None:
    """What libffi makes callbacks of: an object that it names, or private buffers that stay writable (`dlmmap`)."""
    if (named := _named("libffi")(layout, region)) is not None:
        return named
    return _small(MIB)(layout, region) if region.protection & Protection.WRITE else None


RUNTIMES = (
    Runtime("QEMU", r"qemu-[a-z0-9_-]+|qemu-kvm|kvm", _large(MIB, _named("tcg-jit"))),
    Runtime(".NET", r"libcoreclr\.so|libclrjit\.so", _named("doublemapper")),
    Runtime("PyPy", r"libpypy[0-9.]*-c\.so|pypy[0-9.]*", _small(64 * MIB)),
    Runtime("LuaJIT", r"libluajit-5\.1\.so[0-9.]*|luajit[0-9.a-z-]*", _small(MIB)),
    Runtime("LLVM's compiler in PostgreSQL", r"llvmjit\.so", _small(64 * MIB)),
    Runtime("Erlang's BEAM", r"beam\.smp", _large(MIB, _named("vmem"))),
    Runtime("PHP's compiler", r"opcache\.so", _shared_between_workers),
    Runtime("PCRE2's compiler", r"libpcre2-(8|16|32)\.so[0-9.]*", _small(MIB)),
    Runtime("libffi", r"libffi\.so[0-9.]*", _closures),
)
"""Where several are mapped, the first that the memory looks like is told."""


class Recogniser:
    """Tells them in one map."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self._space)

    @cached_property
    def _guesses(self) -> Mapping[int, Guess]:
        return name_regions(self._space)

    @cached_property
    def _present(self) -> Sequence[tuple[Runtime, str]]:
        return [(each, name) for each in RUNTIMES if (name := self._layout.file(each.files)) is not None]

    def recognised(self, regions: Iterable[Region]) -> str:
        """Which compiler made this memory, and by what it is told; empty where one of the regions is nobody's."""
        found: dict[str, None] = {}
        for region in regions:
            told = next(self._signs(region), None)
            if told is None:
                return ""
            found[told] = None
        return "; ".join(found)

    def _signs(self, region: Region) -> Iterator[str]:
        guess = self._guesses.get(region.start)
        if guess is not None and guess.group in _GUESSED:
            yield f"{_GUESSED[guess.group]}: {', '.join(guess.evidence)}"
        for runtime, name in self._present:
            if (looks := runtime.looks(self._layout, region)) is not None:
                yield f"{runtime.name}: {name} is mapped, {looks}"
