"""Debian's archive: its indices and packages, carried here and verified down from the archive's signature.

The chain is always the same, whoever carries the bytes: InRelease is signed by a key of Debian's archive keyring (gpgv
says so), Packages has the SHA256 that InRelease states, the .deb has the size and SHA256 that Packages states. On hosts
with apt, apt carries them, in a folder of our own: it knows the host's mirrors, proxies and certificates, and a
suite need not be among the host's own sources. Elsewhere they come over HTTP from `VMATLAS_DEBIAN_MIRROR`. Dates are
not checked (Valid-Until): an old kernel from a frozen mirror is as good a test as a new one. This module never
installs anything.

An index may list what the mirror no longer has: it was read from a cache on the way, or the mirror was just being
renewed. So carriers tell a file that is not there (`NotThere`) from all else, and can be told to ask past caches.
"""

from __future__ import annotations

import functools
import lzma
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from debian.deb822 import Release

from ..errors import FetchError, NotRunnable, NotThere, VerificationError
from ..resolve.debian import ARCHITECTURES
from ..resolve.wanted import Package
from . import guarded
from .cache import digest_of
from .download import Progress, download

_KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg",
)
# Names of suites that tell Debian's own archive from others when its address does not.
_SUITES = ("bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable")
_INDEX = "main/binary-{architecture}/Packages"


class Archive(Protocol):
    """Carries files of one Debian mirror here. What it carries is not trusted."""

    mirror: str

    def release(self, suite: str, space: Path, end: float, progress: Progress) -> Path:
        """The suite's InRelease."""

    def index(self, suite: str, release: Release, space: Path, end: float, progress: Progress) -> Path:
        """The suite's Packages, unpacked; `release` is verified."""

    def packages(self, packages: Sequence[Package], space: Path, end: float, progress: Progress) -> list[Path]:
        """The .deb files of packages of one suite, in their order. Raises `NotThere` when the mirror lacks one."""


class AptArchive:
    """apt as the carrier, with a configuration, lists and sources of its own."""

    def __init__(self, mirror: str, architecture: str, keyring: Path, *, anew: bool = False) -> None:
        self.mirror = mirror
        self.architecture = architecture
        self.keyring = keyring
        self.anew = anew

    def release(self, suite: str, space: Path, end: float, progress: Progress) -> Path:
        """Runs `apt-get update` for the suite alone."""
        folder = self._folder(suite, space)
        self._run(folder, ["update"], end, f"{suite}: package lists", progress)
        return self._list(folder, suite, "InRelease")

    def index(self, suite: str, release: Release, space: Path, end: float, progress: Progress) -> Path:
        """What `apt-get update` brought and unpacked."""
        return self._list(self._folder(suite, space), suite, f"{_INDEX.format(architecture=self.architecture)}")

    def packages(self, packages: Sequence[Package], space: Path, end: float, progress: Progress) -> list[Path]:
        """Runs `apt-get download` once for all."""
        folder = self._folder(packages[0].suite, space)
        place = folder / f"{packages[0].name}-{len(packages)}"
        place.mkdir()
        what = packages[0].name if len(packages) == 1 else f"{len(packages)} packages"
        asked = [f"{package.name}={package.version}" for package in packages]
        self._run(folder, ["download", *asked], end, what, progress, place)
        found = []
        for package in packages:
            files = list(place.glob(f"{package.name}_*.deb"))
            if len(files) != 1:
                raise FetchError(f"apt-get download {package.name} left {len(files)} files, not one .deb")
            found.append(files[0])
        return found

    def _folder(self, suite: str, space: Path) -> Path:
        folder = space / f"apt-{suite}"
        if not folder.is_dir():
            for name in ("lists/partial", "archives/partial", "sources"):
                (folder / name).mkdir(parents=True)
            (folder / "sources" / "debian.sources").write_text(
                f"Types: deb\nURIs: {self.mirror}\nSuites: {suite}\nComponents: main\n"
                f"Architectures: {self.architecture}\nSigned-By: {self.keyring}\n"
            )
            (folder / "apt.conf").write_text(self._configuration(folder))
        return folder

    def _configuration(self, folder: Path) -> str:
        """Read last, over the host's own: its proxies hold, its sources, hooks, pins and caches do not."""
        anew = str(self.anew).lower()
        return f"""
#clear APT::Update;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
APT::Architecture "{self.architecture}";
APT::Architectures {{ "{self.architecture}"; }};
APT::Update::Error-Mode "any";
APT::Sandbox::User "";
Dir::State::lists "{folder}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::Contents-deb;
#clear Acquire::Languages;
Acquire::Languages {{ "none"; }};
Acquire::GzipIndexes "false";
Acquire::PDiffs "false";
Acquire::Retries "3";
Acquire::Check-Date "false";
Acquire::Check-Valid-Until "false";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::http::No-Cache "{anew}";
Acquire::https::No-Cache "{anew}";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
APT::Get::AllowUnauthenticated "false";
"""

    def _run(
        self, folder: Path, words: list[str], end: float, what: str, progress: Progress, cwd: Path | None = None
    ) -> None:
        progress(what, 0, None)
        status, output = guarded.run(
            ["apt-get", "-q", "-c", folder / "apt.conf", *words],
            max(1.0, end - time.monotonic()),
            cwd=cwd or folder,
            environment={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if status == 0:
            return
        lines = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))] or output.splitlines()
        said = " ".join(line.strip() for line in lines[:4]) or "nothing"
        if status is None:
            raise FetchError(f"{what}: apt-get {words[0]} from {self.mirror} was not through within its time limit")
        if re.search(r"NO_PUBKEY|BADSIG|signature|not signed|Hash Sum mismatch|GPG error", output):
            raise VerificationError(f"{what}: apt refuses what {self.mirror} gives: {said}")
        # apt's own words (LC_ALL=C) for HTTP's status and for a file: URL; lists have further places to come from.
        gone = words[0] == "download" and re.search(r"\b(404 +Not Found|410 +Gone|File not found)\b", output)
        raise (NotThere if gone else FetchError)(f"{what}: apt-get {words[0]} from {self.mirror} failed: {said}")

    def _list(self, folder: Path, suite: str, name: str) -> Path:
        """apt names a list by its URL; ours holds one suite, so the end of the name is enough."""
        found = list((folder / "lists").glob(f"*_{name.replace('/', '_')}"))
        if len(found) != 1:
            raise FetchError(f"{suite}: apt brought {len(found)} files {name} from {self.mirror}, not one")
        return found[0]


_LARGEST_INDEX = 1 << 29
"""Bytes: ten times what an index of Debian has."""


class HttpArchive:
    """Plain downloads, for hosts that have no apt."""

    def __init__(self, mirror: str, architecture: str, *, anew: bool = False) -> None:
        self.mirror = mirror.rstrip("/")
        self.architecture = architecture
        self.anew = anew

    def release(self, suite: str, space: Path, end: float, progress: Progress) -> Path:
        """Fetches InRelease, of at most 4 MiB."""
        place = space / f"{suite}-InRelease"
        self._get(f"dists/{suite}/InRelease", place, end, progress, 4 << 20, f"{suite}: InRelease")
        return place

    def index(self, suite: str, release: Release, space: Path, end: float, progress: Progress) -> Path:
        """Fetches Packages.xz, checks it before it is unpacked."""
        packed_name = _INDEX.format(architecture=self.architecture) + ".xz"
        digest, size = _stated(release, packed_name, self.mirror)
        folder, name = packed_name.rsplit("/", 1)
        by_hash = release.get("Acquire-By-Hash") == "yes"
        url = f"dists/{suite}/{folder}/by-hash/SHA256/{digest}" if by_hash else f"dists/{suite}/{folder}/{name}"
        packed, plain = space / f"{suite}-Packages.xz", space / f"{suite}-Packages"
        self._get(url, packed, end, progress, size, f"{suite}: Packages")
        _check(packed, digest, size, f"{self.mirror}/{url}")
        with lzma.open(packed) as source, plain.open("wb") as target:
            while piece := source.read(1 << 20):
                if target.tell() > _LARGEST_INDEX:
                    raise FetchError(f"{self.mirror}/{url}: unpacks to more than {_LARGEST_INDEX:,} bytes")
                target.write(piece)
        return plain

    def packages(self, packages: Sequence[Package], space: Path, end: float, progress: Progress) -> list[Path]:
        """Fetches one after the other, each of at most the stated size."""
        places = [space / package.path.rsplit("/", 1)[-1] for package in packages]
        for package, place in zip(packages, places, strict=True):
            self._get(package.path, place, end, progress, package.size, package.name)
        return places

    def _get(self, path: str, place: Path, end: float, progress: Progress, most: int, what: str) -> None:
        limit = max(1.0, end - time.monotonic())
        url = f"{self.mirror}/{path}"
        download(url, place, limit=limit, progress=progress, most=most, what=what, anew=self.anew)


def open_archive(processor: str, *, anew: bool = False, mirror: str = "") -> Archive:
    """The archive that this host reaches: by apt, or plain HTTP where there is no apt-get. Raises `NotRunnable`.

    `mirror` is one of `configured_mirrors`, else the first. With `anew`, caches on the way to it are asked to give way.
    """
    architecture = ARCHITECTURES[processor]
    mirror = mirror or configured_mirrors()[0]
    if shutil.which("apt-get") is not None:
        return AptArchive(mirror, architecture, keyring(), anew=anew)
    return HttpArchive(mirror, architecture, anew=anew)


def configured_mirrors() -> tuple[str, ...]:
    """Those that `VMATLAS_DEBIAN_MIRROR` names, in the order in which they are asked, or the Debian mirror in this
    host's apt sources, as apt itself reads them. Raises `NotRunnable` where none is known.
    """
    if named := os.environ.get("VMATLAS_DEBIAN_MIRROR", "").split():
        return tuple(dict.fromkeys(named))
    candidates = _apt_mirrors(os.environ.get("PATH"), os.environ.get("APT_CONFIG"))
    if not candidates:
        raise NotRunnable(
            "no Debian mirror is known: this host's apt sources name none",
            hint="VMATLAS_DEBIAN_MIRROR=URL names one (the folder that holds dists/ and pool/)",
        )
    return candidates[:1]


@functools.cache
def _apt_mirrors(path: str | None, configuration: str | None) -> tuple[str, ...]:
    """The Debian mirrors in apt's sources. Asked once for each environment that apt depends on."""
    if shutil.which("apt-get") is None:
        return ()
    status, output = guarded.run(["apt-get", "--print-uris", "update"], 30)
    if status != 0:
        raise NotRunnable(f"apt-get cannot read this host's sources: {' '.join(output.split())[:300]}")
    candidates = []
    for mirror, suite in re.findall(r"^'(\S+)/dists/(\S+)/InRelease'", output, re.MULTILINE):
        named_so = re.search(r"/debian(\.list|/\d{8}T\d{6}Z)?$", mirror) is not None
        if "security" not in suite and (named_so or suite in _SUITES):
            candidates.append(mirror)
    return tuple(candidates)


def keyring() -> Path:
    """`VMATLAS_DEBIAN_KEYRING`, or Debian's archive keyring where its package puts it."""
    named = os.environ.get("VMATLAS_DEBIAN_KEYRING")
    for name in (named,) if named else _KEYRINGS:
        if Path(name).is_file():
            return Path(name).absolute()
    raise NotRunnable(
        f"no keyring of Debian's archive{f' at {named}' if named else ''}: signatures cannot be verified",
        hint="apt-get install debian-archive-keyring, or VMATLAS_DEBIAN_KEYRING=FILE (a binary keyring)",
    )


_VERIFIED_WITHIN = 60.0
"""Seconds."""
_SAID = 64
"""Blocks of 512 bytes that gpgv may say."""


def verified_release(inrelease: Path, suite: str, mirror: str) -> Release:
    """The signed part of an InRelease, once gpgv has found a good signature of the keyring on it and it is that
    suite's.
    """
    gpgv = shutil.which("gpgv")
    if gpgv is None:
        raise NotRunnable("gpgv is missing: signatures cannot be verified", hint="apt-get install gpgv")
    signed = inrelease.with_name(inrelease.name + ".signed")
    # What is signed is part of the file. What is packed within it may unpack to anything, before gpgv has an opinion.
    blocks = inrelease.stat().st_size // 512 + _SAID
    status, output = guarded.run(
        [
            "sh",
            "-c",
            f'ulimit -f {blocks} && exec "$@"',
            "sh",
            gpgv,
            "--keyring",
            keyring(),
            "--output",
            signed,
            inrelease,
        ],
        _VERIFIED_WITHIN,
        environment={**os.environ, "LC_ALL": "C"},
    )
    if status is None:
        raise FetchError(f"{mirror}: InRelease of {suite}: in {_VERIFIED_WITHIN:.0f} s its signature was not verified")
    if status != 0 or not signed.is_file():
        said = " ".join(line.removeprefix("gpgv: ") for line in output[:2000].split("\n"))
        raise VerificationError(f"{mirror}: InRelease of {suite} has no good signature of {keyring()}: {said}")
    with signed.open("rb") as file:
        release = Release(file)
    names = (release.get("Suite"), release.get("Codename"))
    if release.get("Origin") not in ("Debian", "Debian Backports") or suite not in names:
        raise VerificationError(
            f"{mirror}: asked for Debian's {suite}, got {release.get('Origin')} {release.get('Suite')} "
            f"({release.get('Codename')}): well signed, but another suite"
        )
    return release


class Verified:
    """An archive of which nothing is taken that is not verified; `space` is where half-made things may stand."""

    def __init__(self, archive: Archive, processor: str, space: Path, end: float, progress: Progress) -> None:
        self._archive = archive
        self._architecture = ARCHITECTURES[processor]
        self._space, self._end, self._progress = space, end, progress

    def index(self, suite: str) -> Path:
        """The suite's Packages, as the archive stands now, down from its signature."""
        inrelease = self._archive.release(suite, self._space, self._end, self._progress)
        release = verified_release(inrelease, suite, self._archive.mirror)
        index = self._archive.index(suite, release, self._space, self._end, self._progress)
        name = _INDEX.format(architecture=self._architecture)
        digest, size = _stated(release, name, self._archive.mirror)
        _check(index, digest, size, f"{self._archive.mirror}/dists/{suite}/{name}")
        return index

    def bring(self, packages: Sequence[Package]) -> list[Path]:
        """The .deb files of packages of one suite, each with the size and the SHA256 that the index states."""
        paths = self._archive.packages(packages, self._space, self._end, self._progress) if packages else []
        for package, path in zip(packages, paths, strict=True):
            _check(path, package.sha256, package.size, f"{self._archive.mirror}/{package.path}")
        return paths


def _stated(release: Release, name: str, mirror: str) -> tuple[str, int]:
    for entry in release.get("SHA256") or []:
        if entry["name"] == name:
            return entry["sha256"], int(entry["size"])
    raise FetchError(f"{mirror}: InRelease of {release.get('Suite')} does not list {name} (no such architecture?)")


def _check(path: Path, digest: str, size: int, origin: str) -> None:
    found = path.stat().st_size
    if found != size:
        raise VerificationError(f"{origin}: {found} bytes, should be {size}")
    if digest_of(path) != digest:
        raise VerificationError(f"{origin}: sha256 is {digest_of(path)}, should be {digest}")
