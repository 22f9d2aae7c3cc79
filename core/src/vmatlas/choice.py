"""Which backend answers which question, and why: a decision that a user can read and override."""

from __future__ import annotations

from vmatlas import registry
from vmatlas.backend import Availability, Backend, Feature, HasNoPages, PageSource, Target, TellsOwnAlone
from vmatlas.errors import Unsupported, UsageError
from vmatlas.installed import how_to_install_for
from vmatlas.model import Query, Question
from vmatlas.registry import Broken
from vmatlas.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.model.pages import PageState


@dataclass(frozen=True, slots=True)
class Considered:
    """One installed backend, and how it stands on a target."""

    name: str
    distribution: str
    availability: Availability
    backend: Backend | None
    """None when the plugin cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend for a question, and the reason in words."""

    backend: Backend
    reason: str
    asked_for: bool
    """The user named it."""


def consider(target: Target, *, of: str | None = None) -> list[Considered]:
    """Every installed backend, by name; with `of`, a system, without those that are named after another."""
    found: list[Considered] = []
    for backend in registry.backends(of):
        if isinstance(backend, Broken):
            reason = f"cannot be loaded: {backend.reason}"
            found.append(Considered(backend.name, backend.distribution, Availability(False, reason), None))
        else:
            found.append(Considered(backend.name, backend.distribution, target.offers(backend), backend))
    return found


def choose(target: Target, query: Query, name: str | None = None, *, needs: Feature = Feature.NONE) -> Choice:
    """The backend that answers best, or the one named.

    `needs` are features that the backend must have. Raises UsageError for an unknown name, and Unsupported when the
    named backend cannot answer, or none can; the message says why for each.
    """
    if query.question is Question.PAGES:
        raise UsageError("no backend is asked about pages", hint="Process.pages asks about them")
    if name is not None:
        return _named(target, query, name)
    candidates = consider(target, of=target.system_info.system)
    needs |= _needs(query)
    ranked = sorted(
        (rank, each.name, each.backend)
        for each in candidates
        if each.backend is not None
        and each.availability
        and needs in each.backend.features
        and (rank := each.backend.rank(query)) is not None
    )
    if not ranked:
        if query.residency and query.build_ids and _answers_each(candidates, query):
            raise Unsupported(
                "no backend tells both the memory in use and build ids here",
                target=target.name,
                hint="ask twice, once for each: residency=True (--residency), build_ids=True (--build-ids)",
            )
        raise Unsupported(
            f"no backend answers the question '{_words(query)}' here: " + _reasons(candidates, query, target),
            target=target.name,
            hint=None if registry.backends() else how_to_install_for(target.system_info.system),
        )
    best = ranked[0][2]
    if len(ranked) > 1:
        reason = f"best for a {query.question.value}; before {', '.join(name for _, name, _ in ranked[1:])}"
    else:
        others = [
            f"{each.name}: {_reason(each, query)}"
            for each in candidates
            if each.backend is not best and (each.backend is None or each.backend.system == best.system)
        ]
        reason = "the only one that answers" + (f" ({'; '.join(others)})" if others else "")
    return Choice(best, reason, asked_for=False)


def choose_for_pages(target: Target, of: PageState, *, all_of_it: bool, own: bool = False) -> PageSource:
    """What tells most of these states of pages there, at the least cost; with `all_of_it`, what can tell them all.

    `own`: of the process that asks; what tells of that alone is not asked about others.
    Raises Unsupported when there is none; the message says why for each.
    """
    found: list[PageSource] = []
    reasons: list[str] = []
    for source in registry.page_sources():
        if isinstance(source, Broken):
            reasons.append(f"{source.name}: cannot be loaded: {source.reason}")
        elif source.system != target.system_info.system:
            continue
        elif untold := of & ~source.states if all_of_it else of if not of & source.states else None:
            reasons.append(f"{source.name}: does not tell {' nor '.join(untold.words)}")
        elif not own and isinstance(source, TellsOwnAlone):
            reasons.append(f"{source.name}: {source.own_alone}")
        elif not (answers := target.offers(source)):
            reasons.append(f"{source.name}: {answers.reason}")
        else:
            found.append(source)
    if not found:
        name = target.system_info.system
        known: object = registry.system(name) if name in registry.entries(registry.SYSTEMS) else None
        hint = None if reasons else how_to_install_for(name)
        if not reasons and isinstance(known, HasNoPages):
            reasons, hint = [known.why_no_pages], None
        why = "; ".join(reasons) or f"nothing installed asks about the pages of {name}"
        raise Unsupported(
            f"it cannot be told here which pages are {' or '.join(of.words)}: {why}", target=target.name, hint=hint
        )
    return min(found, key=lambda each: (-(each.states & of).value.bit_count(), each.cost, each.name))


def _needs(query: Query) -> Feature:
    """What a backend must tell to answer all of a query."""
    needs = Feature.RESIDENCY if query.residency else Feature.NONE
    needs |= Feature.TOTALS if query.totals else Feature.NONE
    return needs | Feature.BUILD_ID if query.build_ids else needs


def _answers_each(candidates: list[Considered], query: Query) -> bool:
    """Whether what no backend tells at once is told by one for each."""
    return all(
        any(
            each.backend is not None
            and each.availability
            and each.backend.rank(one) is not None
            and _needs(one) in each.backend.features
            for each in candidates
        )
        for one in (replace(query, build_ids=False), replace(query, residency=False))
    )


def _words(query: Query) -> str:
    both = query.residency and query.build_ids
    return f"{Question.RESIDENCY.value} and {Question.BUILD_IDS.value}" if both else query.question.value


def _named(target: Target, query: Query, name: str) -> Choice:
    backend = registry.backend(name)
    availability = target.offers(backend)
    if not availability:
        raise Unsupported(
            f"the backend '{name}' is not available: {availability.reason}", target=target.name, backend=name
        )
    if backend.rank(query) is None or _needs(query) not in backend.features:
        raise Unsupported(
            f"the backend '{name}' cannot answer the question '{_words(query)}'",
            target=target.name,
            backend=name,
            hint="leave the choice of the backend to vmatlas, or see: vmatlas doctor",
        )
    return Choice(backend, "asked for by name", asked_for=True)


def _reason(each: Considered, query: Query) -> str:
    if not each.availability:
        return each.availability.reason
    return f"cannot answer the question '{_words(query)}'"


def _reasons(candidates: list[Considered], query: Query, target: Target) -> str:
    # What asks other systems is no reason, unless nothing else is installed.
    own = [each for each in candidates if each.backend is None or each.backend.system == target.system_info.system]
    told = own or consider(target)
    if not told:
        return f"no backend is installed (this is {target.system_info.system})"
    return "; ".join(f"{each.name}: {_reason(each, query)}" for each in told)
