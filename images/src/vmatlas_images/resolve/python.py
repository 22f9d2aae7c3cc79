"""What a guest's Python comes to: Debian's packages, and which wheels it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..describe.machine import Machine, version_numbers
from ..describe.plan import Plan, plan_of
from ..errors import FetchError, ImagesError, NotRunnable, VerificationError
from .debian import with_all_they_need
from .kernel import FRESH
from .offline import is_offline, refuse_offline
from .wanted import Before, Catalogue, Choice, File, Package, key_of

# Asked for by maintainer scripts, of which none is run.
_FOR_SCRIPTS = frozenset({"debconf", "debconf-2.0", "dpkg", "init-system-helpers", "install-info", "perl-base"})


@dataclass(frozen=True)
class WantedPython:
    """The list. `version` is that of Debian's package python3.N-minimal ("3.11.2-6+deb12u8"), or what is asked for.

    `requirements` are pip's words, `platforms` those that wheels may be built for; none: wheels of Python alone. It is
    kept under `remembered_as` once it was brought ("": it is not).
    """

    version: str
    files: tuple[File, ...]
    requirements: tuple[str, ...]
    platforms: tuple[str, ...]
    notes: tuple[str, ...] = ()
    before: Before | None = None
    remembered_as: str = ""

    @property
    def short(self) -> str:
        """3.11 of 3.11.2-6+deb12u8."""
        return ".".join(map(str, version_numbers(self.version)[:2]))

    def instead(self, error: ImagesError) -> WantedPython:
        """What does when these were not to be had: those of before, with a note. Raises the error where none were."""
        if self.before is None or isinstance(error, VerificationError):
            raise error
        note = f"Python's packages as resolved {self.before.age / 3600:.0f} h ago, not anew: {error.message}"
        return replace(
            self, version=self.before.choice.says, files=self.before.choice.files, notes=(note,), remembered_as=""
        )


def resolve_python(machine: Machine, catalogue: Catalogue, *, refresh: bool = False) -> WantedPython:
    """What the machine's Python comes to. Raises `FetchError`, `VerificationError` or `NotRunnable`."""
    assert machine.python is not None
    suite, plan = machine.python.suite, plan_of(machine)
    if suite is None:
        return _wanted(machine, plan, _asked_for(machine), ())
    name = name_of_python(machine, plan)
    before = _before(name, catalogue)
    if before is not None and not refresh and (before.age <= FRESH or is_offline()):
        return _wanted(machine, plan, before.choice.says, before.choice.files)
    nothing = _wanted(machine, plan, "", (), before)
    try:
        refuse_offline(f"packages of {suite}")
        packages = with_all_they_need(plan.packages, catalogue.index(suite), suite, _FOR_SCRIPTS)
        files = tuple(File(package.sha256, package) for package in packages)
        return _wanted(machine, plan, _python_of(packages, suite), files, before, name)
    except (FetchError, NotRunnable) as error:
        return nothing.instead(error)


def known_python(machine: Machine, catalogue: Catalogue) -> WantedPython | None:
    """The same with nobody asked; None where that cannot be told. Raises `NotRunnable` where its plan is not."""
    assert machine.python is not None
    plan = plan_of(machine)
    if machine.python.suite is None:
        return _wanted(machine, plan, _asked_for(machine), ())
    before = _before(name_of_python(machine, plan), catalogue)
    return None if before is None else _wanted(machine, plan, before.choice.says, before.choice.files)


def name_of_python(machine: Machine, plan: Plan) -> str:
    """The name under which it is kept."""
    assert machine.python is not None
    return "python-" + key_of(machine.processor, machine.python.suite, list(plan.packages))


def _wanted(
    machine: Machine,
    plan: Plan,
    version: str,
    files: tuple[File, ...],
    before: Before | None = None,
    remembered_as: str = "",
) -> WantedPython:
    platforms = tuple(f"{library}_{machine.processor}" for library in plan.libraries)
    return WantedPython(version, files, plan.requirements, platforms, (), before, remembered_as)


def _asked_for(machine: Machine) -> str:
    assert machine.python is not None and machine.python.version.at_least is not None
    return machine.python.version.at_least


def _before(name: str, catalogue: Catalogue) -> Before | None:
    """What was resolved before and is still here."""
    found = catalogue.remembered(name)
    if found is None or not {"version", "digests"} <= found[0].keys():
        return None
    files = tuple(File(digest) for digest in found[0]["digests"].split())
    return Before(Choice(found[0]["version"], files), found[1]) if catalogue.holds(files) else None


def _python_of(packages: list[Package], suite: str) -> str:
    """The interpreter's own version: python3.11-minimal's, since python3's may be a release behind."""
    for package in packages:
        if package.name.startswith("python3.") and package.name.endswith("-minimal"):
            return package.version
    raise FetchError(f"no package python3.N-minimal of {suite} is among those that the plan asks for")
