"""What works on a target and what does not, as a value: the answer of `vmatlas doctor`.

Nothing here raises for what is broken: each thing that is wrong is part of the answer.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmatlas import choice, compiled, registry
from vmatlas.backend import Availability, HasTwin
from vmatlas.errors import VmatlasError
from vmatlas.model import Filter, Protection, Query, SystemInfo, columns
from vmatlas.model.pages import USUAL
from vmatlas.registry import Broken

if TYPE_CHECKING:
    from vmatlas.backend import Feature, Target
    from vmatlas.operations.contract import Ability

QUESTIONS = {
    "whole map": Query(),
    "filtered map": Query(where=Filter(given=Protection.WRITE)),
    "point query": Query(address=0x1000),
    "residency": Query(residency=True),
    "build ids": Query(build_ids=True),
}
"""An example of each question."""

GROUPS = (registry.BACKENDS, registry.PAGES, registry.SYSTEMS, registry.OPERATIONS, registry.TARGETS)
"""The entry-point groups whose entries are looked at."""


@dataclass(frozen=True, slots=True)
class BackendReport:
    """How one installed backend stands."""

    name: str
    distribution: str
    available: bool
    reason: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageSourceReport:
    """How one installed source of pages stands."""

    name: str
    distribution: str
    available: bool
    reason: str
    states: tuple[str, ...]
    """What it can tell of a page; a kernel may tell less."""


@dataclass(frozen=True, slots=True)
class TwinReport:
    """Which of its twins does a job here: the compiled one, or the one in Python."""

    job: str
    compiled: bool
    reason: str
    """Why the compiled one does not; empty where it does."""


@dataclass(frozen=True, slots=True)
class ChoiceReport:
    """Which backend answers a kind of question, and why; or why none does."""

    question: str
    backend: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A plugin that cannot be used, or a part of the answer that could not be had."""

    what: str
    reason: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Checkup:
    """The whole answer."""

    version: str
    python: str
    target: str
    system: SystemInfo | None
    rights: tuple[tuple[str, str], ...]
    backends: tuple[BackendReport, ...]
    page_sources: tuple[PageSourceReport, ...]
    choices: tuple[ChoiceReport, ...]
    twins: tuple[TwinReport, ...]
    operations: str
    """The memory operations of that system, in words; "" when the system is not known."""
    troubles: tuple[Trouble, ...]

    @property
    def answers(self) -> bool:
        """Whether maps can be read at all."""
        return any(each.backend for each in self.choices if each.question == "whole map")


def check_up(target: Target) -> Checkup:
    """Ask the target and every installed plugin."""
    import platform

    from vmatlas import __version__

    troubles: list[Trouble] = []
    system: SystemInfo | None = None
    rights: tuple[tuple[str, str], ...] = ()
    try:
        system = target.system_info
        rights = tuple(target.rights())
    except VmatlasError as error:
        troubles.append(Trouble(f"the system of target {target.name}", error.message, error.hint))
    troubles += _broken_plugins()
    return Checkup(
        version=__version__,
        python=platform.python_version(),
        target=target.name,
        system=system,
        rights=rights,
        backends=_backends(target, system),
        page_sources=_page_sources(target, system),
        choices=(*(_choose(target, *each) for each in QUESTIONS.items()), _choose_for_pages(target)) if system else (),
        twins=_twins(),
        operations=_operations(system),
        troubles=tuple(troubles),
    )


def _operations(system: SystemInfo | None) -> str:
    if system is None:
        return ""
    from vmatlas.operations.contract import Ability
    from vmatlas.operations.systems import operations_of

    try:
        found = operations_of(system.system)
    except VmatlasError as error:
        return f"none: {error.message}" + (f" ({error.hint})" if error.hint else "")
    able = [_word(ability) for ability in Ability if ability in found.abilities]
    lacking = [_word(ability) for ability in Ability if ability not in found.abilities]
    return f"{found.distribution}: {', '.join(able)}" + (f"; not {', '.join(lacking)}" if lacking else "")


def _word(ability: Ability) -> str:
    return (ability.name or "").lower().replace("_", "-")


def _backends(target: Target, system: SystemInfo | None) -> tuple[BackendReport, ...]:
    if system is None:
        return ()
    try:
        considered = choice.consider(target)
    except VmatlasError:
        return ()  # told among the troubles of the plugins
    return tuple(
        BackendReport(
            name=each.name,
            distribution=each.distribution,
            available=bool(each.availability),
            reason=each.availability.reason,
            features=() if each.backend is None else _feature_names(each.backend.features),
        )
        for each in considered
    )


def _page_sources(target: Target, system: SystemInfo | None) -> tuple[PageSourceReport, ...]:
    if system is None:
        return ()
    try:
        sources = registry.page_sources()
    except VmatlasError:
        return ()  # told among the troubles of the plugins
    found: list[PageSourceReport] = []
    for each in sources:
        states: tuple[str, ...] = ()
        if isinstance(each, Broken):
            answers = Availability(False, f"cannot be loaded: {each.reason}")
        else:
            answers, states = target.offers(each), tuple(each.states.words)
        found.append(PageSourceReport(each.name, each.distribution, bool(answers), answers.reason, states))
    return tuple(found)


def _twins() -> tuple[TwinReport, ...]:
    """What core has, then each backend and each source of pages that has one."""
    from vmatlas.operations import buffers
    from vmatlas.symbols import table

    jobs = [
        ("regions from columns", columns.MODULE),
        ("buffers of mappings", buffers.MODULE),
        ("names for addresses", table.MODULE),
    ]
    for plugins in (registry.backends, registry.page_sources):
        with contextlib.suppress(VmatlasError):  # told among the troubles of the plugins
            jobs += [(each.name, each.compiled) for each in plugins() if isinstance(each, HasTwin)]
    twins = [(job, compiled.twin(module)) for job, module in jobs]
    return tuple(TwinReport(job, twin.serves, twin.reason) for job, twin in twins)


def _feature_names(features: Feature) -> tuple[str, ...]:
    return tuple(feature.name.lower().replace("_", "-") for feature in features if feature.name)


def _choose(target: Target, name: str, query: Query) -> ChoiceReport:
    try:
        chosen = choice.choose(target, query)
    except VmatlasError as error:
        return ChoiceReport(name, None, error.message)
    return ChoiceReport(name, chosen.backend.name, chosen.reason)


def _choose_for_pages(target: Target) -> ChoiceReport:
    try:
        chosen = choice.choose_for_pages(target, USUAL, all_of_it=False)
    except VmatlasError as error:
        return ChoiceReport("pages", None, error.message)
    told = ", ".join((chosen.states & USUAL).words)
    return ChoiceReport("pages", chosen.name, f"of what costs little it tells most, at the least cost: {told}")


def _broken_plugins() -> list[Trouble]:
    """Entries that cannot be loaded, and groups in which two distributions fight for a name."""
    found: list[Trouble] = []
    for group in GROUPS:
        try:
            broken = registry.broken(group)
        except VmatlasError as error:
            found.append(Trouble(group, error.message, error.hint))
            continue
        found += [
            Trouble(
                f"plugin '{each.name}' of {each.distribution} ({group})",
                f"cannot be loaded: {each.reason}",
                f"mend it, or take it off the list: pip uninstall {each.distribution}",
            )
            for each in broken
        ]
    return found
