"""What guests, mirrors and records say reaches a terminal as text, in all ways in which vmatlas_images shows it."""

from __future__ import annotations

import ast
import io
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console

import vmatlas_images
from vmatlas_images.describe.machine import Machine
from vmatlas_images.describe.machine import find as find_machine
from vmatlas_images.report.shown import LiveLines, show
from vmatlas_images.run.results import Case, CaseState, MachineResult, Outcome, Report, State
from vmatlas_images.terminal import line

EVIL = "\x1b]0;pwned\x07\x1b[2J\x1b[31m\u202eevil\r\x9b31m\u2066\x08\x00[blink]\\[/]\x85\u2028"


def harmless(shown: str) -> bool:
    return not {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n"}


@pytest.fixture
def machine() -> Machine:
    return find_machine("linux-6.12")


def test_table_of_machines_does_nothing_to_a_terminal(machine: Machine) -> None:
    cases = tuple(Case(f"t{EVIL}", state, f"b{EVIL}", EVIL) for state in CaseState)
    results = (
        MachineResult(machine, State.LOST, reason=EVIL, kernel=EVIL, last_words=f"{EVIL}\n{EVIL}", console=Path(EVIL)),
        MachineResult(
            find_machine("linux-6.1"), State.RAN, kernel=EVIL, source=EVIL, accelerator=EVIL, accelerator_reason=EVIL,
            outcome=Outcome(cases, (EVIL,), {EVIL: EVIL}), notes=(EVIL,),
        ),
        MachineResult(find_machine("linux-6.17"), State.NOT_RUN, reason=EVIL),
    )  # fmt: skip
    for width in (80, 200):
        out = io.StringIO()
        report = Report(results, left_out=(machine,), left_out_by=EVIL)
        show(report, Console(file=out, force_terminal=True, width=width, color_system=None), [machine.name])
        assert harmless(out.getvalue())
        assert "evil" in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_live_lines_do_nothing_to_a_terminal(machine: Machine, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200, color_system=None, legacy_windows=False)
    with LiveLines([machine], console) as lines:
        lines.follow(machine, EVIL)  # brackets in it are no markup either
        lines.fetching(machine, EVIL, 10**7, None)
        lines.fetching(machine, EVIL, 0, None)
    assert "\x1b]0;" not in out.getvalue()
    assert not set(out.getvalue()) & set("\x07\u202e\x9b\u2066\x08\x00\x85\u2028")
    assert "evil" in out.getvalue()


def test_line_is_one_line() -> None:
    assert line("a\nb\x1b[0m").plain == "a\\nb\\x1b[0m"


def test_nothing_else_makes_what_rich_prints() -> None:
    """No module makes a Text of its own, or gives a Console a bare str, in which rich looks for markup."""
    for path in Path(vmatlas_images.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        imports = [each.module for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
        assert "rich.text" not in imports or path.name == "terminal.py", path
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "print":
                first = call.args[0] if call.args else None
                assert not isinstance(first, ast.Constant | ast.JoinedStr), f"{path}:{call.lineno}"
