"""Python for a guest: Debian's packages in an archive for the initramfs, or none of them; with wheels, tests and steps.

Nothing of Debian's is run here: no maintainer script, no ldconfig; what those would have made and Python needs is made
by hand (a merged /usr, two users). The archive of the packages is cached by their digests. What our own files come to
is laid behind it: the kernel unpacks archives one after the other. Where Python comes from elsewhere, what is ours
lies on the CD as `ours.tar`, which the machine's dialogue unpacks.
"""

from __future__ import annotations

import io
import shlex
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from debian.debfile import DebFile

from .archive import Package, Resolver, open_archive
from .cache import Cache, key_of
from .download import Progress, is_offline, quiet
from .errors import FetchError, ImagesError, NotRunnable, NotThere, VerificationError
from .machine import Machine, version_numbers
from .plan import Plan, plan_of
from .prepare import Entry, Prepared, cached, cpio, write_cd
from .sources import FRESH
from .wheels import are_wheels_here, bring_wheels, build_wheels, files_below

HOME = PurePosixPath("/vmatlas")
"""Where all that is ours lies in the guest."""

STEPS = HOME / "steps"
"""A program for each step, by its name, after `install`."""

RESULTS = HOME / "results"
"""NAME.txt is what a step printed, NAME.xml its JUnit file."""

_VENV = HOME / "venv"
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Asked for by maintainer scripts, of which none is run.
_FOR_SCRIPTS = frozenset({"debconf", "debconf-2.0", "dpkg", "init-system-helpers", "install-info", "perl-base"})
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_LEFT_OUT = tuple(f"usr/share/{name}/" for name in ("doc", "info", "lintian", "locale", "man"))
_USERS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/os-release": "ID=debian\nNAME=Debian\n",
}


@dataclass(frozen=True)
class Userland:
    """What a machine's Python comes to: the packages, their files, the wheels."""

    python: str  # the version of Debian's package python3.N-minimal ("3.11.2-6+deb12u8"), or what is asked for
    digests: tuple[str, ...]
    files: tuple[Path, ...]
    wheels: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def fetch_userland(machine: Machine, cache: Cache, *, progress: Progress = quiet) -> Userland:
    """Brings the packages, verified, and the wheels. Raises `FetchError`, `VerificationError` or `NotRunnable`."""
    assert machine.python is not None
    plan = plan_of(machine)
    end = time.monotonic() + machine.limits.fetch
    suite = machine.python.suite
    if suite is None:
        with cache.in_use():
            version = _asked_for(machine)
            return Userland(version, (), (), _wheels(machine, plan, version, cache, end, progress))
    name = _record_name(machine, plan)
    with cache.lock(name, limit=machine.limits.fetch), cache.in_use():
        recalled = _recalled(name, cache)
        notes: tuple[str, ...] = ()
        if recalled is None or (recalled[2] > FRESH and not is_offline()):
            try:
                _resolve(machine, suite, plan, cache, name, end, progress)
            except VerificationError:
                raise
            except (FetchError, NotRunnable) as error:
                if recalled is None:
                    raise
                notes = (f"Python's packages as resolved {recalled[2] / 3600:.0f} h ago, not anew: {error.message}",)
            else:
                recalled = _recalled(name, cache)
        if recalled is None:
            raise FetchError(f"the packages of {suite} were fetched and are not in the cache {cache.root}")
        version, digests, _ = recalled
        if version not in machine.python.version:
            raise FetchError(f"{suite} has Python {version}; the description wants {machine.python.version}")
        wheels = _wheels(machine, plan, version, cache, end, progress)
    files = tuple(cache.file("sha256", digest) for digest in digests)
    return Userland(version, digests, files, wheels, notes)


def _wheels(
    machine: Machine, plan: Plan, version: str, cache: Cache, end: float, progress: Progress
) -> tuple[Path, ...]:
    """Ours, then those that are required."""
    limit = max(1.0, end - time.monotonic())
    folders = (
        build_wheels(plan.tree, plan.distributions, cache, limit, twins=bool(plan.libraries)),
        bring_wheels(plan.requirements, _short(version), _platforms(machine, plan), cache, limit, progress),
    )
    return tuple(path for folder in folders for path in sorted(folder.glob("*.whl")))


def _platforms(machine: Machine, plan: Plan) -> list[str]:
    return [f"{library}_{machine.processor}" for library in plan.libraries]


def _asked_for(machine: Machine) -> str:
    assert machine.python is not None and machine.python.version.at_least is not None
    return machine.python.version.at_least


def is_userland_cached(machine: Machine, cache: Cache) -> bool:
    """Whether a machine's Python and the wheels it needs are here. Raises `NotRunnable` where its plan is not."""
    plan = plan_of(machine)
    assert machine.python is not None
    if machine.python.suite is None:
        version = _asked_for(machine)
    elif (recalled := _recalled(_record_name(machine, plan), cache)) is not None:
        version = recalled[0]
    else:
        return False
    return are_wheels_here(plan.requirements, _short(version), _platforms(machine, plan), cache)


def _record_name(machine: Machine, plan: Plan) -> str:
    assert machine.python is not None
    return "python-" + key_of(machine.processor, machine.python.suite, list(plan.packages))


def _short(version: str) -> str:
    """3.11 of 3.11.2-6+deb12u8."""
    return ".".join(map(str, version_numbers(version)[:2]))


def _recalled(name: str, cache: Cache) -> tuple[str, tuple[str, ...], float] | None:
    found = cache.record(name)
    if found is None or not {"version", "digests"} <= found[0].keys():
        return None
    digests = tuple(found[0]["digests"].split())
    if not all(cache.has("sha256", digest) for digest in digests):
        return None
    return found[0]["version"], digests, found[1]


def _resolve(machine: Machine, suite: str, plan: Plan, cache: Cache, name: str, end: float, progress: Progress) -> None:
    try:
        _resolve_by(machine, suite, plan, cache, name, end, progress, anew=False)
    except NotThere:  # the index may be an old one, out of a cache on the way
        _resolve_by(machine, suite, plan, cache, name, end, progress, anew=True)


def _resolve_by(
    machine: Machine,
    suite: str,
    plan: Plan,
    cache: Cache,
    name: str,
    end: float,
    progress: Progress,
    *,
    anew: bool,
) -> None:
    with cache.workspace() as space:
        resolver = Resolver(open_archive(machine.processor, anew=anew), machine.processor, space, end, progress)
        packages = resolver.with_all_they_need(plan.packages, suite, _FOR_SCRIPTS)
        missing = [package for package in packages if not cache.has("sha256", package.sha256)]
        for package, path in zip(missing, resolver.bring(missing), strict=True):
            cache.add(path, "sha256", package.sha256, origin=package.name)
        digests = " ".join(package.sha256 for package in packages)
        cache.write_record(name, {"version": _python_of(packages, suite), "digests": digests})


def _python_of(packages: list[Package], suite: str) -> str:
    """The interpreter's own version: python3.11-minimal's, since python3's may be a release behind."""
    for package in packages:
        if package.name.startswith("python3.") and package.name.endswith("-minimal"):
            return package.version
    raise FetchError(f"no package python3.N-minimal of {suite} is among those that the plan asks for")


def with_userland(
    prepared: Prepared, machine: Machine, userland: Userland, agent: Path, cache: Cache, space: Path
) -> Prepared:
    """What QEMU is given, with wheels, tests and steps in the initramfs (with Python) or on the CD, made in `space`.

    It is not kept: it has some 70 MB, and is another one after each change of a test. Raises `ImagesError`.
    """
    plan = plan_of(machine)
    if prepared.cd is not None:
        ours = _tar(dict(_own_files(plan, userland)))
        files = {"agent": Entry(agent.read_bytes(), executable=True), "ours.tar": Entry(ours)}
        write_cd(space / "cd", files)
        return replace(prepared, cd=space / "cd")
    assert prepared.initramfs is not None
    limit = machine.limits.prepare
    system = cached(
        cache, "userland", list(userland.digests), limit, lambda to: _write(to, cpio(dict(_unpacked(userland.files))))
    )
    own = b"".join(cpio(dict(_own_files(plan, userland)), devices=False))
    whole = space / "initramfs"
    _write(whole, iter((system.read_bytes(), own, prepared.initramfs.read_bytes())))
    return Prepared(kernel=prepared.kernel, initramfs=whole)


def _tar(files: dict[str, Entry]) -> bytes:
    """An archive of files and folders; whoever unpacks it makes the folders that only a path names."""
    place = io.BytesIO()
    with tarfile.open(fileobj=place, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, entry in files.items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if entry.folder else tarfile.REGTYPE
            member.mode = 0o755 if entry.folder or entry.executable else 0o644
            member.size = len(entry.content)
            archive.addfile(member, io.BytesIO(entry.content))
    return place.getvalue()


def _write(to: Path, pieces: Iterator[bytes]) -> None:
    with to.open("wb") as file:
        for piece in pieces:
            file.write(piece)


def _unpacked(packages: tuple[Path, ...]) -> Iterator[tuple[str, Entry]]:
    """The files of packages as they lie on a system with a merged /usr."""
    for name in _MERGED:
        yield name, Entry(f"usr/{name}".encode(), link=True)
        yield f"usr/{name}", Entry(folder=True)
    for name, text in _USERS.items():
        yield name, Entry(text.encode())
    for name in ("root", "var/tmp", "run"):
        yield name, Entry(folder=True)
    for package in packages:
        try:
            archive = DebFile(package).data.tgz()
            for member in archive:
                name = _merged(member.name)
                if name not in _MERGED and not name.startswith(_LEFT_OUT):
                    yield from ((name, entry) for entry in _entry(archive, member))
        except (OSError, EOFError, tarfile.TarError) as error:
            raise ImagesError(f"{package}: is no Debian package that can be read: {error}") from error


def _merged(name: str) -> str:
    name = name.removeprefix("./").rstrip("/")
    return f"usr/{name}" if name.split("/")[0] in _MERGED and "/" in name else name


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[Entry]:
    if member.issym():
        yield Entry(member.linkname.encode(), link=True)
    elif member.isfile() or member.islnk():
        source = archive.extractfile(member)
        assert source is not None
        yield Entry(source.read(), executable=bool(member.mode & 0o111))


def _own_files(plan: Plan, userland: Userland) -> Iterator[tuple[str, Entry]]:
    for wheel in userland.wheels:
        yield _in_guest(HOME / "wheels" / wheel.name), Entry(wheel.read_bytes())
    for name in plan.files:
        for path in files_below(plan.tree / name, ("__pycache__", "*.pyc", ".*")):
            place = HOME / "tree" / path.relative_to(plan.tree).as_posix()
            yield _in_guest(place), Entry(path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
    yield _in_guest(RESULTS), Entry(folder=True)
    commands = install_commands([wheel.name for wheel in userland.wheels], plan)
    yield _in_guest(STEPS / "install"), _program("install", commands)
    for step in plan.steps:
        words = [str(_VENV / "bin/python"), *step.words, f"--junit-xml={RESULTS / step.name}.xml"]
        yield _in_guest(STEPS / step.name), _program(step.name, f"cd {HOME / 'tree'}\nexec {shlex.join(words)}\n")


def install_commands(wheels: list[str], plan: Plan) -> str:
    """What the guest's shell is to do: the plan's lines, which find the environment's place and pip's words given.

    Every wheel that was brought, and nothing besides: what ours requires and the plan leaves out is not needed there.
    """
    place = HOME / "wheels"
    words = ["install", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--progress-bar=off"]
    lines = "\n".join(plan.install)
    return (
        f"set -e\nVENV={_VENV} WHEELS={place}\n"
        f"set -- {shlex.join([*words, *(f'{place}/{name}' for name in wheels)])}\n"
        f"{lines}\n"
        "$VENV/bin/python -c 'import platform; print(\"Python\", platform.python_version())'\n"
    )


def _in_guest(path: PurePosixPath) -> str:
    return str(path).removeprefix("/")


def _program(name: str, commands: str) -> Entry:
    """A program of the guest's shell that says all it has to say in a file of results."""
    head = f"#!/bin/sh\nexec >{RESULTS / name}.txt 2>&1 </dev/null\nexport PATH={_PATH} HOME=/root LC_ALL=C.UTF-8\n"
    return Entry((head + commands).encode(), executable=True)
