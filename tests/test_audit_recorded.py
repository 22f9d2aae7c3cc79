"""Audits of recorded maps: programs with compilers that make code on purpose (Linux 6.18), FreeBSD and QNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import vmatlas
from vmatlas import AddressSpace, Kind, Policy, Protection, Region
from vmatlas.analysis import Severity
from vmatlas.analysis.audit import RULES

RECORDED = Path(__file__).parent / "captures" / "naming"
AUDITED = Path(__file__).parent / "captures" / "audit"
PLATFORMS = Path(__file__).parents[1] / "platforms"
FREEBSD, QNX = (PLATFORMS / each / "tests" / "captures" for each in ("freebsd", "qnx"))
R, W, X = Protection.READ, Protection.WRITE, Protection.EXECUTE
COMPILERS = {"jvm": "libjvm.so is mapped", "node": "node is mapped", "chromium": "chromium is mapped"}


@pytest.mark.parametrize("program", sorted(path.stem for path in RECORDED.glob("*.vmatlas")))
def test_a_compiler_is_recognised_and_nothing_is_found_beside_it(program: str) -> None:
    space = vmatlas.replay(RECORDED / f"{program}.vmatlas")
    usual = vmatlas.audit(space)
    friendly = vmatlas.audit(space, policy=Policy.preset("jit-friendly"))
    assert [each.id for each in usual] == ["writable-and-executable"] * (program in COMPILERS)
    assert [each.severity for each in friendly] == [Severity.NOTE] * len(usual)
    assert all(COMPILERS[program] in each.runtime for each in friendly)


MAKE_CODE = {
    "ctypes": ({"writable-and-executable"}, "libffi: libffi.so."),
    "luajit": ({"nameless-code"}, "LuaJIT: luajit is mapped"),
    "php": ({"code-in-memory-file"}, "PHP's compiler: opcache.so is mapped"),
    "postgres": ({"nameless-code"}, "LLVM's compiler in PostgreSQL: llvmjit.so is mapped"),
    "qemu": ({"writable-and-executable"}, "QEMU: qemu-system-x86_64 is mapped"),
    "sshd": (set(), ""),
}
"""Programs of Debian 12, and what is a note of them, with its cause: a callback of Python's ctypes, a loop in Lua and
one in PHP, a query that PostgreSQL compiled, a machine without a disk; sshd makes no code."""


@pytest.mark.parametrize("program", MAKE_CODE)
def test_what_other_programs_make_on_purpose_is_a_note_with_its_cause(program: str) -> None:
    space = vmatlas.replay(AUDITED / f"{program}.vmatlas")
    found = vmatlas.audit(space, policy=Policy.preset("jit-friendly"))
    expected, cause = MAKE_CODE[program]
    assert {(each.id, each.severity) for each in found} == {(rule, Severity.NOTE) for rule in expected}
    assert all(each.runtime.startswith(cause) for each in found)
    usual = vmatlas.audit(space)
    assert {each.id for each in usual if each.severity > Severity.NOTE} == expected


def test_what_libffi_makes_stays_writable_and_is_small() -> None:
    """Other code in a process that has it is nobody's."""
    space = vmatlas.replay(AUDITED / "ctypes.vmatlas")
    buffer = next(each for each in space if each.protection == R | W | X)
    for other in (_rights(buffer, R | X), buffer._replace(start=0x10000, end=0x10000 + (2 << 20))):
        others = [other, *(each for each in space if each != buffer)]
        (found,) = vmatlas.audit(AddressSpace.of(others, space.origin), policy=Policy.preset("jit-friendly"))
        assert found.severity > Severity.NOTE and not found.runtime


def test_the_name_of_a_process_recognises_nothing() -> None:
    """Whoever injects code may call itself as it likes; the library has to be mapped, and the memory to fit."""
    space = vmatlas.replay(RECORDED / "node.vmatlas").named("node", None)
    without = vmatlas.AddressSpace.of([each for each in space if not (each.path or "").endswith("node")], space.origin)
    (found,) = vmatlas.audit(without, policy=Policy.preset("jit-friendly"))
    assert (found.severity, found.runtime) == (Severity.HIGH, "")


# FreeBSD, QNX: what each rule tells there, by a map alone

OF_LINUX = {
    "changed-code",
    "code-anybody-may-write",
    "executable-heap",
    "fixed-program",
    "many-regions",
    "nameless-file",
    "relro-undone",
    "replaced-file",
    "thread-stack-with-no-guard",
    "unknown-code",
    "unsealed-code",
}
"""Rules that can speak of no other system."""
STACKS = {"executable-stack", "stack-with-no-guard"}
OF_PROCFS = OF_LINUX | STACKS
"""What FreeBSD's text of /proc/PID/map leaves untold of any process."""


def told_of(space: AddressSpace) -> tuple[set[str], set[str]]:
    """Which rules found something, and which others could not tell."""
    report = vmatlas.audit(space, policy=Policy.preset("strict"))
    found = {each.id for each in report}
    assert found | {each.rule.id for each in report.untold} <= {rule.id for rule in RULES}
    return found, {each.rule.id for each in report.untold} - found


@pytest.mark.parametrize(
    ("capture", "found", "untold"),
    [
        (FREEBSD / "init-sysctl", set(), OF_LINUX),
        (FREEBSD / "before-fork-sysctl", set(), OF_LINUX),
        (FREEBSD / "busy-sysctl", {"code-in-temporary-folder"}, OF_LINUX),
        (FREEBSD / "busy-procfs", {"code-in-temporary-folder"}, OF_PROCFS),
        # A process may have mapped a file at two places; the text has no numbers of files.
        (FREEBSD / "before-fork-procfs", set(), OF_PROCFS | {"dual-mapping"}),
        (  # memory that is executed may be an object, which no map of FreeBSD names; two files have been unlinked
            FREEBSD / "layout-sysctl",
            {"writable-and-executable", "nameless-code"},
            OF_LINUX | {"code-in-memory-file", "deleted-file", "dual-mapping"},
        ),
        (
            FREEBSD / "layout-procfs",
            {"writable-and-executable", "nameless-code"},
            OF_PROCFS | {"code-in-memory-file", "deleted-file", "dual-mapping"},
        ),
        # QNX 6.4: data of its C library is mapped writable and executable, in every process.
        (QNX / "agent" / "esh", {"writable-and-executable"}, OF_LINUX | {"deleted-file"}),
        (QNX / "agent" / "pipe", {"writable-and-executable", "executable-stack"}, OF_LINUX | {"deleted-file"}),
        (QNX / "agent" / "procnto", set(), OF_LINUX | {"deleted-file"}),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_each_rule_finds_or_finds_nothing_or_cannot_tell_there(
    capture: Path, found: set[str], untold: set[str]
) -> None:
    assert told_of(vmatlas.replay(capture.with_suffix(".vmatlas"))) == (found, untold)


def _first(space: AddressSpace, kind: Kind) -> Region:
    return next(each for each in space if each.kind is kind and W in (each.protection or 0))


def _with(space: AddressSpace, *regions: Region) -> AddressSpace:
    """A recorded map, with these in the place of what has their addresses."""
    there = {each.start for each in regions}
    return AddressSpace.of([*regions, *(each for each in space if each.start not in there)], space.origin)


def _rights(region: Region, rights: Protection) -> Region:
    return region._replace(protection=rights)


def executable_stack(space: AddressSpace) -> tuple[Region, ...]:
    return (_rights(_first(space, Kind.STACK), R | W | X),)


def below_a_stack(space: AddressSpace) -> tuple[Region, ...]:
    stack = _first(space, Kind.STACK)
    guard = next(each for each in space if each.end == stack.start)
    return (_rights(guard, R | W)._replace(kind=Kind.ANONYMOUS, shared=True, name="other"),)


def dual_mapping(space: AddressSpace) -> tuple[Region, ...]:
    """A file of which a part is written and shared; code of the same part."""
    written = next(each for each in space if each.kind is Kind.FILE and each.shared and W in (each.protection or 0))
    other = next(each for each in space if each.inode == written.inode and not each.shared)
    return (_rights(other, R | X)._replace(offset=written.offset),)


def memory_file(space: AddressSpace) -> tuple[Region, ...]:
    code = next(each for each in space if each.kind is Kind.FILE and X in (each.protection or 0))
    return (code._replace(kind=Kind.SHARED_MEMORY, path="/dev/shmem/loaded", protection=R | X, shared=True),)


def temporary(space: AddressSpace) -> tuple[Region, ...]:
    code = next(each for each in space if each.kind is Kind.FILE and X in (each.protection or 0))
    return (code._replace(path="/var/tmp/loaded.so"),)


def code_without_a_name(space: AddressSpace) -> tuple[Region, ...]:
    code = next(each for each in space if each.kind is Kind.FILE and X in (each.protection or 0))
    return (code._replace(path=None),)


@pytest.mark.parametrize(
    ("capture", "change", "rule", "is_found"),
    [
        (FREEBSD / "before-fork-sysctl", executable_stack, "executable-stack", True),
        (QNX / "agent" / "esh", executable_stack, "executable-stack", True),
        (FREEBSD / "before-fork-sysctl", below_a_stack, "stack-with-no-guard", True),
        (FREEBSD / "before-fork-sysctl", dual_mapping, "dual-mapping", True),
        (QNX / "agent" / "esh", memory_file, "code-in-memory-file", True),
        (FREEBSD / "init-sysctl", temporary, "code-in-temporary-folder", True),
        (QNX / "agent" / "esh", temporary, "code-in-temporary-folder", True),
        (FREEBSD / "init-sysctl", code_without_a_name, "code-in-temporary-folder", False),
        (FREEBSD / "init-sysctl", code_without_a_name, "deleted-file", False),
    ],
    ids=lambda value: getattr(value, "stem", None) or getattr(value, "__name__", None) or str(value),
)
def test_a_recorded_map_with_one_trait_more_shows_it(
    capture: Path, change: Callable[[AddressSpace], tuple[Region, ...]], rule: str, is_found: bool
) -> None:
    """The twin is the map as it was recorded; a trait that cannot be told there is said to be such."""
    space = vmatlas.replay(capture.with_suffix(".vmatlas"))
    found, untold = told_of(space)
    assert rule not in found | untold
    found, untold = told_of(_with(space, *change(space)))
    assert (rule in found, rule in untold) == (is_found, not is_found)
