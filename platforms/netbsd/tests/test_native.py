"""The agent's half in C: run under the sanitizers against a scripted sysctl, its layouts held to NetBSD's headers."""

from __future__ import annotations

import struct
import subprocess
from errno import E2BIG, ENOSPC, ENOTSUP, EPERM, EPIPE, ESRCH
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.scripted_kernel import Asked, ScriptedKernel
from vmatlas_agents.build import BuildFailed, ziglang
from vmatlas_agents.targets import TARGETS
from vmatlas_netbsd import layout

HERE = Path(__file__).parent
ONE = layout.REGION_SIZE
ROOM = (10 << 20) // ONE
WHO = {"process": b"\x09" * layout.PROCESS_SIZE}
FAILED = "sysctl vm.proc.map of process 46"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ScriptedKernel:
    folder = tmp_path_factory.mktemp("native")
    return ScriptedKernel(folder, HERE / "native" / "driver.c", HERE.parent / "native" / "acquire.c")


def check_answer(asked: Asked, regions: int, readings: int) -> None:
    """The map, whole, and behind it who the process is."""
    assert asked.streams == {"map": b"m" * regions * ONE} | WHO
    assert list(asked.streams) == ["map", "process"]
    assert (asked.error, asked.refused, asked.failed, len(asked.calls)) == (0, False, "", readings)


@pytest.mark.parametrize("regions", [1, 40, 5000, ROOM])
def test_map_comes_whole_with_who_the_process_is_behind_it(kernel: ScriptedKernel, regions: int) -> None:
    check_answer(kernel.ask(46, size=regions), regions, 1)


def test_map_of_a_process_of_the_kernel_is_empty(kernel: ScriptedKernel) -> None:
    check_answer(kernel.ask(46, size=0), 0, 0)


@pytest.mark.parametrize(
    ("regions", "growth", "readings"),
    [(3, [5], 1), (3, [6, 1], 2), (300, [100], 1), (300, [105, 105, 50], 3), (ROOM - 10, [10], 1)],
)
def test_growth_between_the_size_and_the_reading(
    kernel: ScriptedKernel, regions: int, growth: list[int], readings: int
) -> None:
    check_answer(kernel.ask(46, size=regions, growth=growth), regions + growth[-1], readings)


def test_map_that_grows_each_time_is_given_up(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, size=30, growth=[1000] * 16)
    assert asked == Asked(WHO, ENOSPC, False, FAILED, [f"reading {(30 + 10 + 4) * ONE}"] * 8)


def test_map_beyond_what_the_kernel_tells_is_refused(kernel: ScriptedKernel) -> None:
    assert kernel.ask(46, size=ROOM + 1) == Asked(WHO, E2BIG, False, FAILED, [])


@pytest.mark.parametrize("puts", [0, 1])
def test_source_stops_when_nobody_takes_what_it_puts(kernel: ScriptedKernel, puts: int) -> None:
    asked = kernel.ask(46, size=5, puts=puts)
    assert (asked.error, list(asked.streams)) == (EPIPE, ["map", "process"][:puts])


@pytest.mark.parametrize(("number", "gone", "who"), [(EPERM, 0, WHO), (ESRCH, 1, {"process": b""})])
def test_refusal_comes_with_what_explains_it(
    kernel: ScriptedKernel, number: int, gone: int, who: dict[str, bytes]
) -> None:
    assert kernel.ask(46, size=-number, gone=gone) == Asked(who, number, False, FAILED, [])


def test_thread_and_number_beyond_a_pid_are_refused_by_the_agent(kernel: ScriptedKernel) -> None:
    for asked in (kernel.ask(46, tid=1), kernel.ask(2**32 - 1)):
        assert asked[:3] == ({}, ENOTSUP, True)
        assert asked.failed.startswith("the map of a thread")
        assert asked.calls == []


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert len(claims) > 60
