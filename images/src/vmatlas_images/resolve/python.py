"""What a guest's Python comes to: Debian's packages, and which wheels it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..describe.machine import Machine, version_numbers
from ..describe.plan import Plan, plan_of
from ..errors import FetchError, ImagesError, NotRunnable, VerificationError
from .debian import with_all_they_need
from .kernel import FRESH
from .offline import is_offline, refuse_offline
from .wanted import Before, Catalogue, File, Package, Question

# Asked for by maintainer scripts, of which none is run.
_FOR_SCRIPTS = frozenset({"debconf", "debconf-2.0", "dpkg", "init-system-helpers", "install-info", "perl-base"})


@dataclass(frozen=True)
class WantedPython:
    """The list. `version` is that of Debian's package python3.N-minimal ("3.11.2-6+deb12u8"), or what is asked for.

    `requirements` are pip's words, `platforms` those that wheels may be built for; none: wheels of Python alone. It is
    kept as the answer to `answers` once it was brought (None: it is not).
    """

    version: str
    short: str  # 3.11 of 3.11.2-6+deb12u8
    files: tuple[File, ...]
    requirements: tuple[str, ...]
    platforms: tuple[str, ...]
    notes: tuple[str, ...] = ()
    before: Before | None = None
    answers: Question | None = None

    def instead(self, error: ImagesError) -> WantedPython:
        """What does when these were not to be had: those of before, with a note. Raises the error where none were."""
        if self.before is None or isinstance(error, VerificationError):
            raise error
        note = f"Python's packages as resolved {self.before.age / 3600:.0f} h ago, not anew: {error.message}"
        version = self.before.choice.says
        short = ".".join(map(str, version_numbers(version)[:2]))
        return replace(self, version=version, short=short, files=self.before.choice.files, notes=(note,), answers=None)


def resolve_python(machine: Machine, catalogue: Catalogue, *, refresh: bool = False) -> WantedPython:
    """What the machine's Python comes to. Raises `FetchError`, `VerificationError` or `NotRunnable`."""
    assert machine.python is not None
    suite, plan = machine.python.suite, plan_of(machine)
    if suite is None:
        return _wanted(machine, plan, _asked_for(machine), ())
    question = _question(machine, plan)
    before = catalogue.before(question)
    if before is not None and not refresh and (before.age <= FRESH or is_offline()):
        return _wanted(machine, plan, before.choice.says, before.choice.files)
    nothing = _wanted(machine, plan, "", (), before)
    try:
        refuse_offline(f"packages of {suite}")
        packages = with_all_they_need(plan.packages, catalogue.index(suite), suite, _FOR_SCRIPTS)
        files = tuple(File(package.sha256, package) for package in packages)
        return _wanted(machine, plan, _python_of(packages, suite), files, before, question)
    except (FetchError, NotRunnable) as error:
        return nothing.instead(error)


def known_python(machine: Machine, catalogue: Catalogue) -> WantedPython | None:
    """The same with nobody asked; None where that cannot be told. Raises `NotRunnable` where its plan is not."""
    assert machine.python is not None
    plan = plan_of(machine)
    if machine.python.suite is None:
        return _wanted(machine, plan, _asked_for(machine), ())
    before = catalogue.before(_question(machine, plan))
    return None if before is None else _wanted(machine, plan, before.choice.says, before.choice.files)


def _question(machine: Machine, plan: Plan) -> Question:
    assert machine.python is not None
    return Question("python", (machine.processor, machine.python.suite, plan.packages), of_mirror=False)


def _wanted(
    machine: Machine,
    plan: Plan,
    version: str,
    files: tuple[File, ...],
    before: Before | None = None,
    answers: Question | None = None,
) -> WantedPython:
    platforms = tuple(f"{library}_{machine.processor}" for library in plan.libraries)
    short = ".".join(map(str, version_numbers(version)[:2]))
    return WantedPython(version, short, files, plan.requirements, platforms, (), before, answers)


def _asked_for(machine: Machine) -> str:
    assert machine.python is not None and machine.python.version.at_least is not None
    return machine.python.version.at_least


def _python_of(packages: list[Package], suite: str) -> str:
    """The interpreter's own version: python3.11-minimal's, since python3's may be a release behind."""
    for package in packages:
        if package.name.startswith("python3.") and package.name.endswith("-minimal"):
            return package.version
    raise FetchError(f"no package python3.N-minimal of {suite} is among those that the plan asks for")
