"""Wheels and source distributions of all that is ours, and what tells of them: dist/.

    python ci/wheels.py [FOLDER] [--here] [--url URL]

Each distribution as a wheel of Python alone; each with a compiled twin once for every C library and processor below, by
ziglang, so that no container and no other machine is needed. Agents are in the wheel as they are built (`invoke wheels`
builds all of them before). A wheel is looked at before it counts: it holds its twins, they run where its name says,
they keep to the limited API. Beside the wheels: a bill of materials, what they were made of, and a digest of each file.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from lock import ROOT, TOOLS, distributions, environment, tool

TARGETS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
}
"""What a wheel is named, and what ziglang names the machine."""

BILL, MADE, DIGESTS = "vmatlas.cdx.json", "vmatlas.intoto.json", "SHA256SUMS"
LEFT = ("vmatlas*", f"{DIGESTS}*", "attestation.intoto.jsonl")
"""What a build before this one left in the folder, and what others made of it."""

_MADE = shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__", ".*")
_BUILD = (
    "import json, sys; from setuptools import build_meta as hooks;"
    " getattr(hooks, sys.argv[1])(sys.argv[2], json.loads(sys.argv[3]))"
)
_TAG = re.compile(r"(manylinux|musllinux)_(\d+)_(\d+)_(.+)")
_TRIPLETS = ("x86_64-linux-gnu", "aarch64-linux-gnu")


_RELATIVE = re.compile(r"(?<![\w\]`])\[(?P<words>[^][]+)\]\((?P<where>(?![a-z]+:|#)[^()\s]+)\)")
_IN_NO_ADDRESS = set(' \t\n"<>()[]')
_NOWHERE = (
    "their metadata has no address of the repository, and no link to it: a release is made with --url https://..."
)


class Unfit(Exception):
    """A wheel that is not what its name says."""


def make(output: Path, *, here: bool = False, url: str = "") -> None:
    """Build them in a copy: a source tree is never written to. With `here` those that this machine installs alone.

    Raises CalledProcessError, Unfit.
    """
    output.mkdir(parents=True, exist_ok=True)
    for left in (path for pattern in LEFT for path in output.glob(pattern)):
        left.unlink()
    targets = {name: zig for name, zig in TARGETS.items() if not here or name == f"manylinux_2_17_{platform.machine()}"}
    with tempfile.TemporaryDirectory() as space:
        for folder in distributions():
            copy = Path(space, folder.relative_to(ROOT))
            shutil.copytree(folder, copy, ignore=_MADE, dirs_exist_ok=True)
            _tell_where(copy, folder.relative_to(ROOT).as_posix(), url)
        headers = _headers(Path(space, "headers"))
        for folder in distributions():
            copy = Path(space, folder.relative_to(ROOT))
            twins = _twins(copy)
            if not here:
                _build("build_sdist", copy, output, {})
            if here and not folder.name.startswith(("core", "linux_")):
                continue
            if not here or not (twins and targets):
                _build("build_wheel", copy, output, {"VMATLAS_TWINS": "no"})
            for name, zig in targets.items() if twins else ():
                compiler = f"{sys.executable} -P {ROOT / 'ci' / 'compiler.py'} {zig}"
                made_by = {"CC": compiler, "LDSHARED": f"{compiler} -shared", "VMATLAS_HEADERS": str(headers)}
                _build("build_wheel", copy, output, made_by | {"VMATLAS_TWINS": "must"}, name)
                _check(max(output.glob(f"*-{name}.whl"), key=lambda path: path.stat().st_mtime), twins)
    wheels = sorted(output.glob("vmatlas*.whl"))
    if not here:
        _check_all(wheels)
        tool("python", ROOT / "ci" / "bill.py", output / BILL, _compiler(), *wheels)
        (output / MADE).write_text(json.dumps(_made_of(output, url), indent=2) + "\n", "utf-8")
        (output / DIGESTS).write_text("".join(f"{digest}  {path.name}\n" for path, digest in _digests(output)), "utf-8")
    print(f"{output}: {len(wheels)} wheels, {len(list(output.glob('vmatlas*.tar.gz')))} source distributions")
    print(f"their metadata says that the repository is at {url}" if url else _NOWHERE)


def _build(hook: str, copy: Path, output: Path, given: Mapping[str, str], platform_name: str = "") -> None:
    """Run a hook of setuptools in a copy. What one build left there is not found by the next."""
    for left in [*copy.glob("build"), *copy.glob("**/*.egg-info")]:
        shutil.rmtree(left)
    options = {"--build-option": ["--plat-name", platform_name]} if platform_name else {}
    command = [sys.executable, "-P", "-c", _BUILD, hook, output, json.dumps(options)]
    told = {"SOURCE_DATE_EPOCH": _time(), **os.environ, **given}
    done = subprocess.run(command, cwd=copy, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, [*command[:4], hook, copy.name, platform_name])


def _twins(folder: Path) -> list[str]:
    """The files of a distribution's twins, as they lie in a wheel."""
    told = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["tool"].get("vmatlas", {})
    return [twin["module"].replace(".", "/") + ".abi3.so" for twin in told.get("twin", ())]


def _headers(place: Path) -> Path:
    """What Debian's Python.h includes by its machine's name: for another machine of 64 bits the same will do."""
    for triplet in _TRIPLETS:
        folder = place / triplet / f"python{sys.version_info.major}.{sys.version_info.minor}"
        folder.mkdir(parents=True)
        shutil.copy(sysconfig.get_config_h_filename(), folder / "pyconfig.h")
    return place


def _tell_where(copy: Path, folder: str, url: str) -> None:
    """The addresses in the metadata, and in what an index shows of the README: nobody knows them but a releaser.

    `folder`: of the distribution, in the repository. Without an address a link becomes words: in a README that lies
    elsewhere than in the repository it leads nowhere, or to what is somebody else's. Raises Unfit for one to no file.
    """
    readme = copy / "README.md"
    readme.write_text(_RELATIVE.sub(functools.partial(_led, folder, url), readme.read_text("utf-8")), "utf-8")
    if url:
        told = {"Source": url, "Issues": f"{url}/issues", "Changelog": f"{url}/blob/HEAD/CHANGELOG.md"}
        with (copy / "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write("\n[project.urls]\n" + "".join(f"{name} = {json.dumps(at)}\n" for name, at in told.items()))


def _led(folder: str, url: str, link: re.Match[str]) -> str:
    path, mark, part = link["where"].partition("#")
    path = os.path.normpath(os.path.join(folder, path))
    if not (ROOT / path).exists():
        raise Unfit(f"{folder}/README.md: there is no {link['where']}")
    if url:
        return f"[{link['words']}]({url}/blob/HEAD/{path}{mark}{part})"
    return link["words"] if link["words"].endswith(Path(path).name) else f"{link['words']} (`{path}` in the repository)"


def address(given: str) -> str:
    """An address of a repository, as it stands in metadata. Raises ValueError for what a browser would not open."""
    url = urlsplit(given)
    if url.scheme != "https" or not url.hostname or url.query or url.fragment or set(given) & _IN_NO_ADDRESS:
        raise ValueError(f"{given!r} is not an address such as https://HOST/OWNER/vmatlas")
    return given.rstrip("/")


def _check(wheel: Path, twins: list[str]) -> None:
    """Raises Unfit for one without its twins, or with such for another machine."""
    machine = {"x86_64": 62, "aarch64": 183}[wheel.name.rpartition("_2_")[2].removeprefix("17_").removesuffix(".whl")]
    with zipfile.ZipFile(wheel) as held:
        inside = [name for name in held.namelist() if name.endswith(".so")]
        if sorted(inside) != sorted(twins):
            raise Unfit(f"{wheel.name}: holds {inside or 'no twin'} in place of {twins}")
        for name in inside:
            content = held.read(name)
            if int.from_bytes(content[18:20], "little") != machine:
                raise Unfit(f"{wheel.name}: {name} is for another processor")
            if b".pyenv" in content or os.fsencode(ROOT) in content:
                raise Unfit(f"{wheel.name}: {name} names a folder of this machine")


def _check_all(wheels: list[Path]) -> None:
    """Hold the wheels with twins to what their names say, by those who wrote that down. Raises Unfit."""
    compiled = [wheel for wheel in wheels if "-abi3-" in wheel.name]
    tool("abi3audit", "--strict", *compiled)
    for wheel in compiled:
        # No library of this machine is looked at: its libc.so may be a text for the linker, and is not the one meant.
        words = [environment(TOOLS) / "bin" / "auditwheel", "show", "--json", "--ldpaths", "/nonexistent", wheel]
        told = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        named, found = (_TAG.fullmatch(tag) for tag in (wheel.stem.rpartition("-")[2], told["sym_tag"]))
        fits = named and found and named[1] == found[1] and named[4] == found[4]
        if not fits or (int(found[2]), int(found[3])) > (int(named[2]), int(named[3])):
            raise Unfit(f"{wheel.name}: auditwheel finds it fit for {told['sym_tag']}")
        # musl's loader takes libc.so for itself (ldso/dynlink.c), whatever the file is called.
        if others := set(told["external_libs"]) - ({"libc.so"} if named[1] == "musllinux" else set()):
            raise Unfit(f"{wheel.name}: needs {', '.join(sorted(others))}")


def _digests(output: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(output.glob("vmatlas*")):
        yield path, hashlib.sha256(path.read_bytes()).hexdigest()


def _made_of(output: Path, url: str) -> dict[str, object]:
    """What was made, of what, by what: a statement of in-toto's, with SLSA's predicate (slsa.dev/provenance/v1).

    By whom, and how, it names by addresses, which there are where the repository has one. Raises Unfit where git tells
    no commit: no checkout, or somebody else's.
    """
    try:
        commit, changed = _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unfit(f"git tells no commit of {ROOT}: a release is made of a clone of one's own") from error
    how = f"{url}/blob/{commit}/ci/wheels.py" if url else "ci/wheels.py"
    locks = [ROOT / "tests" / "requirements.lock", TOOLS]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": path.name, "digest": {"sha256": digest}} for path, digest in _digests(output) if path.name != MADE
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": how,
                "externalParameters": {"targets": TARGETS, "changed": changed},
                "internalParameters": {
                    "python": platform.python_version(),
                    "setuptools": version("setuptools"),
                    "ziglang": version("ziglang"),
                },
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": commit}} | ({"uri": f"git+{url}"} if url else {}),
                    *(
                        {
                            "name": lock.relative_to(ROOT).as_posix(),
                            "digest": {"sha256": hashlib.sha256(lock.read_bytes()).hexdigest()},
                        }
                        for lock in locks
                    ),
                ],
            },
            "runDetails": {
                "builder": {"id": how},
                "metadata": {"finishedOn": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
            },
        },
    }


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _time() -> str:
    """Of the last commit: in a wheel, the time of every file."""
    try:
        return _git("log", "-1", "--format=%ct")
    except (OSError, subprocess.CalledProcessError):
        return "315532800"  # the oldest that a zip file knows


def _compiler() -> Path:
    """The folder of ziglang, which says whose C library is in the agents."""
    import ziglang

    return Path(ziglang.__file__).parent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "dist")
    parser.add_argument("--here", action="store_true", help="those alone that this machine installs")
    parser.add_argument("--url", default="", help="where the repository is published")
    options = parser.parse_args()
    try:
        where = options.url and address(options.url)
    except ValueError as error:
        parser.error(f"--url: {error}")
    try:
        make(options.output.resolve(), here=options.here, url=where)
    except Unfit as error:
        sys.exit(str(error))
