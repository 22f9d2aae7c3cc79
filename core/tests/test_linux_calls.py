"""Numbers of system calls on processors that are not at hand: C and Python add the same."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux import calls

NATIVE = Path(vmatlas.__file__).parent / "native"
MIPS = ("-D__mips__", "-D_ABIO32=1", "-D_ABIN32=2", "-D_ABI64=3")


@pytest.mark.parametrize(
    ("machine", "wide", "n32", "defined"),
    [
        ("x86_64", True, False, ()),
        ("mips64", True, False, (*MIPS, "-D_MIPS_SIM=3")),
        ("mips64", False, True, (*MIPS, "-D_MIPS_SIM=2")),
        ("mips", False, False, (*MIPS, "-D_MIPS_SIM=1")),
        ("alpha", True, False, ("-D__alpha__",)),
    ],
)
def test_c_and_python_count_system_calls_from_the_same_base(
    monkeypatch: pytest.MonkeyPatch, machine: str, wide: bool, n32: bool, defined: tuple[str, ...]
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    text = '#include "call_base.h"\nbase CALL_BASE\n'
    command = ["cc", "-E", "-P", f"-I{NATIVE}", *defined, "-"]
    said = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    monkeypatch.setattr(calls, "_IS_N32", n32)
    assert said.split()[-1] == str(calls.call_base(machine, wide))
