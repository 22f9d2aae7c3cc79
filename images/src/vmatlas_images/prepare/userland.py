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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from debian.debfile import DebFile

from ..describe.machine import Machine
from ..describe.plan import Plan, plan_of
from ..errors import ImagesError
from ..fetch.cache import Cache
from ..fetch.python import Userland
from .preparing import Entry, Prepared, cached, cpio, write_cd
from .wheels import build_wheels, files_below

HOME = PurePosixPath("/vmatlas")
"""Where all that is ours lies in the guest."""

STEPS = HOME / "steps"
"""A program for each step, by its name, after `install`."""

RESULTS = HOME / "results"
"""NAME.txt is what a step printed, NAME.xml its JUnit file."""

_VENV = HOME / "venv"
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_LEFT_OUT = tuple(f"usr/share/{name}/" for name in ("doc", "info", "lintian", "locale", "man"))
_USERS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/os-release": "ID=debian\nNAME=Debian\n",
}


def with_userland(
    prepared: Prepared, machine: Machine, userland: Userland, agent: Path, cache: Cache, space: Path
) -> Prepared:
    """What QEMU is given, with wheels, tests and steps in the initramfs (with Python) or on the CD, made in `space`.

    It is not kept: it has some 70 MB, and is another one after each change of a test. Raises `ImagesError`.
    """
    plan, limit = plan_of(machine), machine.limits.prepare
    with cache.in_use():
        built = build_wheels(plan.tree, plan.distributions, cache, limit, twins=bool(plan.libraries))
        wheels = (*sorted(built.glob("*.whl")), *userland.wheels)
    if prepared.cd is not None:
        ours = _tar(dict(_own_files(plan, wheels)))
        files = {"agent": Entry(agent.read_bytes(), executable=True), "ours.tar": Entry(ours)}
        write_cd(space / "cd", files)
        return replace(prepared, cd=space / "cd")
    assert prepared.initramfs is not None
    system = cached(
        cache, "userland", list(userland.digests), limit, lambda to: _write(to, cpio(dict(_unpacked(userland.files))))
    )
    own = b"".join(cpio(dict(_own_files(plan, wheels)), devices=False))
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


def _own_files(plan: Plan, wheels: tuple[Path, ...]) -> Iterator[tuple[str, Entry]]:
    for wheel in wheels:
        yield _in_guest(HOME / "wheels" / wheel.name), Entry(wheel.read_bytes())
    for name in plan.files:
        for path in files_below(plan.tree / name, ("__pycache__", "*.pyc", ".*")):
            place = HOME / "tree" / path.relative_to(plan.tree).as_posix()
            yield _in_guest(place), Entry(path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
    yield _in_guest(RESULTS), Entry(folder=True)
    commands = install_commands([wheel.name for wheel in wheels], plan)
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
