"""What Debian's indices say, and which of the packages a description asks for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Packages
from debian.debian_support import Version

from ..describe.machine import DebianKernel, DebianProgram
from ..errors import FetchError
from .wanted import Package

# Debian's names for processors.
ARCHITECTURES = {
    "x86_64": "amd64",
    "i386": "i386",
    "aarch64": "arm64",
    "armhf": "armhf",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "ppc64el": "ppc64el",
    "loong64": "loong64",
    "mips64el": "mips64el",
}


@dataclass(frozen=True)
class Kernel:
    """The packages that a description came to: the one asked for, the one with the kernel file, the one with
    modules.
    """

    image: Package
    binary: Package
    modules: Package


def kernels(source: DebianKernel | DebianProgram, packages: Sequence[Package], only: str | None = None) -> list[Kernel]:
    """What the description may come to by the packages of its suites, best first.

    `only` is the one that is wanted, as reports call it. Raises `FetchError` when the best lacks a part of it.
    """
    found: list[Kernel] = []
    for image in fitting(source, packages):
        if only is not None and str(image) != only:
            continue
        if isinstance(source, DebianProgram):
            found.append(Kernel(image, image, image))
            continue
        try:
            # Up to 6.18 linux-image holds kernel and modules; later it is empty and depends on linux-binary and
            # linux-modules.
            found.append(Kernel(image, *(_part(image, part, packages) for part in ("linux-binary-", "linux-modules-"))))
        except FetchError:
            if not found:
                raise
    return found


def _part(image: Package, prefix: str, known: Sequence[Package]) -> Package:
    names = [name for name in image.depends if name.startswith(prefix)]
    if not names:
        return image
    for package in known:
        if package.name == names[0] and (package.version, package.suite) == (image.version, image.suite):
            return package
    raise FetchError(f"{image} depends on {names[0]}, which its suite does not have in that version")


def begins_of(source: DebianKernel | DebianProgram) -> str:
    """How the names begin that are to be read of an index."""
    return re.split(r"[*?\[]", source.package)[0] if isinstance(source, DebianProgram) else "linux-"


def fitting(source: DebianKernel | DebianProgram, packages: Iterable[Package]) -> list[Package]:
    """The packages that the description fits, best first."""
    found = [
        package
        for package in packages
        if fnmatch.fnmatchcase(package.name, source.package)
        and (isinstance(source, DebianProgram) or _is_kernel(package.name))
        and package.version in source.versions
    ]
    return sorted(found, key=lambda package: Version(package.version), reverse=source.choose == "newest")


def _is_kernel(name: str) -> bool:
    return re.match(r"linux-image-\d", name) is not None and not name.endswith(("-dbg", "-unsigned"))


def read_index(path: Path, suite: str, begins: str = "linux-") -> Iterator[Package]:
    """The packages of an index whose names begin so (those of kernels): the others are not parsed, which saves
    seconds."""
    with path.open(encoding="utf-8") as file:
        text = file.read()
    for start in (found.start(1) for found in re.finditer(rf"(?:^|\n\n)(Package: {re.escape(begins)})", text)):
        yield _package(text, start, suite)


def _package(text: str, start: int, suite: str) -> Package:
    """The package whose paragraph begins there."""
    end = text.find("\n\n", start)
    fields = Packages(text[start : end if end >= 0 else None])
    relations = fields.relations
    before, after = (
        tuple(tuple(other["name"] for other in names) for names in relations[kind] or () if names)
        for kind in ("pre-depends", "depends")
    )
    return Package(
        fields["Package"],
        fields["Version"],
        suite,
        fields["Filename"],
        int(fields["Size"]),
        fields["SHA256"],
        tuple(names[0] for names in after),
        before + after,
    )


def with_all_they_need(names: Iterable[str], index: Path, suite: str, but: Container[str] = ()) -> list[Package]:
    """The packages of those names and all that they depend on, but those in `but`; of alternatives the first there is.

    Versions of dependencies are not compared: one suite fits together. Raises `FetchError` for what the suite lacks.
    """
    text = "\n\n" + index.read_text("utf-8")
    found: dict[str, Package] = {}

    def find(name: str) -> Package | None:
        start = text.find(f"\nPackage: {name}\n")
        return _package(text, start + 1, suite) if start >= 0 else None

    def provider(name: str) -> Package | None:
        told = re.search(rf"\nProvides:[^\n]*[ ,]{re.escape(name)}(?=[ ,\n])", text)
        return _package(text, text.rindex("\n\n", 0, told.start()) + 2, suite) if told else None

    todo: list[tuple[str, ...]] = [(name,) for name in names]
    while todo:
        alternatives = todo.pop()
        if any(name in found or name in but for name in alternatives):
            continue
        package = next(filter(None, (look(name) for look in (find, provider) for name in alternatives)), None)
        if package is None:
            raise FetchError(f"{suite} has no package {' or '.join(alternatives)}")
        if package.name not in found:
            found[package.name] = package
            todo += package.needs
        for name in alternatives:
            found.setdefault(name, package)
    return sorted({package.name: package for package in found.values()}.values(), key=lambda package: package.name)
