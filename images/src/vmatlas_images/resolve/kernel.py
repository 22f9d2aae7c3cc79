"""What a machine's source comes to: the kernel or disk, as a list of files.

A kernel package is resolved anew once a day; in between, and with VMATLAS_OFFLINE, what it was last resolved to is
wanted, and the result says so. With VMATLAS_LOCKED it is what the lock file holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from ..describe.machine import DebianKernel, DebianProgram, Download, LocalFile, Machine
from ..errors import FetchError, NotRunnable, VerificationError
from .checksums import read_checksums
from .debian import ARCHITECTURES, Kernel, begins_of, kernels, read_index
from .local import local_disk, local_path
from .lock import LockedKernel, locked
from .offline import is_offline, refuse_offline
from .wanted import Before, Catalogue, Choice, File, Package, Question, Wanted

FRESH = 24 * 3600  # seconds for which a resolved package or a checksum file is not asked for again


def resolve(machine: Machine, catalogue: Catalogue, *, refresh: bool = False) -> Wanted:
    """The list of what the machine's source comes to; with `refresh`, anew, be it as fresh as it may.

    Raises `FetchError`, `VerificationError` or `NotRunnable`.
    """
    source = machine.source
    if isinstance(source, LocalFile):
        return _own(machine, source)
    if isinstance(source, Download):
        return _url(source, catalogue, refresh)
    if (kernel := locked(machine)) is not None:
        return _locked(machine, source, kernel, catalogue)
    return _debian(machine, source, catalogue, refresh)


def is_known(machine: Machine, catalogue: Catalogue) -> bool:
    """Whether that could be told, and had, with nobody asked."""
    source = machine.source
    try:
        if isinstance(source, LocalFile):
            return local_path(machine, source).is_file()
        if isinstance(source, Download):
            return _known_url(source, catalogue) is not None
        return catalogue.before(_question(machine, source), len(_parts(source))) is not None
    except NotRunnable:
        return False


def _question(machine: Machine, source: DebianKernel | DebianProgram) -> Question:
    """Two machines that come to the same ask the same."""
    asked = source.model_dump(mode="json", exclude={"modules", "program"})
    return Question("debian", (machine.processor, asked, _parts(source)))


def _own(machine: Machine, source: LocalFile) -> Wanted:
    path = local_path(machine, source)
    disk = local_disk(machine)  # what is missing is said before anything is prepared
    beside = () if disk is None else (File("", disk),)
    return Wanted((Choice(str(path), (File(source.sha256 or "", path), *beside)),))


def _debian(machine: Machine, source: DebianKernel | DebianProgram, catalogue: Catalogue, refresh: bool) -> Wanted:
    question = _question(machine, source)
    before = catalogue.before(question, len(_parts(source)))
    if before is not None and (is_offline() or (before.age < FRESH and not refresh)):
        return Wanted((before.choice,))
    refuse_offline(f"the kernel package {source.package} of {', '.join(source.suites)}")
    try:
        choices = _choices(machine, source, catalogue)
    except VerificationError:
        raise
    except FetchError as error:
        if before is None:
            raise
        return Wanted((before.choice,), (before.not_anew(error.message),))
    return Wanted(choices, before=before, answers=question)


def _locked(
    machine: Machine, source: DebianKernel | DebianProgram, kernel: LockedKernel, catalogue: Catalogue
) -> Wanted:
    """The very packages of the lock file."""
    here = Choice(kernel.package, tuple(File(digest) for digest in kernel.sha256), kernel.release)
    if catalogue.holds(here.files):
        return Wanted((here,))
    refuse_offline(kernel.package)
    try:
        (choice,) = _choices(machine, source, catalogue, only=kernel.package)[:1]
    except VerificationError:
        raise
    except FetchError as error:
        raise kernel.gone(error.message) from error
    digests = tuple(file.digest for file in choice.files)
    if digests != kernel.sha256:
        told = ", ".join(digests)
        raise VerificationError(f"{kernel.package} has the digests {told}, and others in the lock file")
    return Wanted((choice,), locked=kernel)


def _choices(
    machine: Machine, source: DebianKernel | DebianProgram, catalogue: Catalogue, only: str | None = None
) -> tuple[Choice, ...]:
    """What the mirror lists that fits, best first; at least one. Raises `FetchError`."""
    known = [
        package for suite in source.suites for package in read_index(catalogue.index(suite), suite, begins_of(source))
    ]
    found = kernels(source, known, only)
    if not found and only is not None:
        raise FetchError(f"{catalogue.mirror} does not list it")
    if not found:
        raise FetchError(
            f"no package {source.package} with version {source.versions} in {', '.join(source.suites)} "
            f"({ARCHITECTURES[machine.processor]}) of {catalogue.mirror}",
            hint="old kernels leave a suite: widen at_least and below, or name another suite",
        )
    return tuple(_choice(kernel, _parts(source)) for kernel in found)


def _choice(kernel: Kernel, parts: Sequence[str]) -> Choice:
    packages: list[Package] = [getattr(kernel, part) for part in parts]
    return Choice(str(kernel.image), tuple(File(package.sha256, package) for package in packages), kernel.image.version)


def _parts(source: DebianKernel | DebianProgram) -> tuple[str, ...]:
    """Which of a kernel's packages are needed: modules may come in one of their own."""
    return ("binary", "modules") if isinstance(source, DebianKernel) and source.modules else ("binary",)


def _known_url(source: Download, catalogue: Catalogue) -> Before | None:
    """A download that is here, and the age of what told its digest."""
    if source.checksum_file is None:
        choice = _at_url(source, _stated(source))
        return Before(choice, 0.0) if catalogue.holds(choice.files) else None
    told = catalogue.before(_of_checksum(source))
    return None if told is None else Before(_at_url(source, told.choice.files[0]), told.age)


def _of_checksum(source: Download) -> Question:
    return Question("checksum", (source.url, source.checksum_file), of_mirror=False)


def _stated(source: Download) -> File:
    """By the description."""
    return File(source.sha256) if source.sha256 else File(source.sha512 or "", None, "sha512")


def _at_url(source: Download, file: File) -> Choice:
    return Choice(source.url.rsplit("/", 1)[-1], (replace(file, place=source.url),))


def _url(source: Download, catalogue: Catalogue, refresh: bool) -> Wanted:
    """By the digest that the description or the publisher's checksum file states."""
    known = _known_url(source, catalogue)
    is_stale = known is not None and known.age > FRESH and not is_offline()
    if known is not None and not is_stale and not (refresh and source.checksum_file):
        return Wanted((known.choice,))
    refuse_offline(source.url)
    if source.checksum_file is None:
        return Wanted((_at_url(source, _stated(source)),))
    name = urlsplit(source.url).path.rsplit("/", 1)[-1]
    try:
        algorithm, digest = read_checksums(catalogue.checksums(source.checksum_file), name, source.checksum_file)
    except VerificationError:
        raise
    except FetchError as error:
        if known is None:
            raise
        note = f"checksum file read {known.age / 3600:.0f} h ago, and not anew: {error.message}"
        return Wanted((known.choice,), (note,))
    file = File(digest, source.url, algorithm)
    return Wanted((_at_url(source, file),), learned=(_of_checksum(source), file))
