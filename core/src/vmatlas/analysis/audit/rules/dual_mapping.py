"""The same object mapped writable here and executable there."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence, name_of
from vmatlas.model import AddressSpace, Device, Protection, Region

Identity = tuple[Device, int]


Objects = tuple[dict[Identity, list[Region]], dict[Identity, list[Region]]]
"""What is mapped shared and may be written, and what may be executed, each by device and inode."""


def objects(space: AddressSpace) -> Objects:
    """Those of a map."""
    columns = space.columns
    written: dict[Identity, list[Region]] = {}
    executed: dict[Identity, list[Region]] = {}
    for row, bits in enumerate(columns.protection):
        if not bits & 6 or bits & 8 or not columns.inode[row]:
            continue
        if bits & 4 or columns.shared[row] == 1:
            region = columns.region(row)
            if region.device is None or region.inode is None:
                continue
            if region.protection & Protection.EXECUTE:
                executed.setdefault((region.device, region.inode), []).append(region)
            if region.shared and region.protection & Protection.WRITE:
                written.setdefault((region.device, region.inode), []).append(region)
    return written, executed


def check(case: Case) -> Iterator[Hit | Silence]:
    """Two regions of one object; one region that is both is found by another rule."""
    written, executed = objects(case.space)
    for identity, writable in written.items():
        code = [region for region in executed.get(identity, ()) if region not in writable]
        if code:
            low = writable[0]
            yield Hit(
                (*code, *(each for each in writable if each not in code)),
                f"{name_of(low)} can be written at {low.start:#x} and is executed at {code[0].start:#x}",
            )


RULE = Rule(
    "dual-mapping",
    Severity.HIGH,
    "One object is mapped twice, writable at one place and executable at the other: writable code that no single "
    "region shows.",
    "compilers that map their code twice to keep the rights apart (.NET, QEMU, Erlang's BEAM, libffi)",
    "find out who maps it; with --all the two places are looked for in different processes, too",
    check,
    by_rights=True,
    of_code=True,
)
