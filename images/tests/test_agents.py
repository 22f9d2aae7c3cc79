"""Where a machine's agent comes from: it is built when it is first wanted, or the reason is said why it cannot be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import vmatlas_agents
from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import NotRunnable, built_agent, find, overview
from vmatlas_images.prepare.agents import agent_is_built
from vmatlas_images.report.overview import table


@pytest.fixture
def none_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone: no agent was built yet."""
    monkeypatch.setattr(vmatlas_agents, "BUILT", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE)
def test_an_agent_that_was_not_built_is_built_when_it_is_wanted(none_built: Path) -> None:
    assert not agent_is_built("linux", "x86_64")
    agent = built_agent("linux", "x86_64")
    assert agent.parent == none_built
    assert agent.read_bytes()[:4] == b"\x7fELF"
    assert agent_is_built("linux", "x86_64")


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE)
def test_an_agent_that_is_not_what_its_sources_make_is_built_again(none_built: Path) -> None:
    agent = built_agent("linux", "x86_64")
    content, since = agent.read_bytes(), agent.stat().st_mtime_ns
    assert built_agent("linux", "x86_64").stat().st_mtime_ns == since, "nothing has changed"
    agent.write_bytes(b"an older one")  # as its digests do not say
    assert built_agent("linux", "x86_64").read_bytes() == content


def test_a_fresh_clone_lists_its_machines_as_able_to_run(none_built: Path) -> None:
    (row,) = overview([find("linux-6.1")])
    assert not row.agent_built
    assert row.obstacle is None or "agent" not in row.obstacle
    assert list(table([row]).columns[-1].cells)


def test_an_agent_that_cannot_be_built_names_what_is_missing(
    none_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vmatlas_agents.build, "NATIVE", tmp_path)
    with pytest.raises(NotRunnable, match="is not built") as caught:
        built_agent("linux", "x86_64")
    assert "source tree" in (caught.value.hint or "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotRunnable, match="is not built") as caught:
        built_agent("linux", "x86_64")
    assert "ziglang" in (caught.value.hint or "")


def test_a_machine_that_no_agent_is_for_is_said(none_built: Path) -> None:
    with pytest.raises(NotRunnable, match="no agent for minix"):
        built_agent("minix", "x86_64")
