"""The conformance suite on a running machine, in a process of its own: from its JUnit file to an `Outcome`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from ..errors import ImagesError
from ..fetch.guarded import Guarded
from .boot import RunningMachine
from .results import Case, CaseState, Outcome

_DECLARED = "refused as declared: "
"""How the reason of a skip begins when the target's system has no such thing, and says so."""
_PATIENT = 6
"""Times the patience with an agent that a person has: an emulated machine on a host with much to do answers late, and
what holds one up for good is found by the stage's limit, or on its console."""
_MOST_CASES = 50_000  # a hundred times what a suite has
_GRACE = 60  # seconds beside the stage's own limit, which ends the machine and so the suite


def conform(machine: RunningMachine) -> Outcome:
    """Run the suite against the machine's agent. What it printed is kept beside the console.

    Raises ImagesError when the suite did not come to its end.
    """
    machine.stream.close()  # the suite connects by itself, and the agent's port takes one at a time
    junit = machine.console_path.absolute().with_suffix(".xml")
    printed = machine.console_path.with_suffix(".conformance.txt")
    junit.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "vmatlas.conformance", "-q", f"--junit-xml={junit}"]
    scale = machine.accelerator.scale
    command += [f"--vmatlas-target=unix:{machine.socket_path}", f"--vmatlas-patience={_PATIENT * scale:g}"]
    limit = machine.machine.limits.test * scale + _GRACE
    with printed.open("wb") as output:
        suite = Guarded(command, output=output)
        try:
            status = suite.wait(limit)
        finally:
            suite.end()
            if suite.processor_seconds is not None:
                machine.processor["suite"] = suite.processor_seconds
    if status not in (0, 1) or not junit.is_file():
        last = " ".join(printed.read_text("utf-8", "replace").split())[-400:]
        ended = f"ended with status {status}" if status is not None else f"was not through within {limit:.0f} s"
        raise ImagesError(f"the conformance suite {ended}: {last}", hint=f"see {printed}")
    return read_junit(junit, target=f"unix:{machine.socket_path}", called=f"qemu:{machine.machine.name}")


def read_junit(path: Path, *, target: str = "", called: str = "") -> Outcome:
    """The outcome that a JUnit file of the conformance suite tells. Raises ImagesError for one that is none.

    It may be a guest's, and then says what it likes. Reasons name the target `called` where the suite knew it as
    `target`, a socket that is gone when they are read.
    """
    try:
        elements = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise ImagesError(f"{path} is no report of the conformance suite: {error}") from error
    if len(elements) > _MOST_CASES:
        raise ImagesError(f"{path} is no report of the conformance suite: it has {len(elements):,} cases")
    cases: list[Case] = []
    answered: list[str] = []
    refused: dict[str, str] = {}
    tells: dict[str, tuple[str, ...]] = {}
    for element in elements:
        facts = {found.get("name", ""): found.get("value", "") for found in element.iter("property")}
        backend = facts.get("backend", "")
        if "answers" in facts:
            answered.append(backend)
        if "tells" in facts:
            tells[backend] = tuple(facts["tells"].split())
        if "refuses" in facts:
            refused[backend] = facts["refuses"]
        cases.append(_case(element, backend, facts.get("refused")))
    if target:
        cases = [replace(case, reason=case.reason.replace(target, called)) for case in cases]
        refused = {backend: why.replace(target, called) for backend, why in refused.items()}
    return Outcome(tuple(cases), tuple(answered), refused, tells)


def _case(element: ElementTree.Element, backend: str, refused: str | None) -> Case:
    """`refused`: what the backend said when it refused what it declares not to tell."""
    name, seconds = element.get("name", "?"), _seconds(element.get("time"))
    topic = topic_of(element.get("classname", ""))
    for tag, state in (
        ("failure", CaseState.FAILED),
        ("error", CaseState.FAILED),
        ("skipped", CaseState.NOT_RUN),
    ):
        if (found := element.find(tag)) is not None:
            said = found.get("message") or (found.text or "")[-400:]
            if state is CaseState.NOT_RUN and said.startswith(_DECLARED):
                return Case(name, CaseState.REFUSED, backend, said.removeprefix(_DECLARED), seconds, topic)
            return Case(name, state, backend, said, seconds, topic)
    if refused is not None:
        return Case(name, CaseState.REFUSED, backend, refused, seconds, topic)
    return Case(name, CaseState.PASSED, backend, "", seconds, topic)


def _seconds(said: str | None) -> float:
    """0 for what is no time."""
    try:
        seconds = float(said or 0)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0


def topic_of(module: str) -> str:
    """What the tests of a module are about, by its name."""
    return module.rpartition(".")[2].removeprefix("test_").replace("_", " ")
