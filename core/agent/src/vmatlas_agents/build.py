"""Builds agents: the portable C beside this package, the system's own file, and the sources that plugins register.

    python -m vmatlas_agents.build [--target NAME ...] [--all] [--cc COMPILER] [--output FOLDER] [--list]

With ziglang for the machines of the table (with qcc, of an installed SDP, for QNX on 64-bit processors), or with the
host's compiler for the host alone. The same sources, flags and
compiler give the same bytes. A build that would give what is there already is not made; a new file replaces the old one
at once.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Protocol, TypeVar

from vmatlas_agents import BUILT, AgentMissing, target_for
from vmatlas_agents.targets import (
    MUSL_BESIDE,
    MUSL_FILES,
    PORTABLE_SOURCES,
    SYSTEM_SOURCES,
    TARGETS,
    BrokenSystem,
    NamesOnly,
    Target,
    all_targets,
    foreign_systems,
)

NATIVE = Path(__file__).parents[1]
"""The agent's own C: it lies beside the package in a source tree, and is not part of a wheel."""


def headers() -> list[Path]:
    """The folders in which C of the agent, and of plugins, finds headers: the agent's own, and core's native/."""
    found = importlib.util.find_spec("vmatlas")
    return (
        [NATIVE, *(Path(place) / "native" for place in (found.submodule_search_locations or []))] if found else [NATIVE]
    )


GROUP = "vmatlas.agent_sources"

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes")
COMMON = ("-std=c99", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-fno-strict-aliasing", *WARNINGS)
SECTIONS = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
SMALL = ("-Os", "-g0", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", *SECTIONS, "-s")

SECONDS = 600.0
"""The longest that one compilation may take: ziglang's first one for a C library builds that library too."""


_T = TypeVar("_T")
_BUILDING = ".building-"


class BuildFailed(Exception):
    """An agent could not be built: what was run, and what the compiler said."""


class Sources(Protocol):
    """What an entry of the group gives (vmatlas.target.native.AgentSources is one)."""

    system: str
    files: tuple[Path, ...]
    table: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compiler:
    """A command that compiles and links C, and the words that tell its version."""

    command: tuple[str, ...]
    version: str


def ziglang(target: Target) -> Compiler:
    """The compiler from PyPI, told what machine to build for. Raises BuildFailed when it is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildFailed(
            "ziglang is not installed: pip install ziglang   (or --cc cc, for an agent for this machine alone)"
        )
    return Compiler(
        (sys.executable, "-P", "-m", "ziglang", "cc", "-target", target.zig or target.name),
        f"ziglang {version('ziglang')}",
    )


def qcc(target: Target) -> Compiler:
    """QNX's own compiler, as the shell was set up for an SDP. Raises BuildFailed when it was not.

    Never run with a real SDP: what is passed is what its documents name, and tested against a compiler made up.
    """
    missing = [name for name in ("QNX_HOST", "QNX_TARGET") if not os.environ.get(name)]
    found = shutil.which("qcc") or shutil.which("qcc", path=str(Path(os.environ.get("QNX_HOST", ""), "usr", "bin")))
    if found is None or missing:
        why = f"{missing[0]} is not set" if missing else "there is no qcc in PATH"
        raise BuildFailed(
            f"the agent {target.name} is built by QNX's own compiler, and {why}: "
            "'source qnxsdp-env.sh' of an installed SDP sets it up"
        )
    said = _said([found, "-V"])  # the variants that there are, with the version of each
    return Compiler((found, f"-V{target.qcc}"), f"{os.environ['QNX_TARGET']}\n{said}")


def compiler_for(target: Target) -> Compiler:
    """The compiler for a machine of the table. Raises BuildFailed when it is not installed."""
    return qcc(target) if target.qcc else ziglang(target)


def _said(command: Sequence[str]) -> str:
    """What a compiler says of itself. Raises BuildFailed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{shlex.join(command)}: {error}") from error
    return (done.stdout + done.stderr).strip()


def host_compiler(command: str) -> Compiler:
    """The host's own compiler. Raises BuildFailed when there is none of that name."""
    words = shlex.split(command)
    if not words or shutil.which(words[0]) is None:
        raise BuildFailed(f"no compiler '{command}' in PATH; on Debian and Ubuntu: apt-get install gcc libc6-dev")
    return Compiler(tuple(words), _said([*words, "--version"]))


def plugin_sources(system: str) -> list[Sources]:
    """What the installed plugins give for a system, by the name of their entry. Raises BuildFailed."""
    found: list[Sources] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            sources: Sources = entry.load()
        except Exception as error:  # a plugin may fail in any way
            why = f"{type(error).__name__}: {error}"
            raise BuildFailed(f"the sources of {entry.name} cannot be loaded: {why}") from error
        if sources.system != system:
            continue
        for file in sources.files:
            if not file.is_file():
                raise BuildFailed(
                    f"{entry.name}: no file {file}; agents are built from a source tree, with the plugins installed "
                    "in place"
                )
        found.append(sources)
    return found


def sources_table(plugins: Sequence[Sources]) -> str:
    """The C file that lists the tables of the plugins for the agent."""
    tables = dict.fromkeys(plugin.table for plugin in plugins)  # the backends of one plugin may share theirs
    declared = "".join(f"extern const struct source {table}[];\n" for table in tables)
    listed = "".join(f"    {table},\n" for table in tables)
    return (
        '#include "source.h"\n\n'
        f"{declared}extern const struct source *const agent_sources[];\n"
        f"const struct source *const agent_sources[] = {{\n{listed}    0,\n}};\n"
    )


def _system_files(system: str) -> list[Path]:
    """The C files by system, of ours or of another distribution. Raises BuildFailed."""
    if system in SYSTEM_SOURCES:
        return [NATIVE / name for name in SYSTEM_SOURCES[system]]
    for each in _foreign(foreign_systems):
        if each.system == system:
            return [*each.files, *(NATIVE / name for name in each.ours)]
    raise BuildFailed(f"the agent has no part for {system}")


def _foreign(ask: Callable[[], Sequence[_T]]) -> Sequence[_T]:
    """What other distributions add. Raises BuildFailed."""
    try:
        return ask()
    except BrokenSystem as error:
        raise BuildFailed(str(error)) from error


def _inputs(target: Target, plugins: Sequence[Sources]) -> list[Path]:
    start = target.names_only.start if target.names_only else ()
    own = [NATIVE / name for name in (*PORTABLE_SOURCES, *start)] + _system_files(target.system)
    beside = [NATIVE / name for name in MUSL_BESIDE]
    missing = [file for file in [*own, *beside] if not file.is_file()]
    if missing:
        raise BuildFailed(f"no file {missing[0]}: agents are built from a source tree, not from an installed wheel")
    return [*own, *dict.fromkeys(file for plugin in plugins for file in plugin.files)]


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def build(
    target: Target, compiler: Compiler, *, output: Path = BUILT, flags: Sequence[str] = SMALL, check_size: bool = True
) -> tuple[Path, bool]:
    """Build one agent; gives its file, and whether it had to be compiled.

    Raises BuildFailed.
    """
    plugins = plugin_sources(target.system)
    inputs = _inputs(target, plugins)
    table = sources_table(plugins)
    arguments = [*COMMON, *flags, *target.flags]

    def parts() -> Iterator[bytes]:
        yield compiler.version.encode()
        yield "\0".join([*compiler.command[1:], *arguments]).encode()
        yield table.encode()
        yield repr((target.names_only, target.musl and MUSL_FILES)).encode()
        names = [NATIVE / target.names_only.symbols] if target.names_only else []
        names += [NATIVE / name for name in MUSL_BESIDE] if target.musl else []
        beside = {header for file in inputs for header in file.parent.glob("*.h")}  # those of the plugins, too
        shared = {header for folder in headers() for header in folder.rglob("*.h")}
        for file in [*inputs, *names, *sorted(beside | shared)]:
            yield file.name.encode()
            yield file.read_bytes()

    wanted = _digest(parts())
    agent, note = output / target.file, output / f"{target.file}.digests"
    if agent.is_file() and note.is_file() and note.read_text() == _note(wanted, agent):
        return agent, False
    output.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(output)
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=output) as folder:
        made = Path(folder, target.file)
        Path(folder, "sources.c").write_text(table)
        whole = [*inputs, Path(folder, "sources.c")]
        include = [f"-I{each}" for each in headers()]
        musl = _musl_of(target)
        if musl and _is_linked_to_part(target.musl, musl, compiler, [*arguments, *include], whole, made):
            pass
        elif target.names_only is None:
            _compile(compiler, [*arguments, *include], whole, made)
        else:
            _link_to_names(target.names_only, compiler, [*arguments, *include], whole, made)
        if check_size and made.stat().st_size > target.largest:
            raise BuildFailed(f"{target.file} has {made.stat().st_size:,} bytes, and the bound is {target.largest:,}")
        made.chmod(0o755)
        new_note = Path(folder, "digests")
        new_note.write_text(_note(wanted, made))
        # The note last: without it, or with one that does not fit, the next build compiles again.
        note.unlink(missing_ok=True)
        os.replace(made, agent)
        os.replace(new_note, note)
    return agent, True


def _remove_left_behind(output: Path) -> None:
    """The folders of builds that were killed: none that lives is as old as that."""
    for folder in output.glob(f"{_BUILDING}*"):
        with contextlib.suppress(FileNotFoundError):  # another build removes it as well
            if time.time() - folder.stat().st_mtime > 2 * SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _note(wanted: str, agent: Path) -> str:
    return f"inputs {wanted}\nagent {hashlib.sha256(agent.read_bytes()).hexdigest()}\n"


def _compile(compiler: Compiler, arguments: Sequence[str], inputs: Sequence[Path], made: Path) -> None:
    _run([*compiler.command, *arguments, "-o", str(made), *map(str, inputs)], made)


def _musl_of(target: Target) -> list[Path]:
    """musl's folder in ziglang, and the files of it that an agent is linked against; none where another version of
    ziglang lacks some."""
    found = importlib.util.find_spec("ziglang") if target.musl else None
    if found is None or found.origin is None:
        return []
    musl = Path(found.origin).parent / "lib" / "libc" / "musl"
    files = [musl, musl / "crt" / "crt1.c"]
    for folder, names in MUSL_FILES.items():
        for name in names.split():
            places = [musl / "src" / folder / target.musl / f"{name}.{ending}" for ending in ("s", "S", "c")]
            file = next(filter(Path.is_file, [*places, musl / "src" / folder / f"{name}.c"]), None)
            if file is None:
                return []
            files.append(file)
    return files


_OF_MUSL = ("-std=c99", "-ffreestanding", "-fno-strict-aliasing", "-fno-stack-protector", "-D_XOPEN_SOURCE=700", "-w")
"""How its own makefile compiles musl, but for the warnings: its C is not ours."""


_LINKER = (sys.executable, "-P", "-m", "ziglang", "ld.lld", "-static", "--gc-sections", "-s")


def _is_linked_to_part(
    processor: str,
    musl: Sequence[Path],
    compiler: Compiler,
    arguments: Sequence[str],
    inputs: Sequence[Path],
    made: Path,
) -> bool:
    """Whether the part of musl was enough. A plugin's sources may need more, and have all of it then."""
    objects = _compile_with_part(processor, musl, compiler, arguments, inputs, made)
    with contextlib.suppress(BuildFailed):
        _run([*_LINKER, "-o", str(made), *objects], made)
        return True
    return False


def _compile_with_part(
    processor: str,
    musl: Sequence[Path],
    compiler: Compiler,
    arguments: Sequence[str],
    inputs: Sequence[Path],
    made: Path,
) -> tuple[str, str]:
    """The objects of the part of musl and of the inputs."""
    folder, *files = musl
    part, agent = made.with_name("musl.o"), made.with_name("agent.o")
    include = [f"-I{folder / each}" for each in (f"arch/{processor}", "arch/generic", "src/include", "src/internal")]
    own = [str(NATIVE / name) for name in MUSL_BESIDE]
    flags = [*_OF_MUSL, *_for_the_compiler(SMALL), *include, f"-I{folder / 'include'}"]
    _run([*compiler.command, *flags, "-c", "-o", str(part), *map(str, files), *own], part)
    _run([*compiler.command, *_for_the_compiler(arguments), "-c", "-o", str(agent), *map(str, inputs)], agent)
    return str(part), str(agent)


def build_program(target: Target, source: Path, of_musl: Sequence[str], made: Path) -> None:
    """A static program for a machine, of C that needs no more of a C library than an agent, and of musl the files
    `of_musl`, which are named below its `src` ("{musl}" in a name is the processor's folder). For tests of machines:
    it takes seconds. Raises BuildFailed."""
    musl = _musl_of(target)
    if not musl:
        raise BuildFailed(f"ziglang is not installed, or has no C library in parts for {target.name}")
    more = [musl[0] / "src" / each.format(musl=target.musl) for each in of_musl]
    told = ("-O1", "-fno-optimize-sibling-calls", "-fno-stack-protector", "-fno-sanitize=undefined", "-Wall", "-Wextra")
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=made.parent) as folder:
        part = Path(folder) / made.name
        objects = _compile_with_part(target.musl, [*musl, *more], ziglang(target), told, [source], part)
        _run([*_LINKER, "-o", str(part), *objects], part)
        part.replace(made)


def _for_the_compiler(arguments: Sequence[str]) -> list[str]:
    """Without what is for the linker."""
    return [each for each in arguments if not each.startswith("-Wl,") and each not in ("-s", "-static")]


def _link_to_names(
    names: NamesOnly, compiler: Compiler, arguments: Sequence[str], inputs: Sequence[Path], made: Path
) -> None:
    """Compile each file, and link all against a library that has the system's names and nothing behind them."""
    linker = [sys.executable, "-P", "-m", "ziglang", "ld.lld"]
    stubs = made.with_name("names.c")
    known = (NATIVE / names.symbols).read_text().split()
    stubs.write_text("".join(f'__asm__(".globl {name}\\n.type {name}, @function\\n{name}:\\n");\n' for name in known))
    flags = _for_the_compiler(arguments)
    objects = []
    for number, file in enumerate([*inputs, stubs]):
        objects.append(made.with_name(f"{number}.o"))
        include = f"-isystem{NATIVE / names.include}"
        _run([*compiler.command, *flags, include, "-c", "-o", str(objects[-1]), str(file)], objects[-1])
    library = made.with_name(names.library)
    shared = [*names.link[:2], "-shared", "--hash-style=sysv", "-soname", names.library]
    _run([*linker, *shared, "-o", str(library), str(objects.pop())], library)
    _run([*linker, *names.link, "--gc-sections", "-s", "-o", str(made), *map(str, objects), str(library)], made)


def _run(command: Sequence[str], made: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"not done after {SECONDS:.0f} s: {shlex.join(command)}") from None
    if done.returncode != 0 or not made.is_file():
        raise BuildFailed(f"{shlex.join(command)}\n{done.stdout}{done.stderr}".rstrip())


def host_target() -> Target:
    """The row for this machine, linked as its own compiler likes best (a static C library may be large or missing).

    Raises BuildFailed for a system that the agent has no part for.
    """
    system, machine = platform.system(), platform.machine()
    try:
        return replace(target_for(system, machine), flags=(), musl="")
    except AgentMissing:
        if system.lower() not in SYSTEM_SOURCES:
            raise BuildFailed(f"the agent has no part for {system} yet") from None
        return Target(f"{machine}-{system.lower()}", system.lower(), (machine,), flags=())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _with_compilers(targets: Sequence[Target], *, may_lack: bool) -> Iterator[tuple[Target, Compiler]]:
    """Each with its compiler. A licensed one may be lacking where none was asked for by name; that is said.

    Raises BuildFailed.
    """
    for target in targets:
        try:
            yield target, compiler_for(target)
        except BuildFailed as error:
            if not (target.qcc and may_lack):
                raise
            _say(f"{target.name}: left out: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 0 when every agent stands, 1 when one could not be built, 2 for wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m vmatlas_agents.build", description="Build the agents of vmatlas.")
    parser.add_argument("--target", action="append", metavar="NAME", help="one of --list; may be given again")
    parser.add_argument("--all", action="store_true", help="every target of the table")
    parser.add_argument("--cc", metavar="COMPILER", help="the host's compiler, for this machine alone")
    parser.add_argument("--output", type=Path, default=BUILT, metavar="FOLDER", help="where the agents go")
    parser.add_argument("--list", action="store_true", help="show the table and what is built")
    options = parser.parse_args(arguments)
    try:
        known = _foreign(all_targets)
    except BuildFailed as error:
        sys.stderr.write(f"vmatlas-agents: {error}\n")
        known = TARGETS
    if options.list:
        for target in known:
            built = "built" if (options.output / target.file).is_file() else "not built"
            _say(f"{target.name:24} {target.system} {', '.join(target.machines)}: {built}")
        return 0
    by_name = {target.name: target for target in known}
    unknown = [name for name in options.target or () if name not in by_name]
    if unknown or (options.cc and (options.target or options.all)):
        wrong = f"no target '{unknown[0]}': see --list" if unknown else "--cc builds for this machine: name no target"
        parser.error(wrong)
    try:
        if options.cc:
            chosen = [(host_target(), host_compiler(options.cc))]
        else:
            named = options.target or [target.name for target in known if target.asked or options.all]
            chosen = list(_with_compilers([by_name[name] for name in named], may_lack=not options.target))
        for target, compiler in chosen:
            agent, compiled = build(target, compiler, output=options.output)
            said = "built" if compiled else "unchanged"
            _say(f"{target.name}: {said}, {agent.stat().st_size:,} bytes: {agent}")
    except KeyboardInterrupt:
        sys.stderr.write("vmatlas-agents: interrupted; what was built before stands\n")
        return 130
    except BuildFailed as error:
        sys.stderr.write(f"vmatlas-agents: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
