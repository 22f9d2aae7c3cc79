"""What an audit looks for is found where it was laid, by what each backend tells; nothing is found where nothing is.

A rule that goes by what a backend does not tell (a device and inode, a path) is not held to it there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import vmatlas
from vmatlas import Kind, OperationFailed, Protection
from vmatlas.analysis.audit import RULES
from vmatlas.backend import Target
from vmatlas.conformance.ground import READ_EXECUTE, Ground, Placed, own_path
from vmatlas.target.agent import READ_WRITE, AgentTarget, MapFlag, MapObject, required

FILE = own_path(b"suspect")
ALL = READ_WRITE | Protection.EXECUTE


@pytest.fixture
def _file(agent_target: AgentTarget) -> Iterator[None]:
    """A file of one byte on the target, in a folder for temporary ones."""
    required(agent_target.agent.write_file(FILE, b"x", new=True), "writing a file")
    yield
    agent_target.agent.unlink(FILE)


def _laid(ground: Ground, page: int, protection: Protection, **how: object) -> Placed | None:
    """A mapping; None where the target refuses such rights."""
    try:
        return ground.lay(page, 2, protection=protection, **how)  # type: ignore[arg-type]
    except OperationFailed as refusal:
        if refusal.errno_name not in ("EACCES", "EPERM", "ENOTSUP"):
            raise
        return None


def _found(report: vmatlas.AuditReport, placed: Placed) -> set[str]:
    return {each.id for each in report if any(region.start == placed.start for region in each.regions)}


def _kind_at(space: vmatlas.AddressSpace, placed: Placed) -> Kind | None:
    region = space.find(placed.start)
    return None if region is None else region.kind


def _is_nameless_file(space: vmatlas.AddressSpace, placed: Placed) -> bool:
    region = space.find(placed.start)
    return region is not None and region.kind is Kind.FILE and region.path is None


def test_what_is_suspicious_is_found_where_it_lies(ground: Ground, _file: None, reader: Target, backend: str) -> None:
    data = _laid(ground, 0, READ_WRITE)
    both = _laid(ground, 16, ALL)
    nameless = _laid(ground, 32, READ_EXECUTE)
    memory = _laid(
        ground, 48, READ_EXECUTE, flags=MapFlag.SHARED, source=MapObject.SHARED_MEMORY, name=b"/vmatlas-suspect"
    )
    file = {"flags": MapFlag.SHARED, "source": MapObject.FILE, "name": FILE}
    written, executed = _laid(ground, 64, READ_WRITE, **file), _laid(ground, 80, READ_EXECUTE, **file)
    space = vmatlas.snapshot(ground.worker.pid, target=reader, backend=backend)
    report = vmatlas.audit(space)
    assert data is not None and _found(report, data) == set()
    if both is not None:
        assert _found(report, both) == {"writable-and-executable"}
    if nameless is not None:
        assert _found(report, nameless) == {"nameless-code"}
    untold = {each.rule.id for each in report.untold}
    if memory is not None and _is_nameless_file(
        space, memory
    ):  # the system keeps it as a file, and knows it by no name
        assert "code-in-temporary-folder" in untold
    elif memory is not None:  # a system that does not tell shared memory from other memory finds nameless code
        assert _found(report, memory) & {"code-in-memory-file", "nameless-code", "code-in-temporary-folder"}
    if written is None or executed is None:
        return
    region = space.find(executed.start)
    assert region is not None
    if region.path is not None:
        assert "code-in-temporary-folder" in _found(report, executed)
    elif region.kind is Kind.FILE:
        assert "code-in-temporary-folder" in untold
    if region.device is not None and region.inode and region.shared is not None:
        assert "dual-mapping" in _found(report, executed)
        assert "dual-mapping" in _found(report, written)
    elif region.kind is Kind.FILE and region.device is None and _kind_at(space, written) is Kind.FILE:
        assert "dual-mapping" in untold


def test_a_rule_that_does_not_know_the_system_says_so(ground: Ground, reader: Target, backend: str) -> None:
    space = vmatlas.snapshot(ground.worker.pid, target=reader, backend=backend)
    silent = {each.rule.id for each in vmatlas.audit(space, policy=vmatlas.Policy.preset("strict")).untold}
    system = space.system.system
    assert {rule.id for rule in RULES if rule.systems is not None and system not in rule.systems} <= silent
