"""Fuzzes what eats bytes from outside: `python core/agent/fuzz --minutes 10`.

Five targets: `frames`, the agent's decoder of frames; `requests`, the whole agent on a kernel made up by the fuzzer
(kernel.c); `host`, the host's half (host.py); `files`, what reads the files that processes left, each reader for itself
(files.py); `decoders`, the compiled decoders of the plugins and of core, each by its driver in their tests. Each reader
and each decoder has all of the time that is given. The C runs under the address and
undefined-behaviour sanitizers, the agent's guided by coverage where clang has libFuzzer, otherwise by drive.c; Python
is guided where atheris is installed. What is found is said, its input kept, and the exit code is 1. The corpus of each
target is run first: it holds what was once found and what reaches far.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vmatlas_agents.build import NATIVE, headers, plugin_sources, sources_table
from vmatlas_agents.targets import PORTABLE_SOURCES, SYSTEM_SOURCES

HERE = Path(__file__).parent
TARGETS = ("frames", "requests", "host", "files", "decoders")
IN_PYTHON = ("host", "files")
PARTS = {"files": [[name] for name in ("cores", "minidumps", "texts", "packed", "captures", "symbols", "jit")]}
"""The readers of files.py."""
STREAMS = {"linux_procfs": (["maps"], ["smaps"]), "linux_pagemap": (["scan"], ["entries"])}
"""What a plugin's driver asks to be told first: of which of its streams the bytes are."""
PLATFORMS = HERE.resolve().parents[2] / "platforms"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
COMMON = ("-std=gnu99", "-D_GNU_SOURCE", "-O1", "-g", "-w", *SANITIZERS)
LEFT_OUT = {"main.c", "port.c", "tty.c", "guard.c", "init_linux.c", "dispatch.c", "watch.c"}
"""Of the agent: what is above the loop, what the harness stands in for, and what it includes (the last two)."""
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:handle_abort=0:abort_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
}
"""A finding ends in SIGABRT, on which drive.c keeps the input."""


class Unable(Exception):
    """Fuzzing is not possible here: what is missing, in a line."""


def guided_compiler() -> list[str]:
    """A clang that has libFuzzer; nothing when there is none."""
    names = ["clang", *(f"clang-{version}" for version in range(30, 13, -1))]
    for name in filter(shutil.which, names):
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text("int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return 0; }\n")
            command = [name, "-fsanitize=fuzzer,address", "-o", str(probe.with_suffix("")), str(probe)]
            if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0:
                return [name, "-fsanitize=fuzzer-no-link"]
    return []


def _compile(compiler: Sequence[str], arguments: Sequence[str], source: Path, made: Path, kept: Path | None) -> Path:
    """`kept`: where an object may lie that was compiled before."""
    if kept is not None and kept.is_file():
        return kept
    command = [*compiler, *COMMON, *arguments, f"-I{HERE}", "-c", "-o", str(made), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise Unable(f"{shlex.join(command)}\n{done.stderr}")
    if kept is not None:
        part = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(made, part)
        part.replace(kept)
    return made


def _digest(compiler: Sequence[str], arguments: Sequence[str], source: Path, native: Path) -> str:
    """Of all that an object is made from: what a harness includes, and every header, too."""
    included = [native] if source.parent == HERE else []
    files = {file for folder in included for file in folder.rglob("*.c")}
    files |= {file for folder in (native, HERE, *headers()) for file in folder.rglob("*.h")}
    made_from = hashlib.sha256(repr((compiler, COMMON, [a for a in arguments if not a.startswith("-I")])).encode())
    # The same file in two places (a copy of the agent's C, and what others share of it) is one.
    for name, content in [(source.name, source.read_bytes()), *sorted({(f.name, f.read_bytes()) for f in files})]:
        made_from.update(f"{name} {len(content)}\n".encode() + content)
    return made_from.hexdigest()


def make(
    target: str, folder: Path, compiler: Sequence[str], native: Path = NATIVE, objects_of: Path | None = None
) -> Path:
    """Build the program of a C target from the agent's C in `native`. Raises Unable.

    `objects_of`: a folder for objects, of which those are taken that were made from the same.
    """

    def compiled(job: tuple[int, tuple[Path, tuple[str, ...]]]) -> Path:
        number, (source, arguments) = job
        kept = None if objects_of is None else objects_of / f"{_digest(compiler, arguments, source, native)}.o"
        return _compile(compiler, arguments, source, folder / f"{target}-{number}.o", kept)

    guided = "-fsanitize=fuzzer-no-link" in compiler
    own = [HERE / f"fuzz_{target}.c", *([HERE / "kernel.c"] if target == "requests" else [])]
    if not guided:
        own.append(HERE / "drive.c")
    asked: list[Path] = []  # what asks a system, so that kernel.c is asked instead
    if target == "frames":
        own.append(native / "frame.c")
    else:
        plugins = plugin_sources("linux")
        (folder / "sources.c").write_text(sources_table(plugins))
        asked = [native / name for name in (*PORTABLE_SOURCES, *SYSTEM_SOURCES["linux"]) if name not in LEFT_OUT]
        asked += [*dict.fromkeys(file for plugin in plugins for file in plugin.files), folder / "sources.c"]
        asked.append(own.pop(0))
    include = [f"-I{folder}" for folder in (native, *headers())]
    jobs = [(file, (*include, "-include", "calls.h")) for file in asked] + [(file, (*include,)) for file in own]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, enumerate(jobs)))
    made = folder / f"fuzz_{target}"
    link = ["-fsanitize=fuzzer"] if guided else []
    command = [*compiler[:1], *SANITIZERS, *link, "-o", str(made), *map(str, objects)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise Unable(f"{shlex.join(command)}\n{done.stderr}")
    return made


def run_native(target: str, options: argparse.Namespace, seconds: int) -> int:
    """Build and run a C target; its exit code is 0 when nothing was found. Raises Unable."""
    compiler = guided_compiler() if not options.rounds else []
    guided = bool(compiler)
    if not guided:
        compiler = [name for name in ("cc", "clang", "gcc") if shutil.which(name)][:1]
    if not compiler:
        raise Unable("no compiler 'cc' in PATH; on Debian and Ubuntu: apt-get install gcc libc6-dev")
    found = options.keep / target
    found.mkdir(parents=True, exist_ok=True)
    corpus = HERE / "corpus" / target
    with tempfile.TemporaryDirectory(prefix="vmatlas-fuzz-") as folder:
        program = make(target, Path(folder), compiler, options.sources, options.objects)
        if guided:
            arguments = [f"-max_total_time={seconds}", f"-seed={options.seed}", "-max_len=4096", "-timeout=60"]
            arguments += ["-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={found}/", str(found)]
            arguments += [str(corpus)] if corpus.is_dir() else []
        else:
            inputs = sorted(corpus.glob("*")) if corpus.is_dir() else []
            arguments = [str(options.seed), str(options.rounds), str(seconds), *map(str, inputs)]
        done = subprocess.run(
            [str(program), *arguments],
            cwd=found,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=seconds + 600,
            check=False,
        )
    said = done.stdout + done.stderr
    how = f"{compiler[0]}, guided by coverage" if guided else f"{compiler[0]}, not guided"
    if done.returncode != 0:
        sys.stderr.write(f"{said}\nfuzz: {target} ({how}): FOUND something; its input is in {found}\n")
        return 1
    counted = re.search(r"number_of_executed_units: (\d+)|runs (\d+)", said)
    runs = int(next(filter(None, counted.groups()))) if counted else 0
    kept = f", {len(list(found.iterdir()))} inputs kept in {found}" if guided else ""
    sys.stdout.write(f"fuzz: {target} ({how}): {runs:,} runs, nothing found{kept}\n")
    return 0 if runs > 0 else 1


def run_python(target: str, options: argparse.Namespace, seconds: int) -> int:
    """A target in Python, in a process of its own; each of its parts in one."""
    worst = 0
    for part in PARTS.get(target, ([],)):
        found = options.keep.joinpath(target, *part)
        found.mkdir(parents=True, exist_ok=True)
        program = [str(HERE / f"{target}.py"), *part]
        command = [sys.executable, *program, str(options.seed), str(options.rounds), str(seconds), str(found)]
        worst = max(worst, subprocess.run(command, timeout=seconds + 600, check=False).returncode)
    return worst


def run_decoders(options: argparse.Namespace, seconds: int) -> int:
    """Each driver of the plugins for so long, with inputs by the seed. Raises Unable."""
    if shutil.which("cc") is None:
        raise Unable("no compiler 'cc' in PATH; on Debian and Ubuntu: apt-get install gcc libc6-dev")
    from vmatlas.conformance.compiling import SHARED
    from vmatlas.conformance.fuzz import build_with

    drivers = [
        (each.parent.parent.name, each, each.parent.parent / "native" / "decode.c")
        for each in sorted(PLATFORMS.glob("*/tests/fuzz_decode.c"))
    ]
    drivers.append(("symbols", PLATFORMS.parent / "core" / "tests" / "fuzz_symbols.c", SHARED / "symbol_table.c"))
    worst = 0
    for name, driver, source in drivers:
        with tempfile.TemporaryDirectory(prefix="vmatlas-fuzz-") as folder:
            program = build_with(driver, [source], Path(folder))
            for words in STREAMS.get(name, ([],)):
                bound = f"{seconds}s" if seconds else str(options.rounds)
                command = [str(program), *words, bound, str(options.seed)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 600, check=False)
                shown = " ".join((f"decoders, {name}", *words))
                if done.returncode:
                    sys.stderr.write(f"{done.stdout}{done.stderr}\nfuzz: {shown}: FOUND something: {command[1:]}\n")
                    worst = 1
                else:
                    counts = [int(word) for word in done.stdout.split()[1::2]]
                    sys.stdout.write(f"fuzz: {shown} (not guided): {sum(counts):,} runs, nothing found\n")
                    sys.stdout.flush()
    return worst


def main() -> int:
    """The command: 0 nothing was found, 1 something was, 2 it cannot be run here."""
    parser = argparse.ArgumentParser(prog="python core/agent/fuzz", description="Fuzz what parses bytes from outside.")
    parser.add_argument("--minutes", type=float, default=0.0, help="how long for each target")
    parser.add_argument("--rounds", type=int, default=0, help="so many inputs instead, the same ones every time")
    parser.add_argument("--only", choices=TARGETS, action="append", help="a target; may be given again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="where inputs are kept (./fuzz-found)")
    parser.add_argument("--sources", type=Path, default=NATIVE, help="the agent's C, if not that of this tree")
    parser.add_argument("--objects", type=Path, help="a folder: what was compiled there from the same is taken")
    options = parser.parse_args()
    if (options.minutes > 0) == (options.rounds > 0):
        parser.error("give one of --minutes and --rounds, more than 0")
    options.keep = options.keep.resolve()
    if options.objects is not None:
        options.objects.mkdir(parents=True, exist_ok=True)
    seconds = max(1, int(options.minutes * 60)) if options.minutes else 0
    worst = 0
    for target in options.only or TARGETS:
        try:
            if target == "decoders":
                code = run_decoders(options, seconds)
            elif target in IN_PYTHON:
                code = run_python(target, options, seconds)
            else:
                code = run_native(target, options, seconds)
        except Unable as error:
            sys.stderr.write(f"fuzz: {target}: {error}\n")
            code = 2
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
