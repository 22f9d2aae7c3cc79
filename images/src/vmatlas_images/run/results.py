"""What ran, what did not, and why: the values that a run of the machines comes to. No I/O, no rendering.

Nothing passes in silence: a machine on which no test ran has not passed, and a backend that did not do what its
description says is a failed test.
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from ..describe.machine import Machine

EXPECTED = "expected"
"""The topic of what a machine's description says."""


class ExitCode(enum.IntEnum):
    """What a run's process ends with."""

    PASSED = 0
    TEST_FAILED = 1
    USAGE = 2
    MACHINE_LOST = 3
    REQUIRED_NOT_RUN = 4
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class CaseState(enum.Enum):
    """How one test of a machine ended."""

    PASSED = "passed"
    FAILED = "failed"
    REFUSED = "refused as declared"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Case:
    """One test: its name, the backend and the topic that it is about, how it ended and, unless it passed, why."""

    name: str
    state: CaseState
    backend: str = ""
    reason: str = ""
    seconds: float = 0.0
    topic: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a conformance run tells of a machine.

    `answered` are the backends that answered, `refused` those that refused, each with its reason. `tells` are the
    features that each backend declares, by the names of `vmatlas.backend.Feature`.
    """

    cases: tuple[Case, ...]
    answered: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    tells: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class State(enum.Enum):
    """What became of a machine."""

    RAN = "ran"
    LOST = "lost"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class MachineResult:
    """All that is to be told of one machine. `seconds` are by stage; `reason` says why it was lost or did not run.

    `processor` is what it cost: seconds of a processor for `boot`, `test` (in the emulator) and `suite` (beside it).
    """

    machine: Machine
    state: State
    reason: str = ""
    kernel: str = ""
    source: str = ""
    accelerator: str = ""
    accelerator_reason: str = ""
    outcome: Outcome = Outcome(())
    console: Path | None = None
    last_words: str = ""
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    processor: Mapping[str, float] = field(default_factory=dict)

    def count(self, state: CaseState) -> int:
        """How many tests ended so."""
        return sum(case.state is state for case in self.outcome.cases)

    @property
    def has_passed(self) -> bool:
        """It ran, at least one test passed, and none failed."""
        return self.state is State.RAN and self.count(CaseState.PASSED) > 0 and self.count(CaseState.FAILED) == 0

    @property
    def verdict(self) -> str:
        """One word or two, for a table."""
        if self.state is State.RAN:
            return "passed" if self.has_passed else "FAILED" if self.count(CaseState.FAILED) else "NOTHING RAN"
        return "LOST" if self.state is State.LOST else "NOT RUN"

    @property
    def total_seconds(self) -> float:
        """From the fetch to the end of the tests."""
        return sum(self.seconds.values())

    @property
    def processor_seconds(self) -> float:
        """Of a processor, in all; 0 where it cost none, or that was not told."""
        return sum(self.processor.values())


@dataclass(frozen=True)
class Report:
    """A run of machines. `left_out` are those that were not asked for, `left_out_by` says by what; `made` is when."""

    results: tuple[MachineResult, ...]
    seconds: float = 0.0
    left_out: tuple[Machine, ...] = ()
    left_out_by: str = ""
    made: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def processor_seconds(self) -> float:
        """What all machines cost."""
        return sum(result.processor_seconds for result in self.results)

    def share(self, result: MachineResult) -> float:
        """A machine's part of that: 0 to 1."""
        return result.processor_seconds / self.processor_seconds if self.processor_seconds else 0.0

    def unmet(self, required: Iterable[str]) -> list[str]:
        """What of `required` did not run, each as a sentence.

        An entry is a system, of which at least one machine must have run, or a pattern of names, all of which must.
        """
        sentences = []
        for entry in required:
            of_system = [result for result in self.results if result.machine.system == entry]
            named = [result for result in self.results if fnmatch.fnmatchcase(result.machine.name, entry)]
            wanted = of_system or named
            missing = [result for result in wanted if result.state is State.NOT_RUN]
            away = [m.name for m in self.left_out if m.system == entry or fnmatch.fnmatchcase(m.name, entry)]
            if away and not of_system:
                sentences.append(f"{entry}: required, and {self.left_out_by} leaves out {', '.join(away)}")
            elif not wanted:
                sentences.append(f"{entry}: required, and no machine is called so or is of that system")
            elif of_system and len(missing) < len(wanted):
                continue
            else:
                sentences += [f"{result.machine.name}: required, not run: {result.reason}" for result in missing]
        return sentences

    def met(self, required: Iterable[str]) -> list[str]:
        """How those of `required` that are systems are met, each as a sentence: one machine is enough, not all."""
        sentences = []
        for entry in required:
            of_system = [result for result in self.results if result.machine.system == entry]
            ran = [result.machine.name for result in of_system if result.state is State.RAN]
            away = [machine.name for machine in self.left_out if machine.system == entry]
            if not ran:
                continue
            parts = [
                f"{entry}: {len(ran)} of {len(of_system) + len(away)} machines of that system ran: {', '.join(ran)}"
            ]
            for state in (State.LOST, State.NOT_RUN):
                if names := [result.machine.name for result in of_system if result.state is state]:
                    parts.append(f"{state.value}: {', '.join(names)}")
            if away:
                parts.append(f"left out by {self.left_out_by}: {', '.join(away)}")
            if len(parts) > 1:
                parts.append("one that ran is enough for a system; a pattern of names requires each")
            sentences.append("; ".join(parts))
        return sentences

    def exit_code(self, required: Iterable[str] = ()) -> ExitCode:
        """The worst that happened: a failed test, then a lost machine, then something required (or all) not run."""
        ran = [result for result in self.results if result.state is State.RAN]
        if any(not result.has_passed for result in ran):
            return ExitCode.TEST_FAILED
        if any(result.state is State.LOST for result in self.results):
            return ExitCode.MACHINE_LOST
        if not ran or self.unmet(required):
            return ExitCode.REQUIRED_NOT_RUN
        return ExitCode.PASSED


def with_expectations(machine: Machine, outcome: Outcome) -> Outcome:
    """The outcome, with a test for each that the description says must answer or must refuse, and why: backends, and
    sources of pages."""
    outcome = replace(outcome, cases=tuple(_as_declared(case, machine.expect.lacks) for case in outcome.cases))
    cases = [_must_lack(name, reason, outcome) for name, reason in machine.expect.lacks.items()]
    cases += [_must_answer(name, outcome) for name in machine.expect.all_answering]
    cases += [_must_refuse(name, reason, outcome) for name, reason in machine.expect.all_refusing.items()]
    return replace(outcome, cases=(*outcome.cases, *cases))


def _must_answer(backend: str, outcome: Outcome) -> Case:
    name = "expect: answers"
    if backend in outcome.answered:
        return Case(name, CaseState.PASSED, backend, topic=EXPECTED)
    refusal = outcome.refused.get(backend)
    reason = f"it must answer here, and {f'refuses: {refusal}' if refusal is not None else 'was not asked'}"
    return Case(name, CaseState.FAILED, backend, reason, topic=EXPECTED)


def _must_refuse(backend: str, reason: str, outcome: Outcome) -> Case:
    name = f"expect: refuses ({reason})"
    said = outcome.refused.get(backend)
    if said is not None and reason.lower() in said.lower():
        return Case(name, CaseState.REFUSED, backend, said, topic=EXPECTED)
    if said is not None:
        return Case(name, CaseState.FAILED, backend, f"it refuses, but says: {said}", topic=EXPECTED)
    found = "it answers" if backend in outcome.answered else "it was not asked"
    return Case(name, CaseState.FAILED, backend, f"it must refuse here, and {found}", topic=EXPECTED)


def _fits(name: str, pattern: str) -> bool:
    """Whether it is that test; `*` is any text, and all else is itself: names of tests have brackets."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _as_declared(case: Case, lacks: Mapping[str, str]) -> Case:
    """A test that failed as the description says that it must here is no fault: the kernel refuses that."""
    for pattern, reason in lacks.items():
        if case.state is CaseState.FAILED and _fits(case.name, pattern) and reason.lower() in case.reason.lower():
            return replace(case, state=CaseState.REFUSED, reason=f"the machine is declared so: {case.reason}")
    return case


def _must_lack(pattern: str, reason: str, outcome: Outcome) -> Case:
    name = f"expect: lacks {pattern}"
    for case in outcome.cases:
        if case.state is CaseState.REFUSED and _fits(case.name, pattern) and reason.lower() in case.reason.lower():
            return Case(name, CaseState.PASSED, topic=EXPECTED)
    return Case(name, CaseState.FAILED, reason=f"no such test failed, and said '{reason}'", topic=EXPECTED)


def in_order(results: Sequence[MachineResult], machines: Sequence[Machine]) -> tuple[MachineResult, ...]:
    """The results in the order of the machines that were asked for."""
    place = {machine.name: index for index, machine in enumerate(machines)}
    return tuple(sorted(results, key=lambda result: place[result.machine.name]))


def console_of(folder: Path, machine: str) -> Path:
    """Where a run that is kept in a folder has a machine's console."""
    return folder / "consoles" / f"{machine}.log"
