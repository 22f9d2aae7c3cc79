"""From a description's source to verified files on this disk: fetch, verify, cache.

A kernel package is resolved anew once a day; in between, and with VMATLAS_OFFLINE, what it was last resolved to is
used, and the result says so. Nothing is returned whose digest was not checked when it came. This module does not
look into the files.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from .archive import Kernel, Package, Resolver, configured_mirror, open_archive
from .cache import Cache, digest_of, key_of
from .download import Progress, download, is_offline, quiet, refuse_offline
from .errors import FetchError, NotRunnable, NotThere, VerificationError
from .lock import LockedKernel, gone, locked
from .machine import DebianKernel, DebianProgram, Download, LocalFile, Machine

FRESH = 24 * 3600  # seconds for which a resolved package or a checksum file is not asked for again
CHECKSUMS_WITHIN = 60.0  # seconds for a checksum file, of some kilobytes: a publisher out of reach is told soon


@dataclass(frozen=True)
class Fetched:
    """What a source came to. `digests` identify the bytes; `says` is what a report shows; `notes` what a user should
    know.
    """

    says: str
    files: tuple[Path, ...]
    digests: tuple[str, ...]
    release: str | None = None  # the package's upstream version, where there is one
    notes: tuple[str, ...] = ()


def fetch(
    machine: Machine, cache: Cache | None = None, *, progress: Progress = quiet, refresh: bool = False
) -> Fetched:
    """Brings what the machine needs, verified. Raises `FetchError`, `VerificationError` or `NotRunnable`."""
    cache = cache or Cache()
    source = machine.source
    try:
        if isinstance(source, LocalFile):
            return _local(machine, source)
        with cache.in_use():
            if isinstance(source, DebianKernel | DebianProgram):
                return _debian(machine, source, cache, progress, refresh)
            return _url(machine, source, cache, progress, refresh)
    except (FetchError, NotRunnable) as error:
        error.located(target=machine.name)
        raise


def is_local(machine: Machine) -> bool:
    """Whether the machine is a file of the user's, which is never downloaded."""
    return isinstance(machine.source, LocalFile)


def local_path(machine: Machine, source: LocalFile) -> Path:
    """The user's file, wherever it is named. Raises `NotRunnable` when it is not named or not there."""
    return _named(machine, source, source.path)


def local_disk(machine: Machine) -> Path | None:
    """The disk of the user's beside a kernel; None when there is none. Raises `NotRunnable` as `local_path` does."""
    source = machine.source
    return _named(machine, source, source.disk) if isinstance(source, LocalFile) and source.disk else None


def _named(machine: Machine, source: LocalFile, name: str) -> Path:
    """Relative to the description that names it, or, where a variable does, to where the user stands who set that."""
    variables = re.findall(r"\$\{?(\w+)", name)
    for variable in variables:
        if not os.environ.get(variable):
            raise NotRunnable(f"{variable} is not set: it names this machine's image", hint=source.obtain)
    folder = Path.cwd() if variables else machine.path.parent
    path = folder / Path(os.path.expandvars(name)).expanduser()
    if not path.is_file():
        raise NotRunnable(f"no image at {path}", hint=source.obtain)
    return path


def is_cached(machine: Machine, cache: Cache) -> bool:
    """Whether the machine could be prepared with no network."""
    source = machine.source
    try:
        if isinstance(source, LocalFile):
            return local_path(machine, source).is_file()
        if isinstance(source, DebianKernel | DebianProgram):
            return _recalled(_record_name(machine, source, _mirror_or_none()), cache, len(_wanted(source))) is not None
        return _known_download(source, cache) is not None
    except NotRunnable:
        return False


def _local(machine: Machine, source: LocalFile) -> Fetched:
    path = local_path(machine, source)
    local_disk(machine)  # what is missing is said before anything is prepared
    digest = digest_of(path)
    if source.sha256 is not None and digest != source.sha256:
        raise VerificationError(f"{path}: sha256 is {digest}, should be {source.sha256}")
    return Fetched(str(path), (path,), (digest,))


def _mirror_or_none() -> str:
    try:
        return configured_mirror()
    except NotRunnable:
        return ""


def _wanted(source: DebianKernel | DebianProgram) -> tuple[str, ...]:
    """Which of a kernel's packages are needed: modules may come in one of their own."""
    return ("binary", "modules") if isinstance(source, DebianKernel) and source.modules else ("binary",)


def _record_name(machine: Machine, source: DebianKernel | DebianProgram, mirror: str) -> str:
    asked = source.model_dump(mode="json", exclude={"modules", "program"})
    return "debian-" + key_of(mirror, machine.processor, asked, _wanted(source))


def _recalled(name: str, cache: Cache, count: int) -> tuple[Fetched, float] | None:
    """What was resolved before and is still here, and its age."""
    found = cache.record(name)
    if found is None:
        return None
    record, age = found
    try:
        digests = tuple(record["digests"].split())
        files = tuple(cache.file("sha256", digest) for digest in digests)
        result = Fetched(record["says"], files, digests, record["release"])
    except KeyError:
        return None
    if len(files) != count or not all(cache.has("sha256", digest) for digest in digests):
        return None
    return result, age


def _debian(
    machine: Machine, source: DebianKernel | DebianProgram, cache: Cache, progress: Progress, refresh: bool
) -> Fetched:
    end = time.monotonic() + machine.limits.fetch
    if (kernel := locked(machine)) is not None:
        return _as_locked(machine, source, kernel, cache, progress, end)
    name = _record_name(machine, source, _mirror_or_none())
    count = len(_wanted(source))
    with cache.lock(name, limit=machine.limits.fetch):
        recalled = _recalled(name, cache, count)
        if recalled is not None and (is_offline() or (recalled[1] < FRESH and not refresh)):
            return recalled[0]
        refuse_offline(f"the kernel package {source.package} of {', '.join(source.suites)}")
        try:
            return _resolved(machine, source, cache, progress, name, end)
        except VerificationError:
            raise
        except FetchError as error:
            if recalled is None:
                raise
            old, age = recalled
            note = f"resolved {age / 3600:.0f} h ago, and not anew: {error.message}"
            return Fetched(old.says, old.files, old.digests, old.release, (note,))


def _as_locked(
    machine: Machine,
    source: DebianKernel | DebianProgram,
    kernel: LockedKernel,
    cache: Cache,
    progress: Progress,
    end: float,
) -> Fetched:
    """The very packages of the lock file, from the cache or the mirror."""
    result = Fetched(
        kernel.package, tuple(cache.file("sha256", each) for each in kernel.sha256), kernel.sha256, kernel.release
    )
    with cache.lock("locked-" + key_of(*kernel.sha256), limit=machine.limits.fetch), cache.workspace() as space:
        if all(cache.has("sha256", digest) for digest in kernel.sha256):
            return result
        refuse_offline(kernel.package)
        try:
            found, _ = _brought(machine, source, cache, progress, space, end, only=kernel.package)
        except VerificationError:
            raise
        except FetchError as error:
            raise gone(kernel, error.message) from error
    digests = tuple(package.sha256 for package in _parts(found, source))
    if digests != kernel.sha256:
        raise VerificationError(f"{kernel.package} has the digests {', '.join(digests)}, and others in the lock file")
    return result


def _resolved(
    machine: Machine, source: DebianKernel | DebianProgram, cache: Cache, progress: Progress, name: str, end: float
) -> Fetched:
    with cache.workspace() as space:
        kernel, absent = _brought(machine, source, cache, progress, space, end)
        digests = [package.sha256 for package in _parts(kernel, source)]
        record = {"says": str(kernel.image), "digests": " ".join(digests), "release": kernel.image.version}
        cache.write_record(name, record)
    recalled = _recalled(name, cache, len(digests))
    if recalled is None:
        raise FetchError(f"{kernel.image} was fetched and is not in the cache {cache.root}: is something removing it?")
    notes = tuple(f"the mirror lists {package} and does not have it: the next in range was taken" for package in absent)
    return replace(recalled[0], notes=notes)


def _parts(kernel: Kernel, source: DebianKernel | DebianProgram) -> list[Package]:
    return [getattr(kernel, part) for part in _wanted(source)]


def _brought(
    machine: Machine,
    source: DebianKernel | DebianProgram,
    cache: Cache,
    progress: Progress,
    space: Path,
    end: float,
    only: str | None = None,
) -> tuple[Kernel, list[Package]]:
    """The first kernel in range that the mirror has, brought into the cache, and those it lists and does not have.

    `only` is the one that is wanted, as reports call it.

    A package that is not there is no verdict on the mirror yet: the index may be an old one. So it is read again, past
    all caches; what that one lists and the mirror lacks as well is passed over. Raises `NotThere` when nothing is left.
    """
    absent: list[Package] = []
    missing: NotThere | None = None
    while True:
        folder = space / f"index-{len(absent)}{'-again' if missing else ''}"
        folder.mkdir()
        archive = open_archive(machine.processor, anew=missing is not None)
        resolver = Resolver(archive, machine.processor, folder, end, progress)
        try:
            kernel = resolver.resolve(source, absent, only)
        except VerificationError:
            raise
        except FetchError as error:
            raise missing if missing is not None and absent else error from None
        try:
            for package in _parts(kernel, source):
                if not cache.has("sha256", package.sha256):
                    cache.add(resolver.bring([package])[0], "sha256", package.sha256, origin=package.name)
            return kernel, absent
        except NotThere as error:
            if missing is not None:
                absent.append(kernel.image)
            missing = error


def _known_download(source: Download, cache: Cache) -> tuple[str, str, float] | None:
    """Algorithm and digest of a download that is here, and the age of what told the digest."""
    algorithm, digest, age = ("sha256", source.sha256, 0.0) if source.sha256 else ("sha512", source.sha512, 0.0)
    if digest is None:
        found = cache.record("checksum-" + key_of(source.url, source.checksum_file))
        if found is None or not {"algorithm", "digest"} <= found[0].keys():
            return None
        algorithm, digest, age = found[0]["algorithm"], found[0]["digest"], found[1]
    return (algorithm, digest, age) if cache.has(algorithm, digest) else None


def _url(machine: Machine, source: Download, cache: Cache, progress: Progress, refresh: bool) -> Fetched:
    end = time.monotonic() + machine.limits.fetch
    with cache.lock("url-" + key_of(source.url), limit=machine.limits.fetch), cache.workspace() as space:
        known = _known_download(source, cache)
        notes: tuple[str, ...] = ()
        if known is None or (known[2] > FRESH and not is_offline()) or (refresh and source.checksum_file):
            refuse_offline(source.url)
            try:
                algorithm, digest = _digest(source, cache, space, end, progress)
            except VerificationError:
                raise
            except FetchError as error:
                if known is None:
                    raise
                algorithm, digest, age = known
                notes = (f"checksum file read {age / 3600:.0f} h ago, and not anew: {error.message}",)
        else:
            algorithm, digest, _ = known
        path = cache.file(algorithm, digest)
        if not cache.has(algorithm, digest):
            download(source.url, space / "file", limit=max(1.0, end - time.monotonic()), progress=progress)
            path = cache.add(space / "file", algorithm, digest, origin=source.url)
        return Fetched(source.url.rsplit("/", 1)[-1], (path,), (digest,), notes=notes)


def _digest(source: Download, cache: Cache, space: Path, end: float, progress: Progress) -> tuple[str, str]:
    """The digest that the description or the publisher's checksum file states."""
    if source.checksum_file is None:
        return ("sha256", source.sha256) if source.sha256 else ("sha512", source.sha512 or "")
    place = space / "checksums"
    limit = min(CHECKSUMS_WITHIN, max(1.0, end - time.monotonic()))
    download(source.checksum_file, place, limit=limit, progress=progress, most=4 << 20)
    name = urlsplit(source.url).path.rsplit("/", 1)[-1]
    algorithm, digest = read_checksums(place.read_text("utf-8", "replace"), name, source.checksum_file)
    record = {"algorithm": algorithm, "digest": digest}
    cache.write_record("checksum-" + key_of(source.url, source.checksum_file), record)
    return algorithm, digest


_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


def _listed(line: str) -> tuple[str, str]:
    """Digest and name in a line as BSD's tools write it, "SHA256 (NAME) = DIGEST", or GNU's, "DIGEST  NAME"."""
    line = line.rstrip()
    if line.startswith(("SHA256 (", "SHA512 (")):
        name, _, digest = line[8:].rpartition(") = ")
        return digest, name
    digest, _, name = line.partition(" ")
    return (digest, name[1:]) if name[:1] in (" ", "*") else ("", "")


def read_checksums(text: str, name: str, origin: str) -> tuple[str, str]:
    """Algorithm and digest of the file `name` in a checksum file, written as BSD or as GNU tools do.

    Raises `VerificationError` when the file is not listed, or listed with two digests.
    """
    found: set[tuple[str, str]] = set()
    for line in text.split("\n"):
        digest, listed = _listed(line)
        if listed.rsplit("/", 1)[-1] == name and len(digest) in (64, 128) and set(digest) <= _HEXADECIMAL:
            found.add(("sha256" if len(digest) == 64 else "sha512", digest.lower()))
    strongest = sorted(found, reverse=True)
    if not strongest:
        raise VerificationError(f"{origin}: lists no SHA256 or SHA512 of {name}")
    if len({algorithm for algorithm, _ in found}) != len(found):
        raise VerificationError(f"{origin}: lists {name} with two different digests")
    return strongest[0]
