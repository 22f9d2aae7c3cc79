"""Shows and keeps what a run came to: the table, JUnit's XML, the live lines. It counts nothing itself: `results`
does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from vmatlas.cli.render.text import one_line

from ..describe.machine import Machine
from ..files import replace_file
from ..run.results import CaseState, MachineResult, Report, State
from ..terminal import line

_STYLES = {"passed": "green", "FAILED": "bold red", "LOST": "bold red", "NOT RUN": "yellow", "NOTHING RAN": "bold red"}
ROOMY = 140
"""Columns from which on the table tells kernels and backends; the page tells them anyhow."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def table(report: Report, columns: int = ROOMY) -> Table:
    """One row a machine, in 80 columns: accelerator, passed, failed, refused as declared, verdict, seconds.

    Where there are ROOMY `columns`, kernel and backends too. Why a machine did not run is a sentence, which no column
    of a table holds: `show` prints those below.
    """
    is_roomy = columns >= ROOMY
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("machine", overflow="fold")
    if is_roomy:
        shown.add_column("kernel", overflow="fold")
    shown.add_column("accel", no_wrap=True)
    if is_roomy:
        shown.add_column("backends", overflow="fold")
    for name in ("passed", "failed", "refused"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("result", no_wrap=True)
    shown.add_column("s", justify="right", no_wrap=True)
    for result in report.results:
        shown.add_row(
            line(result.machine.name),
            *([line(result.kernel or "-")] if is_roomy else []),
            line(result.accelerator or "-"),
            *([line(" ".join(result.outcome.answered) or "-")] if is_roomy else []),
            *(line(str(result.count(state))) for state in (CaseState.PASSED, CaseState.FAILED, CaseState.REFUSED)),
            line(result.verdict, style=_STYLES[result.verdict]),
            line(f"{result.total_seconds:.0f}"),
        )
    return shown


def _show_story(result: MachineResult, console: Console) -> None:
    """What is to be said of one machine beside its row: a line each."""
    name = result.machine.name
    failed = [case for case in result.outcome.cases if case.state is CaseState.FAILED]
    for case in failed:
        where = f"{name} {case.backend}".strip()
        console.print(line(f"FAILED {where}: {case.name}: {case.reason}", style="red"))
    if result.reason:
        labels = f" ({', '.join(result.machine.labels)})" if result.machine.labels else ""
        console.print(line(f"{result.verdict} {name}{labels}: {result.reason}", style=_STYLES[result.verdict]))
    if result.state is State.LOST:
        for words in result.last_words.splitlines()[-8:]:
            console.print(line(f"    {words}"))
    if result.console is not None and (failed or result.state is State.LOST):
        console.print(line(f"    its console: {result.console}"))
    if not_run := result.count(CaseState.NOT_RUN):
        reasons = sorted({case.reason for case in result.outcome.cases if case.state is CaseState.NOT_RUN})
        console.print(line(f"{name}: {_counted(not_run, 'test')} not run: {'; '.join(reasons)}", style="yellow"))
    for note in result.notes:
        console.print(line(f"{name}: {note}", style="yellow"))


def show(report: Report, console: Console, required: Collection[str] = ()) -> None:
    """Prints the table, what failed, what did not run and why, why an accelerator was not used, where the consoles are,
    how far what was required ran, and the verdict."""
    console.print(table(report, console.width))
    for result in report.results:
        _show_story(result, console)
    for reason in sorted({f"{r.accelerator}: {r.accelerator_reason}" for r in report.results if r.accelerator}):
        console.print(line(f"Accelerator {reason}"))
    if report.processor_seconds:
        console.print(line(_cost(report)))
    if report.left_out:
        names = ", ".join(machine.name for machine in report.left_out)
        console.print(line(f"LEFT OUT by {report.left_out_by}: {names}", style="yellow"))
    for sentence in report.met(required):
        console.print(line(f"Required {sentence}"))
    for sentence in report.unmet(required):
        console.print(line(f"REQUIRED {sentence}", style="red"))
    console.print(line(summary(report)))


def _cost(report: Report) -> str:
    """What the machines took of processors, the dearest first."""
    dear = sorted((each for each in report.results if each.processor), key=lambda each: -each.processor_seconds)
    told = ", ".join(f"{each.machine.name} {report.share(each):.0%} ({spent(each)})" for each in dear)
    return f"Processor time {report.processor_seconds:.0f} s: {told}"


def spent(result: MachineResult) -> str:
    """`boot 12 s, test 31 s, suite 8 s`."""
    return ", ".join(f"{on} {seconds:.0f} s" for on, seconds in result.processor.items())


def summary(report: Report) -> str:
    """One line. What did not run stands in it beside what did."""
    count = {state: sum(result.count(state) for result in report.results) for state in CaseState}
    ran = sum(result.state is State.RAN for result in report.results)
    lost = sum(result.state is State.LOST for result in report.results)
    left_out = f"{len(report.left_out)} left out, " if report.left_out else ""
    return (
        f"{_counted(len(report.results) + len(report.left_out), 'machine')}: {left_out}"
        f"{ran} ran, {lost} lost, {len(report.results) - ran - lost} not run; "
        f"{_counted(count[CaseState.PASSED], 'test')} passed, {count[CaseState.FAILED]} failed, "
        f"{count[CaseState.REFUSED]} refused as declared, {count[CaseState.NOT_RUN]} not run; {report.seconds:.0f} s"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def write_junit(report: Report, path: Path) -> None:
    """Writes the report for machines to read: one suite a machine; one that was lost, did not run or was left out is a
    case itself.
    """
    root = ElementTree.Element("testsuites", name="vmatlas machines", time=f"{report.seconds:.3f}")
    for result in report.results:
        suite = ElementTree.SubElement(root, "testsuite", name=result.machine.name)
        _fill(suite, result)
    for machine in report.left_out:
        suite = ElementTree.SubElement(root, "testsuite", name=machine.name, tests="1", skipped="1")
        element = _case(suite, machine.name, "the machine", 0.0)
        ElementTree.SubElement(element, "skipped", message=_xml(f"left out by {report.left_out_by}"))
    replace_file(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _fill(suite: ElementTree.Element, result: MachineResult) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "kernel": result.kernel,
        "source": result.source,
        "accelerator": result.accelerator,
        "accelerator reason": result.accelerator_reason,
        "backends": " ".join(result.outcome.answered),
        "labels": ", ".join(result.machine.labels),
        "console": str(result.console or ""),
        "notes": "; ".join(result.notes),
        "processor time": spent(result),
    }
    for name, value in facts.items():
        if value:
            ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
    tests, failures, errors, skipped = len(result.outcome.cases), result.count(CaseState.FAILED), 0, 0
    for case in result.outcome.cases:
        at = f"{result.machine.name}.{case.backend}" if case.backend else result.machine.name
        element = _case(suite, at, case.name, case.seconds)
        if case.state is CaseState.FAILED:
            ElementTree.SubElement(element, "failure", message=_xml(case.reason)).text = _xml(case.reason)
        elif case.state is CaseState.NOT_RUN:
            skipped += 1
            ElementTree.SubElement(element, "skipped", message=_xml(case.reason))
        elif case.state is CaseState.REFUSED:
            ElementTree.SubElement(element, "system-out").text = _xml(f"refused as declared: {case.reason}")
    if result.state is State.LOST:
        tests, errors = tests + 1, 1
        element = _case(suite, result.machine.name, "the machine", result.total_seconds)
        ElementTree.SubElement(element, "error", message=_xml(result.reason)).text = _xml(result.last_words)
    elif result.state is State.NOT_RUN or not result.outcome.cases:
        tests, skipped = tests + 1, skipped + 1
        element = _case(suite, result.machine.name, "the machine", result.total_seconds)
        ElementTree.SubElement(element, "skipped", message=_xml(result.reason or "no test ran"))
    counts = {"tests": tests, "failures": failures, "errors": errors, "skipped": skipped}
    suite.attrib.update({name: str(count) for name, count in counts.items()}, time=f"{result.total_seconds:.3f}")


def _case(suite: ElementTree.Element, where: str, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_xml(where), name=_xml(name), time=f"{seconds:.3f}")


def _xml(text: str) -> str:
    """A guest may say anything; XML cannot hold all of it."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


class LiveLines:
    """A live line for each machine: stage, what is fetched, seconds. Where there is no terminal, a line a change of
    stage."""

    def __init__(self, machines: Sequence[Machine], console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.fields[machine]}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[bytes]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {
            machine.name: self._progress.add_task("waits", total=None, machine=machine.name, bytes="", start=False)
            for machine in machines
        }

    def __enter__(self) -> LiveLines:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def follow(self, machine: Machine, stage: str) -> None:
        """For `matrix.run`'s `follow`."""
        task, stage = self._tasks[machine.name], one_line(stage)
        if not self._console.is_terminal:
            self._console.print(line(f"{time.monotonic() - self._started:6.1f} s  {machine.name}: {stage}"))
        elif stage in _STYLES:
            self._progress.update(task, description=stage, total=1, completed=1, bytes="")
            self._progress.stop_task(task)
        else:
            self._progress.start_task(task)
            self._progress.update(task, description=stage, total=None, bytes="")

    def fetching(self, machine: Machine, what: str, done: int, total: int | None) -> None:
        """For `matrix.run`'s `fetching`."""
        size = one_line(f"{what} {done / 1e6:.1f} MB" if done else what)
        self._progress.update(self._tasks[machine.name], total=total, completed=done, bytes=size)
