"""The page of a run: one HTML file, with all in it, that can be published, and its twin in 80 columns of text. It works
without scripts and asks nobody.

Whatever comes from a machine (consoles, reasons, kernel names) is hostile: the template engine escapes all of it, and
what has no place in a text is made visible.
"""

from __future__ import annotations

import ast
import errno
import io
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from vmatlas.backend import Feature
from vmatlas.picture.html import look

from ..files import replace_file
from ..run.conform import topic_of
from ..run.results import EXPECTED, Case, CaseState, MachineResult, Report, State
from ..terminal import line
from .history import Entry, courses, with_runs
from .record import Record
from .shown import spent, summary

CONSOLE_BYTES = 64 * 1024
"""How much of a console's end the page has."""

TEXT_COLUMNS = 80
"""How wide the page is as text: a terminal, a mail."""

PACKAGES = "packages"
"""The topic of all tests that are not the suite's: those of the packages, where a guest's own Python ran them."""

_WORDS = {
    CaseState.FAILED: "failed",
    CaseState.NOT_RUN: "not run",
    CaseState.REFUSED: "refused",
    CaseState.PASSED: "passed",
}
_SIGNS = {
    CaseState.FAILED: "\N{BALLOT X}",
    CaseState.NOT_RUN: "\N{EMPTY SET}",
    CaseState.REFUSED: "\N{SQUARED MINUS}",
    CaseState.PASSED: "\N{CHECK MARK}",
}
COLOURS = {
    "light": {
        CaseState.PASSED: ("#dff1e3", "#0f4f22"),
        CaseState.FAILED: ("#7a1008", "#ffffff"),
        CaseState.REFUSED: ("#8ec6f2", "#0a1f33"),
        CaseState.NOT_RUN: ("#f6c94a", "#221a00"),
    },
    "dark": {
        CaseState.PASSED: ("#1d3a27", "#bfeccb"),
        CaseState.FAILED: ("#ff8f7d", "#1d0400"),
        CaseState.REFUSED: ("#2a58b8", "#ffffff"),
        CaseState.NOT_RUN: ("#e8b63a", "#1d1400"),
    },
}
"""The ground and the ink of each state, by daylight (and on paper) and at night: a test computes how far the grounds
are apart, also for those who see fewer colours. Each state has its sign besides."""
_OF_MACHINES = {CaseState.FAILED: ("lost", "nothing-ran"), CaseState.NOT_RUN: ("left-out",)}
"""What is said of machines, and shown as that state."""
_KIND = {state: state.name.lower().replace("_", "-") for state in CaseState}


@dataclass(frozen=True)
class Claim:
    """A test of the suite with all values that it ran with: what it claims, and how each ended."""

    text: str
    cases: tuple[tuple[str, Case], ...]
    """The values, as text, and the case."""


@dataclass(frozen=True)
class Cell:
    """What one backend on one machine came to in one topic."""

    machine: str
    backend: str
    topic: str
    claims: tuple[Claim, ...]
    counts: tuple[tuple[CaseState, int], ...]
    """The worst first; those that are 0 are left out."""

    @property
    def kind(self) -> str:
        """The name of its worst state, for the style; `none` when there is no test."""
        return _KIND[self.counts[0][0]] if self.counts else "none"

    @property
    def says(self) -> str:
        """`1 failed, 24 passed`."""
        return ", ".join(f"{count} {_WORDS[state]}" for state, count in self.counts)

    @property
    def shows(self) -> str:
        """The same in signs."""
        return " ".join(f"{_SIGNS[state]} {count}" for state, count in self.counts)


@dataclass(frozen=True)
class Row:
    """One backend on a machine. `why` tells of a backend that refused the machine."""

    backend: str
    cells: tuple[Cell, ...]
    why: str
    asked: frozenset[str]
    """The topics in which the backends of this machine are asked at all."""


@dataclass(frozen=True)
class Block:
    """The rows of one machine, and what else is to be told of it."""

    result: MachineResult
    rows: tuple[Row, ...]
    console: str
    omitted: int
    """Bytes of the console before those that are here."""
    printed: str
    """What the suite printed, if a test failed."""

    @property
    def kind(self) -> str:
        """The name of its verdict, for the style."""
        return self.result.verdict.lower().replace(" ", "-")


def write_page(record: Record, path: Path, history: Sequence[Entry] = ()) -> None:
    """Make the page: as text where the name ends in .txt, else as HTML. `history` are earlier runs; the record's own
    are added.

    Consoles are read where the report says that they lie; one that is no file there is said so.
    """
    as_text = path.suffix.lower() == ".txt"
    made = render_text(record, history) if as_text else render(record, history)
    replace_file(path, made.encode("utf-8"))


def render(record: Record, history: Sequence[Entry] = ()) -> str:
    """The page as text."""
    found = topics(record.report)
    days, drawn = courses(with_runs(history, [record]))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            record=record,
            report=record.report,
            summary=summary(record.report),
            topics=found,
            about=[(topic, _about()[topic]) for topic in found],
            blocks=[_block(result, found) for result in record.report.results],
            State=State,
            CaseState=CaseState,
            kinds=_KIND,
            legend=", ".join(f"{_SIGNS[state]} {state.value}" for state in CaseState),
            features=[str(feature.name) for feature in Feature],
            tells=_tells(record.report),
            days=days,
            courses=drawn,
            signs=_SIGNS,
            spent=spent,
            look=Markup(look()),
            colours=Markup(_colours()),
        )
    )


def _colours() -> str:
    def rules(of: str) -> str:
        return "\n".join(
            f"{', '.join(f'.{kind}:is(summary, .state)' for kind in (_KIND[state], *_OF_MACHINES.get(state, ())))} "
            f"{{ background: {ground}; color: {ink}; }}"
            for state, (ground, ink) in COLOURS[of].items()
        )

    return f"{rules('light')}\n@media screen and (prefers-color-scheme: dark) {{\n{rules('dark')}\n}}"


def render_text(record: Record, history: Sequence[Entry] = ()) -> str:
    """The same in TEXT_COLUMNS, for a terminal or a mail. Of consoles it has what a lost machine said last; of tests
    how many ended how, and the reasons of those that did not pass."""
    report, found = record.report, topics(record.report)
    out = Console(file=io.StringIO(), width=TEXT_COLUMNS, color_system=None, highlight=False, soft_wrap=False)

    def say(words: str, indent: int = 0) -> None:
        out.print(Padding(line(words), (0, 0, 0, indent)))

    say("vmatlas on real kernels")
    say(f"{summary(report)}.")
    say(f"Made {report.made:%Y-%m-%d %H:%M} UTC by vmatlas {record.vmatlas}.")
    for result in report.results:
        say("")
        _say_machine(result, report.share(result), found, out)
    for machine in report.left_out:
        say("")
        say(f"{machine.name}: left out by {report.left_out_by}")
    for title, told in (
        ("What the topics are", [(topic, _about()[topic]) for topic in found]),
        ("What each backend tells, as it declares", _said_features(report)),
    ):
        if told:
            say("")
            say(title)
        for name, words in told:
            say(f"{name}: {words}", 2)
    days, drawn = courses(with_runs(history, [record]))
    if drawn:
        say("")
        say(f"What passed on which kernel, on the last {len(days)} days on which anything ran")
    for course in drawn:
        for entry in filter(None, course.entries):
            lost = ", lost" if entry.lost else ""
            say(f"{course.machine}: {entry.day}: {entry.passed} passed, {entry.failed} failed{lost}: {entry.kernel}", 2)
    assert isinstance(out.file, io.StringIO)
    return "".join(f"{each.rstrip()}\n" for each in out.file.getvalue().splitlines())


def _said_features(report: Report) -> list[tuple[str, str]]:
    known = [str(feature.name) for feature in Feature]
    return [
        (backend, ", ".join(each.lower().replace("_", " ") for each in known if each in told) or "nothing besides maps")
        for backend, told in _tells(report).items()
    ]


def _say_machine(result: MachineResult, share: float, found: Sequence[str], out: Console) -> None:
    """Its row of the page: the verdict, how many tests of each backend ended how, and why those that did not pass."""

    def say(words: str, indent: int) -> None:
        out.print(Padding(line(words), (0, 0, 0, indent)))

    labels = f" ({', '.join(result.machine.labels)})" if result.machine.labels else ""
    say(f"{result.machine.name}: {result.verdict}{labels}", 0)
    facts = (result.kernel or "kernel not known", result.machine.processor, result.accelerator)
    say(", ".join(filter(None, (*facts, f"{result.total_seconds:.0f} s"))), 2)
    if result.processor:
        say(f"processor time: {spent(result)}: {share:.0%} of what all machines took", 2)
    for words in filter(None, (result.reason, *result.notes)):
        say(words, 2)
    if result.last_words:
        say("Its last words:", 2)
        for words in result.last_words.splitlines():
            say(words, 4)
    rows = list(_rows(result, found))
    if not rows:
        return
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=40, overflow="fold")
    for _ in _WORDS:
        table.add_column(width=8, justify="right", overflow="fold")
    table.add_row(line(""), *(line(word) for word in reversed(_WORDS.values())))
    for row in rows:
        counts = [sum(dict(cell.counts).get(state, 0) for cell in row.cells) for state in reversed(_WORDS)]
        table.add_row(line(row.backend or "any"), *(line(f"{count:,}") for count in counts))
    out.print(Padding(table, (0, 0, 0, 2)))
    for row in rows:
        for words in _stories(row):
            say(words, 4)


def _stories(row: Row) -> Iterator[str]:
    """Why a backend refused a machine, what failed, and why others of its tests did not pass: each reason once."""
    name = row.backend or "any"
    if row.why:
        yield f"{name} refuses: {row.why}"
    others: dict[tuple[CaseState, str], list[str]] = {}
    for cell in row.cells:
        for claim in cell.claims:
            for _, case in claim.cases:
                if case.state is CaseState.FAILED:
                    yield f"{name}, {cell.topic}: FAILED: {claim.text}: {case.reason}"
                elif case.state is not CaseState.PASSED:
                    others.setdefault((case.state, case.reason), []).append(cell.topic)
    for (state, reason), found in others.items():
        yield f"{name}: {len(found)} {state.value} ({', '.join(dict.fromkeys(found))}): {reason}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vmatlas_images.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["seconds"] = lambda value: f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
    return environment


def topics(report: Report) -> list[str]:
    """The columns, in an order of their own: what the descriptions say, the suite's topics, the packages' tests."""
    found = {_topic(case) for result in report.results for case in result.outcome.cases}
    return [topic for topic in _about() if topic in found | {EXPECTED}]


@cache
def _about() -> dict[str, str]:
    """What each topic is about. The suite's modules say it of theirs in the first line of their docstrings."""
    modules = sorted(files("vmatlas.conformance.suite").iterdir(), key=lambda module: module.name)
    suite = {
        topic_of(module.name.removesuffix(".py")): ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
        for module in modules
        if module.name.startswith("test_")
    }
    return {
        EXPECTED: "What the machine's description says comes true: its kernel, and which backends answer or refuse.",
        **{topic: said.partition("\n")[0] for topic, said in suite.items()},
        PACKAGES: "The packages are installed on the guest's own Python, and their own tests pass there.",
    }


def _tells(report: Report) -> dict[str, frozenset[str]]:
    """What each backend declares to tell."""
    told: dict[str, frozenset[str]] = {}
    for result in report.results:
        for backend, features in result.outcome.tells.items():
            told[backend] = told.get(backend, frozenset()) | set(features)
    return dict(sorted(told.items()))


def _block(result: MachineResult, found: Sequence[str]) -> Block:
    console, omitted = _tail(result.console)
    failed = result.count(CaseState.FAILED) > 0
    printed = _tail(result.console.with_suffix(".conformance.txt"))[0] if failed and result.console else ""
    return Block(result, tuple(_rows(result, found)), console, omitted, printed)


def _topic(case: Case) -> str:
    """A fault of ours has no topic of the suite: it stands with what was expected."""
    topic = case.topic or EXPECTED
    return topic if topic in _about() else PACKAGES


def _rows(result: MachineResult, found: Sequence[str]) -> Iterator[Row]:
    outcome = result.outcome
    cases: dict[str, list[Case]] = {name: [] for name in (*outcome.answered, *outcome.refused)}
    for case in outcome.cases:
        cases.setdefault(case.backend, []).append(case)
    asked = frozenset(_topic(case) for case in outcome.cases if case.backend)
    for backend in sorted(cases, key=lambda name: (name == "", name)):
        cells = [_cell(result.machine.name, backend, topic, cases[backend]) for topic in found]
        yield Row(backend, tuple(cells), outcome.refused.get(backend, ""), asked)


def _cell(machine: str, backend: str, topic: str, cases: Sequence[Case]) -> Cell:
    own = [case for case in cases if _topic(case) == topic]
    taken = [(_taken_apart(case, backend), case) for case in own]
    claims = tuple(
        Claim(text, tuple((values, case) for (_, values), case in group))
        for text, group in groupby(taken, key=lambda each: each[0][0])
    )
    counts = [(state, sum(case.state is state for case in own)) for state in _WORDS]
    return Cell(machine, backend, topic, claims, tuple((state, count) for state, count in counts if count))


def _taken_apart(case: Case, backend: str) -> tuple[str, str]:
    """A test's name as a claim, and the values that it ran with but for the backend."""
    test, _, values = case.name.partition("[")
    if values.endswith("]"):
        values = values[:-1]
    else:  # no name that pytest gives
        test, values = case.name, ""
    if values == backend:
        values = ""
    for at in (f"{backend}-", f"-{backend}"):
        values = values.removeprefix(at) if at.endswith("-") else values.removesuffix(at)
    claim = test.removeprefix("test_").replace("_", " ")
    return f"{case.topic}: {claim}" if _topic(case) == PACKAGES else claim, values


def _tail(path: Path | None) -> tuple[str, int]:
    """The end of a file as text, and how many bytes before it are left out."""
    if path is None:
        return "", 0
    try:
        with os.fdopen(_open_own(path), "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - CONSOLE_BYTES))
            return file.read(CONSOLE_BYTES).decode("utf-8", "replace"), max(0, size - CONSOLE_BYTES)
    except OSError as error:
        return f"(it cannot be read any more: {error.strerror})", 0


def _open_own(path: Path) -> int:
    """A descriptor of a regular file in a real folder. Who sends a run, files and all, sends no way out of it.

    Raises OSError for a link, a pipe, a device.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # A pipe is not waited for: it is opened at once, and then refused.
        found = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "it is no regular file")
    return found


def visible(text: str) -> str:
    """The text with line ends of one sort, and with a mark in place of each character that cannot be seen or would
    turn the order of others round."""
    *lines, last = text.split("\n")
    return "".join(map(_mark, "\n".join([*(line.rstrip("\r") for line in lines), last])))


def _mark(character: str) -> str:
    if character in "\t\n" or " " <= character <= "~":
        return character
    if character < " ":
        return chr(0x2400 + ord(character))  # the control pictures
    if character == "\x7f":
        return "\N{SYMBOL FOR DELETE}"
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"):
        return f"\N{LEFT-POINTING ANGLE BRACKET}U+{ord(character):04X}\N{RIGHT-POINTING ANGLE BRACKET}"
    return character
