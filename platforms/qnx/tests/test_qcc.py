"""Agents for QNX on 64-bit processors: what QNX's own compiler is told, and that the C is fit for 64 bits.

No SDP was at hand: its compiler is made up here; it compiles what it is given with the host's, against our declarations
of QNX's library. What it makes was never run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_agents import target_for
from vmatlas_agents.build import (
    COMMON,
    NATIVE,
    BuildFailed,
    _with_compilers,
    build,
    compiler_for,
    main,
    plugin_sources,
    ziglang,
)
from vmatlas_agents.targets import PORTABLE_SOURCES, SYSTEM_SOURCES, TARGETS, Target

BY_QCC = [target for target in TARGETS if target.qcc]

COMPILER = """#!{python}
import pathlib, subprocess, sys
folder = pathlib.Path(__file__).parent
given = sys.argv[1:]
if given == ["-V"]:
    print("cc: targets available in /sdp: 12.2.0,gcc_ntox86_64 12.2.0,gcc_ntoaarch64le", file=sys.stderr)
    sys.exit(1)
with open(folder / "given", "a") as log:
    log.write("\\n".join(given) + "\\n\\n")
headers = ["-D__QNX__", "-ffreestanding", "-nostdinc", "-isystem{gcc}", "-isystem" + str(folder), "-isystem{ours}"]
loose = ["-nostdlib", "-no-pie", "-static", "-Wl,--unresolved-symbols=ignore-all", "-Wl,-e,main"]
how = (folder / "how").read_text().split()
if how == ["pretend"]:
    pathlib.Path(given[given.index("-o") + 1]).write_text("pretended")
    sys.exit()
sys.exit(subprocess.call(["cc", *headers, *loose, *(word for word in given if not word.startswith("-V")), *how]))
"""

PROCFS = """
#include <qnx_libc.h>
typedef struct { uint64_t vaddr, size; uint32_t flags, dev; int64_t offset; uint64_t ino, paddr; } procfs_mapinfo;
typedef struct { uint64_t vaddr; char path[1]; } procfs_debuginfo;
typedef struct {
    int pid, parent; uint32_t flags, umask; int child, sibling, pgrp, sid;
    uint64_t base_address, initial_stack;
    int uid, gid, euid, egid, suid, sgid;
    uint64_t signals[3]; uint32_t counts[4];
    uint64_t start_time, rest[19];
} procfs_info;
#define DCMD(number, type) ((int)((sizeof(type) << 16) + 0x800 + (number) + 0x40000000))
#define DCMD_PROC_MAPDEBUG ((int)(0x80000000U + DCMD_PROC_MAPDEBUG_BASE))
#define DCMD_PROC_MAPDEBUG_BASE DCMD(3, procfs_debuginfo)
#define DCMD_PROC_INFO DCMD(1, procfs_info)
#define DCMD_PROC_MAPINFO DCMD(2, procfs_mapinfo)
#define DCMD_PROC_PAGEDATA DCMD(20, procfs_mapinfo)
"""


class Sdp:
    """A folder that stands for an installed SDP, and what its compiler was given."""

    def __init__(self, folder: Path) -> None:
        self.tools = folder / "host" / "usr" / "bin"
        self.tools.mkdir(parents=True)
        gcc = subprocess.run(
            ["cc", "-print-file-name=include"], capture_output=True, text=True, check=True, timeout=PATIENCE
        ).stdout.strip()
        compiler = self.tools / "qcc"
        compiler.write_text(COMPILER.format(python=sys.executable, gcc=gcc, ours=NATIVE / "qnx" / "include"))
        compiler.chmod(0o755)
        (self.tools / "limits.h").write_text("")  # the compiler's own includes a system's
        self.compile_by("")
        self.say(PROCFS)

    def compile_by(self, how: str) -> None:
        """With a further option, or "pretend" to: most of the work is for naught where nothing is run of it."""
        (self.tools / "how").write_text(how)

    def say(self, procfs: str) -> None:
        """Put `procfs` into <sys/procfs.h>."""
        header = self.tools / "sys" / "procfs.h"
        header.parent.mkdir(exist_ok=True)
        header.write_text(procfs)

    def given(self) -> list[list[str]]:
        """The arguments of each compilation."""
        return [each.split("\n") for each in (self.tools / "given").read_text().strip().split("\n\n")]


@pytest.fixture
def sdp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sdp:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    made = Sdp(tmp_path)
    monkeypatch.setenv("QNX_HOST", str(tmp_path / "host"))
    monkeypatch.setenv("QNX_TARGET", str(tmp_path / "target"))
    monkeypatch.setenv("PATH", f"{made.tools}:{os.environ['PATH']}")
    return made


@pytest.fixture
def no_sdp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QNX_HOST", raising=False)
    monkeypatch.delenv("QNX_TARGET", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_there_is_an_agent_for_each_processor_of_newer_releases() -> None:
    assert {target.qcc for target in BY_QCC} == {"gcc_ntox86_64", "gcc_ntoaarch64le"}
    assert target_for("QNX", "x86_64").qcc == "gcc_ntox86_64"
    assert target_for("QNX", "aarch64le").qcc == "gcc_ntoaarch64le"
    assert not target_for("QNX", "x86pc").qcc


@pytest.mark.slow
@pytest.mark.parametrize("target", BY_QCC, ids=lambda target: target.name)
def test_compiler_is_told_its_variant_and_every_source(target: Target, sdp: Sdp, tmp_path: Path) -> None:
    if target is not BY_QCC[0]:  # the host's compiler would make the same of it
        sdp.compile_by("pretend")
    agent, compiled = build(target, compiler_for(target), output=tmp_path / "built")
    assert (agent.name, compiled) == (f"vmatlas-agent-qnx-{target.machines[0]}", True)
    [given] = sdp.given()
    assert given[0] == f"-V{target.qcc}"
    assert "-D_QNX_SOURCE" in given
    assert given.index("-Wno-error") > given.index("-Werror"), "a warning of a header that nobody saw ends no build"
    compiled_files = {Path(word).name for word in given if word.endswith(".c")}
    assert compiled_files == {*PORTABLE_SOURCES, *SYSTEM_SOURCES["qnx"], "acquire.c", "sources.c"}
    assert not [word for word in given if "qnx/include" in word], "the SDP's own headers, not ours"


def test_built_agent_is_built_again_only_for_another_sdp(
    sdp: Sdp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = BY_QCC[0]
    sdp.compile_by("pretend")
    assert build(target, compiler_for(target), output=tmp_path / "built")[1]
    assert not build(target, compiler_for(target), output=tmp_path / "built")[1]
    monkeypatch.setenv("QNX_TARGET", str(tmp_path / "qnx810"))
    assert build(target, compiler_for(target), output=tmp_path / "built")[1]


def test_compiler_beside_the_path_is_found_by_qnx_host(sdp: Sdp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    assert compiler_for(BY_QCC[0]).command == (str(sdp.tools / "qcc"), "-Vgcc_ntox86_64")


@pytest.mark.parametrize(
    ("was", "becomes", "named"),
    [
        ("ino, paddr;", "ino, paddr, more;", "procfs_mapinfo_is_as_known"),
        ("uint32_t flags, dev; int64_t", "int64_t", "procfs_mapinfo"),
        ("start_time, rest[19]", "rest[19], start_time", "procfs_info_is_as_known"),
        ("DCMD(20,", "DCMD(21,", "device_commands_are_as_known"),
        ("DCMD(3,", "DCMD(4,", "device_commands_are_as_known"),
        ("char path[1]", "uint64_t more; char path[1]", "path_of_mapdebug_is_at_8"),
    ],
)
def test_sdp_whose_structures_differ_ends_the_build(
    sdp: Sdp, tmp_path: Path, was: str, becomes: str, named: str
) -> None:
    assert PROCFS.count(was) == 1
    sdp.say(PROCFS.replace(was, becomes))
    sdp.compile_by("-fsyntax-only")
    with pytest.raises(BuildFailed, match=named):
        build(BY_QCC[0], compiler_for(BY_QCC[0]), output=tmp_path / "built")
    assert not list((tmp_path / "built").glob("vmatlas-agent*"))


@pytest.mark.parametrize("lacks", ["QNX_HOST", "QNX_TARGET", "qcc"])
def test_what_is_missing_is_one_line_and_says_what_to_do(
    no_sdp: None, lacks: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in {"QNX_HOST", "QNX_TARGET"} - {lacks}:
        monkeypatch.setenv(name, str(tmp_path))
    assert main(["--target", "x86_64-qnx", "--output", str(tmp_path / "built")]) == 1
    said = capsys.readouterr().err
    why = "there is no qcc in PATH" if lacks == "qcc" else f"{lacks} is not set"
    assert said == (
        f"vmatlas-agents: the agent x86_64-qnx is built by QNX's own compiler, and {why}: "
        "'source qnxsdp-env.sh' of an installed SDP sets it up\n"
    )


def test_all_agents_leave_out_those_of_a_licensed_compiler_and_say_so(
    no_sdp: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(_with_compilers(BY_QCC, may_lack=True)) == []
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": left out: ")[0] for line in said] == ["x86_64-qnx", "aarch64-qnx"]
    with pytest.raises(BuildFailed):
        list(_with_compilers(BY_QCC, may_lack=False))


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_sources_compile_for_64_bits_and_need_no_other_names(processor: str, tmp_path: Path) -> None:
    """Objects alone, against our declarations, each warning an error."""
    try:
        compiler = ziglang(replace(target_for("QNX", "x86pc"), zig=f"{processor}-linux-none"))
    except BuildFailed as error:
        pytest.skip(str(error))
    own = [NATIVE / name for name in (*PORTABLE_SOURCES, *SYSTEM_SOURCES["qnx"])]
    plugins = list(dict.fromkeys(file for plugin in plugin_sources("qnx") for file in plugin.files))
    flags = [*COMMON, "-Os", "-ffreestanding", "-fno-builtin", "-fno-pic", "-fno-stack-protector", f"-I{NATIVE}"]
    command = [*compiler.command, *flags, f"-isystem{NATIVE / 'qnx' / 'include'}", "-c", "-o", tmp_path / "all"]
    done = subprocess.run([*command, *own, *plugins], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    header = subprocess.run(
        ["readelf", "-hsW", tmp_path / "all"], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "ELF64" in header.stdout
    wanted = {line.split()[-1] for line in header.stdout.splitlines() if " GLOBAL DEFAULT  UND " in line}
    known = set((NATIVE / "qnx" / "libc.symbols").read_text().split())
    assert wanted - known <= {"agent_sources", "environ"}, "the build's own table, and what the start file has"
    assert "devctl" in wanted
