"""Installs our wheels as users do, and tries what they are for: in empty environments, from a folder alone.

    python ci/install_test.py FOLDER [--here]

Every Python from the oldest that we have to 3.14, by pip, uv and pipx; the checkout itself, by its folder and its
address; the twins of aarch64, by Debian's Python of that processor under QEMU. A Python that this machine lacks comes
from Debian, into a folder of its own. What others made is brought beforehand, by pip as it is set up here; then no
index is asked. --here: the Python that runs this, by pip. What cannot be had is skipped, with the reason.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lock import TOOLS, environment

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SUITES = ("trixie", "forky", "sid")
"""Of Debian, which has one Python in each."""

OTHERS = ("click", "rich", "pyyaml")
FOR_PIPX = ("pip",)
LIMIT = 600.0
"""Seconds for one step: on a loaded machine, and with a network that is slow."""

TRY = """
import importlib.metadata, sys, vmatlas
from vmatlas import operations, registry
space = vmatlas.snapshot()
assert space.find(id(space)) is not None, "our own memory is in the map"
with operations.map_anonymous(4096) as mapping:
    mapping.buffer[0:5] = b"hello"
broken = [each for group in ("vmatlas.backends", "vmatlas.pages", "vmatlas.systems") for each in registry.broken(group)]
assert not broken, broken
assert importlib.metadata.version("vmatlas") == vmatlas.__version__
print(" ".join(sorted({each.metadata["Name"] for each in importlib.metadata.distributions()})))
"""
"""What everybody does first; prints which distributions there are."""

TWINS = """
import importlib, sys, vmatlas
*names, text = sys.argv[1:]
for name in names:
    assert importlib.import_module(name).__file__.endswith(".abi3.so"), name
with open(text) as file:
    assert len(vmatlas.replay(text)) == len(file.readlines())
print(len(names))
"""
"""Imports twins, and reads a map that was kept by them; prints how many there are."""


class Failed(Exception):
    """Something does not work: what was run, and what it said."""


class Skipped(Exception):
    """What cannot be tried here, and why."""


@dataclass(frozen=True)
class Python:
    """An interpreter, and how what it runs is run."""

    version: str
    path: str
    within: tuple[str, ...] = ()
    """The words before every command: those that enter a Debian of its own."""
    root: Path = Path("/")

    def inside(self, path: Path) -> str:
        """A path as those see it who are in there."""
        return "/" + str(path.relative_to(self.root))


@dataclass
class Trial:
    """What is installed from, and how it went."""

    wheels: Path
    others: Path
    space: Path
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def attempt(self, python: str, how: str, job: Callable[..., str], *given: object) -> None:
        """Do it, and keep how it went."""
        began = time.monotonic()
        try:
            told = job(*given)
            outcome = "passed"
        except Skipped as skipped:
            outcome, told = "SKIPPED", str(skipped)
        except (Failed, OSError) as failed:
            outcome, told = "FAILED", str(failed)
        print(f"{outcome:8} {python:12} {how:8} {time.monotonic() - began:5.1f} s  {told}", flush=True)
        self.rows.append((outcome, python, how))


def run(
    words: Sequence[str | Path], *, given: str = "", set: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """What a command prints. Raises Failed."""
    try:
        done = subprocess.run(
            [str(word) for word in words], input=given, capture_output=True, text=True, timeout=LIMIT,
            env={**_bare(), **(set or {})}, cwd=cwd,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shlex.join(map(str, words))}: not done after {LIMIT:.0f} s") from error
    if done.returncode != 0:
        raise Failed(
            f"{shlex.join(map(str, words))}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def _bare() -> dict[str, str]:
    """The environment without what pip, uv and Python are told by it: no index, no folder, no module of ours."""
    begin = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "PIPX_", "VMATLAS")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(begin)}
    return bare | {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}


def bring(others: Path, names: Sequence[str], version: str, *, processor: str = "") -> None:
    """Wheels of others for a Python, by pip as it is set up here. Raises Failed."""
    words = [sys.executable, "-P", "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
    processor = processor or platform.machine()
    words += ["--python-version", version, "--implementation", "cp"]
    words += [f"--platform={library}_{processor}" for library in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    done = subprocess.run([*words, "-d", others, *names], capture_output=True, text=True, timeout=LIMIT)
    if done.returncode != 0:
        raise Failed(f"pip download {' '.join(names)}: {done.stderr[-2000:]}")


def check(trial: Trial, python: Python, program: Sequence[str], interpreter: Sequence[str]) -> str:
    """Whether what was installed works, from a folder that is not the checkout. Raises Failed."""
    names = run([*interpreter, "-I", "-c", TRY], cwd=trial.space).split()
    missing = {
        "vmatlas",
        "vmatlas-linux-procfs",
        "vmatlas-linux-ioctl",
        "vmatlas-linux-memory",
        "vmatlas-linux-pagemap",
    } - {*names}
    if missing or "vmatlas-qnx" in names:
        raise Failed(f"not those of this system: {names}")
    return _commands(trial, program)


def _commands(trial: Trial, program: Sequence[str]) -> str:
    twins = json.loads(run([*program, "doctor", "--json"], cwd=trial.space))["twins"]
    if wrong := [each for each in twins if not each["compiled"]]:
        raise Failed(f"Python does what a twin should: {wrong}")
    if "/" not in run([*program, "maps", "self"], cwd=trial.space):
        raise Failed("vmatlas maps self: names no file")
    return run([*program, "--version"], cwd=trial.space).strip()


def by_pip(trial: Trial, python: Python, *, its_own: bool = True) -> str:
    """A new environment of venv's, and pip: Python's own, or the one that runs this (half the time)."""
    place = trial.space / f"pip-{python.version}"
    run([*python.within, python.path, "-m", "venv", *([] if its_own else ["--without-pip"]), python.inside(place)])
    interpreter = [*python.within, python.inside(place / "bin" / "python")]
    pip = [*interpreter, "-m", "pip"] if its_own else [sys.executable, "-P", "-m", "pip", "--python", interpreter[-1]]
    run([*pip, "install", "-q", "--no-compile", "--no-index", *_from(trial, python), "vmatlas"])
    run([*pip, "check"])
    told = check(trial, python, [*python.within, python.inside(place / "bin" / "vmatlas")], interpreter)
    if not (place / "share" / "man" / "man1" / "vmatlas.1").is_file():
        raise Failed("there is no manual in share/man")
    if not list(place.glob("lib/python3*/site-packages/vmatlas_linux_ioctl-*.dist-info/licenses/LICENSE")):
        raise Failed("there is no licence with what is installed")
    return told


def by_uv(trial: Trial, python: Python) -> str:
    """A new environment of uv's, then the command alone as a tool."""
    uv = _program(trial, python, "uv")
    place, cache = trial.space / f"uv-{python.version}", trial.space / "uv-cache"
    begin = [*python.within, "env", f"UV_CACHE_DIR={python.inside(cache)}"]
    run([*begin, uv, "venv", "-q", "--python", python.path, python.inside(place)])
    interpreter = python.inside(place / "bin" / "python")
    run([*begin, uv, "pip", "install", "-q", "--no-index", *_from(trial, python), "--python", interpreter, "vmatlas"])
    told = check(
        trial, python, [*python.within, python.inside(place / "bin" / "vmatlas")], [*python.within, interpreter]
    )
    tools, programs = trial.space / f"uv-tools-{python.version}", trial.space / f"uv-bin-{python.version}"
    begin += [f"UV_TOOL_DIR={python.inside(tools)}", f"UV_TOOL_BIN_DIR={python.inside(programs)}"]
    run([*begin, uv, "tool", "install", "-q", "--no-index", *_from(trial, python), "--python", python.path, "vmatlas"])
    _commands(trial, [*python.within, python.inside(programs / "vmatlas")])
    return told


def by_pipx(trial: Trial, python: Python) -> str:
    """The command alone, by pipx. Its own environment needs a pip, which comes from the folder too."""
    if python.within:
        raise Skipped("pipx runs on this machine's own Pythons here")
    home, programs = trial.space / f"pipx-{python.version}", trial.space / f"pipx-bin-{python.version}"
    told = {"PIPX_HOME": str(home), "PIPX_BIN_DIR": str(programs), "PIPX_MAN_DIR": str(home / "man")}
    options = shlex.join(["--no-index", *_from(trial, python)])
    words = [
        environment(TOOLS) / "bin" / "pipx",
        "install",
        "-q",
        "--python",
        python.path,
        f"--pip-args={options}",
        "vmatlas",
    ]
    run(words, set=told)
    return _commands(trial, [str(programs / "vmatlas")])


def _from(trial: Trial, python: Python) -> list[str]:
    return [word for folder in (trial.wheels, trial.others) for word in ("--find-links", python.inside(folder))]


def _program(trial: Trial, python: Python, name: str) -> str:
    """A program of ci/tools.lock as it can be called there."""
    found = environment(TOOLS) / "bin" / name
    if not python.within:
        return str(found)
    shutil.copy(found, trial.space / name)
    return python.inside(trial.space / name)


def installed_pythons() -> Iterator[Python]:
    """Those of this machine, by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in PYTHONS:
        places = [
            sys.executable,
            shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin"),
            *sorted(pyenv.glob(f"versions/{version}.*/bin/python")),
        ]
        for place in filter(None, places):
            ask = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2], sys._base_executable)"
            done = subprocess.run([place, "-I", "-c", ask], capture_output=True, text=True, timeout=LIMIT)
            if done.returncode == 0 and done.stdout.split()[0] == version:
                yield Python(version, done.stdout.split()[1])
                break


def debians_python(version: str, space: Path, processor: str = "x86_64") -> Path:
    """The folder of a Debian with that Python, as far as Python needs one. Raises Skipped."""
    from vmatlas_images.errors import ImagesError
    from vmatlas_images.fetch.archive import Verified, open_archive
    from vmatlas_images.resolve.debian import ARCHITECTURES, with_all_they_need

    if shutil.which("dpkg-deb") is None:
        raise Skipped("there is no dpkg-deb, which unpacks Debian's packages")
    said = []
    for suite in SUITES:
        try:
            archive = Verified(open_archive(processor), processor, space, time.monotonic() + LIMIT, lambda *_: None)
            names = [f"python{version}", f"python{version}-venv", "coreutils", "dash", "ca-certificates"]
            no_need = {"debconf", "debconf-2.0", "dpkg", "perl-base"}
            packages = with_all_they_need(names, archive.index(suite), suite, no_need)
            files = archive.bring(packages)
        except ImagesError as error:
            said.append(f"{suite}: {' '.join(str(error).split())[:100]}")
            continue
        root = space / f"debian-{version}-{ARCHITECTURES[processor]}"
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
        for file in files:
            run(
                ["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', "sh", file, root]
            )
        for name in ("proc", "dev", "tmp", "root", "etc/ssl/certs"):
            (root / name).mkdir(parents=True, exist_ok=True)
        # What ca-certificates' script makes: Debian's pip reads it, though it asks no network.
        known = sorted(root.glob("usr/share/ca-certificates/mozilla/*.crt"))
        (root / "etc/ssl/certs/ca-certificates.crt").write_bytes(b"".join(path.read_bytes() for path in known))
        return root
    raise Skipped(f"neither this machine nor Debian has it ({'; '.join(said)})")


def python_of(version: str, here: dict[str, Python], trial: Trial) -> tuple[Trial, Python]:
    """A Python, and what it installs from as it sees it. Raises Skipped, Failed."""
    if version not in here:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            raise Skipped(
                "not on this machine; Debian's runs in a root folder of its own, which takes root and unshare"
            )
        root = debians_python(version, trial.space)
        shutil.copytree(trial.wheels, root / "wheels")
        shutil.copytree(trial.others, root / "others")
        mount = 'mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"'
        within = ("unshare", "--mount", "sh", "-c", mount, "sh", str(root))
        here[version] = Python(version, f"/usr/bin/python{version}", within, root)
    python = here[version]
    if not python.within:
        return trial, python
    return Trial(python.root / "wheels", python.root / "others", python.root / "tmp", trial.rows), python


def aarch64(trial: Trial) -> str:
    """The twins of the other processor, by Debian's Python of it under QEMU. Raises Skipped, Failed."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        raise Skipped("there is no qemu-aarch64-static (Debian: qemu-user-static)")
    root, place = debians_python("3.13", trial.space, "aarch64"), trial.space / "aarch64"
    modules = []
    for wheel in sorted(trial.wheels.glob("*-abi3-manylinux_*_aarch64.whl")):
        run(["python3", "-m", "zipfile", "-e", wheel, place])
    for file in sorted(place.rglob("*.abi3.so")):
        modules.append(".".join([*file.relative_to(place).parts[:-1], "_native"]))
    text = trial.space / "maps.txt"
    text.write_text(Path("/proc/self/maps").read_text())
    words = [emulator, "-L", root, root / "usr/bin/python3.13", "-I", "-S", "-c"]
    code = f"import sys; sys.path.insert(0, {str(place)!r})\n" + TWINS
    return run([*words, code, *modules, text], cwd=trial.space).strip() + " twins, and a map that they read"


def main() -> int:
    """0: all that could be tried passed. 1: something failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--here", action="store_true", help="the Python that runs this, by pip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmatlas-install-") as folder:
        space = Path(folder)
        trial = Trial(options.wheels.resolve(), space / "others", space)
        trial.others.mkdir()
        if options.here:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            bring(trial.others, OTHERS, version)
            with_ours = functools.partial(by_pip, its_own=False)
            trial.attempt(version, "pip", with_ours, trial, Python(version, sys.executable))
        else:
            _everything(trial)
    counted = {outcome: sum(row[0] == outcome for row in trial.rows) for outcome in ("passed", "FAILED", "SKIPPED")}
    print(f"{counted['passed']} passed, {counted['FAILED']} failed, {counted['SKIPPED']} skipped")
    return 1 if counted["FAILED"] or not counted["passed"] else 0


def _everything(trial: Trial) -> None:
    here = {python.version: python for python in installed_pythons()}
    for version in PYTHONS:
        bring(trial.others, OTHERS, version)
    bring(trial.others, FOR_PIPX, PYTHONS[-1])
    for version in PYTHONS:
        for how, job in (("pip", by_pip), ("uv", by_uv), ("pipx", by_pipx)):
            trial.attempt(version, how, _with, version, here, trial, job)
    trial.attempt("aarch64", "twins", aarch64, trial)


def _with(version: str, here: dict[str, Python], trial: Trial, job: Callable[[Trial, Python], str]) -> str:
    return job(*python_of(version, here, trial))


if __name__ == "__main__":
    sys.exit(main())
