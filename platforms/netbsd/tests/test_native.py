"""The agent's half in C: run under the sanitizers against a scripted sysctl, its layouts held to NetBSD's headers."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from errno import E2BIG, ENOSPC, ENOTSUP, EPERM, ESRCH
from pathlib import Path

import pytest

from vmatlas_agents.build import COMMON, NATIVE, BuildFailed, ziglang
from vmatlas_agents.targets import TARGETS
from vmatlas_netbsd import layout

HERE = Path(__file__).parent
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
ONE = layout.REGION_SIZE
ROOM = (10 << 20) // ONE
Run = Callable[..., list[str]]
WHO = f"process 0 {layout.PROCESS_SIZE} 0"


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the source; the lines that it put and its end."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    program = tmp_path_factory.mktemp("native") / "driver"
    sources = [HERE / "native" / "driver.c", HERE.parent / "native" / "acquire.c"]
    include = [f"-I{HERE / 'native'}", f"-I{NATIVE}"]
    subprocess.run(["cc", *COMMON, *SANITIZERS, *include, "-o", program, *sources], check=True, timeout=120)

    def run(*words: int) -> list[str]:
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize("regions", [1, 40, 5000, ROOM])
def test_map_comes_whole_with_who_the_process_is_behind_it(ask: Run, regions: int) -> None:
    size = regions * ONE
    assert ask(46, regions) == [f"map 0 {size} {size}", WHO, "error 0 refused 0 readings 1: "]


def test_map_of_a_process_of_the_kernel_is_empty(ask: Run) -> None:
    assert ask(46, 0) == ["map 0 0 0", WHO, "error 0 refused 0 readings 0: "]


@pytest.mark.parametrize(
    ("regions", "growths", "readings"),
    [(3, [5], 1), (3, [6, 1], 2), (300, [100], 1), (300, [105, 105, 50], 3), (ROOM - 10, [10], 1)],
)
def test_growth_between_the_size_and_the_reading(ask: Run, regions: int, growths: list[int], readings: int) -> None:
    whole = (regions + growths[-1]) * ONE
    assert ask(46, regions, *growths) == [f"map 0 {whole} {whole}", WHO, f"error 0 refused 0 readings {readings}: "]


def test_map_that_grows_each_time_is_given_up(ask: Run) -> None:
    assert ask(46, 30, *[1000] * 16)[-1] == f"error {ENOSPC} refused 0 readings 8: sysctl vm.proc.map of process 46"


def test_map_beyond_what_the_kernel_tells_is_refused(ask: Run) -> None:
    assert ask(46, ROOM + 1) == [WHO, f"error {E2BIG} refused 0 readings 0: sysctl vm.proc.map of process 46"]


@pytest.mark.parametrize(("pid", "number", "who"), [(46, EPERM, WHO), (404, ESRCH, "process 0 0 0")])
def test_refusal_comes_with_what_explains_it(ask: Run, pid: int, number: int, who: str) -> None:
    assert ask(pid, -number) == [who, f"error {number} refused 0 readings 0: sysctl vm.proc.map of process {pid}"]


def test_thread_and_number_beyond_a_pid_are_refused_by_the_agent(ask: Run) -> None:
    for pid in (99, 2**32 - 1):
        (end,) = ask(pid, 3)
        assert end.startswith(f"error {ENOTSUP} refused 1 readings 0: the map of a thread")


def test_layouts_are_those_of_the_systems_own_headers(tmp_path: Path) -> None:
    [target] = [each for each in TARGETS if each.system == "netbsd"]
    claims = []
    for name, prefix, fields, size in (
        ("kinfo_vmentry", "kve_", layout.REGION_FIELDS, layout.REGION_SIZE),
        ("kinfo_proc2", "p_", layout.PROCESS_FIELDS, layout.PROCESS_SIZE),
    ):
        claims.append(f"sizeof(struct {name}) == {size}")
        for field, code, offset in fields:
            member = prefix + {"pages": "count"}.get(field, field)
            claims.append(f"offsetof(struct {name}, {member}) == {offset}")
            claims.append(f"sizeof(((struct {name} *)0)->{member}) == {struct.calcsize(f'={code}')}")
    for number in ("CTL_KERN", "CTL_VM", "KERN_PROC2", "KERN_PROC_ALL", "KERN_PROC_PID", "VM_PROC", "VM_PROC_MAP"):
        claims.append(f"{number} == {getattr(layout, number)}")
    claims += [f"KVME_TYPE_{each.name} == {int(each)}" for each in layout.EntryType]
    claims.append(f"P_SYSTEM == {layout.P_SYSTEM}")
    includes = ("sys/param.h", "sys/types.h", "sys/sysctl.h", "uvm/uvm_param.h", "stddef.h")
    text = "".join(f"#include <{each}>\n" for each in includes)
    text += "".join(f'_Static_assert({claim}, "{claim}");\n' for claim in claims)
    (tmp_path / "claims.c").write_text(text)
    try:
        compiler = ziglang(target)
    except BuildFailed as error:
        pytest.skip(str(error))
    command = [*compiler.command, "-c", "-o", str(tmp_path / "claims.o"), str(tmp_path / "claims.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(claims) > 60
