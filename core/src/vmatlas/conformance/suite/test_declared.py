"""What a backend declares is what it does: it answers, or refuses with its reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import vmatlas
from vmatlas import registry
from vmatlas.backend import Feature, Target
from vmatlas.target.agent import AgentProcess


def test_backend_is_available_or_says_why_not(
    any_backend: str, reader: Target, worker: AgentProcess, record_property: Callable[[str, object], None]
) -> None:
    record_property("tells", " ".join(str(flag.name) for flag in registry.backend(any_backend).features))
    availability = reader.offers(registry.backend(any_backend))
    if availability:
        record_property("answers", any_backend)
        assert len(vmatlas.snapshot(worker.pid, target=reader, backend=any_backend)) > 0
        return
    record_property("refuses", availability.reason)
    assert availability.reason
    with pytest.raises(vmatlas.Unsupported, match="not available"):
        vmatlas.snapshot(worker.pid, target=reader, backend=any_backend)


def test_automatic_choice_answers(reader: Target, worker: AgentProcess) -> None:
    assert len(vmatlas.snapshot(worker.pid, target=reader)) > 0


def test_residency_is_told_or_refused(
    backend: str, reader: Target, worker: AgentProcess, record_property: Callable[[str, object], None]
) -> None:
    if Feature.RESIDENCY in registry.backend(backend).features:
        space = vmatlas.snapshot(worker.pid, target=reader, backend=backend, residency=True)
        assert any(region.resident for region in space)
    else:
        with pytest.raises(vmatlas.Unsupported) as refusal:
            vmatlas.snapshot(worker.pid, target=reader, backend=backend, residency=True)
        record_property("refused", str(refusal.value))


def test_totals_are_told_or_refused(
    backend: str, reader: Target, worker: AgentProcess, record_property: Callable[[str, object], None]
) -> None:
    with vmatlas.open(worker.pid, target=reader, backend=backend) as process:
        if Feature.TOTALS in registry.backend(backend).features:
            assert process.memory().resident  # that they are right is test_memory_use's claim
        else:
            with pytest.raises(vmatlas.Unsupported) as refusal:
                process.choice(vmatlas.Query(totals=True))
            record_property("refused", str(refusal.value))


def test_build_ids_are_told_or_refused(
    backend: str, reader: Target, worker: AgentProcess, record_property: Callable[[str, object], None]
) -> None:
    if Feature.BUILD_ID in registry.backend(backend).features:
        space = vmatlas.snapshot(worker.pid, target=reader, backend=backend, build_ids=True)
        assert all(region.build_id is None or len(region.build_id) >= 8 for region in space)
        assert all(region.build_id is None for region in vmatlas.snapshot(worker.pid, target=reader, backend=backend))
    else:
        with pytest.raises(vmatlas.Unsupported) as refusal:
            vmatlas.snapshot(worker.pid, target=reader, backend=backend, build_ids=True)
        record_property("refused", str(refusal.value))
