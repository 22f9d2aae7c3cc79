"""The suite that every backend must pass, as a pytest plugin and as a command.

An agent makes known layouts in children of its own; the backend must read them back exactly. What a backend does not
offer it declares (`features`, `rank`), and then the suite asserts that it refuses with `Unsupported`.

    python -m vmatlas.conformance --vmatlas-target agent:COMMAND      the suite, against an agent
    pytest_plugins = ["vmatlas.conformance"]                          its fixtures, in a project's conftest.py

It is never loaded by itself. Needs pytest (the extra `conformance`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from vmatlas import registry
from vmatlas.backend import Backend, PageSource, Target, TellsOwnAlone
from vmatlas.conformance.ground import READ, Ground
from vmatlas.registry import Broken
from vmatlas.target.agent import AgentProcess, AgentTarget, Limits, required
from vmatlas.target.connect import connect
from vmatlas.target.local import LOCAL

STRIPES = 10_000
"""How many regions the largest layout has."""

_TARGET = pytest.StashKey[AgentTarget]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suite."""
    group = parser.getgroup("vmatlas", "conformance of vmatlas backends")
    group.addoption("--vmatlas-target", metavar="URL", help="the agent that makes the layouts: agent:COMMAND, ssh:HOST")
    group.addoption(
        "--vmatlas-reader",
        choices=["agent", "local"],
        default="agent",
        help="who reads them: the agent, or this process (when the agent runs on this machine)",
    )
    group.addoption(
        "--vmatlas-patience", type=float, default=1.0, metavar="FACTOR", help="how many times slower the target may be"
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the connection."""
    if (target := config.stash.get(_TARGET, None)) is not None:
        target.close()


def _agent_target(config: pytest.Config) -> AgentTarget:
    if _TARGET not in config.stash:
        url = config.getoption("--vmatlas-target")
        if not url:
            raise pytest.UsageError("the conformance suite needs --vmatlas-target URL, for example agent:COMMAND")
        target = connect(url, Limits().times(config.getoption("--vmatlas-patience")))
        if not isinstance(target, AgentTarget):
            raise pytest.UsageError(f"'{url}' is no agent; layouts need one (agent:, ssh:, serial:, qemu:)")
        config.stash[_TARGET] = target
    return config.stash[_TARGET]


def _reader(config: pytest.Config) -> Target:
    return LOCAL if config.getoption("--vmatlas-reader") == "local" else _agent_target(config)


def _backends(config: pytest.Config) -> list[Backend]:
    """The installed backends of the target's system."""
    system = _reader(config).system_info.system
    return [each for each in registry.backends() if not isinstance(each, Broken) and each.system == system]


def _page_sources(config: pytest.Config) -> list[PageSource]:
    """What is installed and asks about the pages of the target's system."""
    system = _reader(config).system_info.system
    return [each for each in registry.page_sources() if not isinstance(each, Broken) and each.system == system]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `backend` runs for each that is available; one that takes `any_backend` for each there is.

    So do `page_source` and `any_page_source`.
    """
    if "backend" in metafunc.fixturenames:
        reader = _reader(metafunc.config)
        available = [each.name for each in _backends(metafunc.config) if reader.offers(each)]
        metafunc.parametrize("backend", available)
    if "any_backend" in metafunc.fixturenames:
        metafunc.parametrize("any_backend", [each.name for each in _backends(metafunc.config)])
    for name in {"page_source", "any_page_source"} & set(metafunc.fixturenames):
        reader, sources = _reader(metafunc.config), _page_sources(metafunc.config)
        of_others = [each for each in sources if not isinstance(each, TellsOwnAlone)]
        asked = sources if name == "any_page_source" else [each for each in of_others if reader.offers(each)]
        found = [pytest.param(each.name) for each in asked]
        why = f"refused as declared: nothing installed asks about the pages of {reader.system_info.system}"
        if of_others:
            reasons = "; ".join(f"{each.name}: {reader.offers(each).reason}" for each in of_others)
            why = f"nothing tells pages here: {reasons}"
        elif alone := [f"{each.name}: {each.own_alone}" for each in sources if isinstance(each, TellsOwnAlone)]:
            why = f"refused as declared: {'; '.join(alone)}"
        metafunc.parametrize(name, found or [pytest.param("none", marks=pytest.mark.skip(why))])


@pytest.fixture(autouse=True)
def _name_the_backend(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Reports tell which backend a test was about."""
    for name in ("backend", "any_backend", "page_source", "any_page_source"):
        if name in request.fixturenames and request.getfixturevalue(name) != "none":
            record_property("backend", request.getfixturevalue(name))


@pytest.fixture(scope="session")
def agent_target(request: pytest.FixtureRequest) -> AgentTarget:
    """The agent that makes the layouts."""
    return _agent_target(request.config)


@pytest.fixture(scope="session")
def reader(request: pytest.FixtureRequest) -> Target:
    """The target through which maps are read."""
    return _reader(request.config)


@pytest.fixture
def worker(agent_target: AgentTarget) -> Iterator[AgentProcess]:
    """A child of the agent that obeys, with an address space of its own; ended afterwards."""
    child = agent_target.agent.spawn()
    child.sleep(0)  # who was forked copies pages until it waits for its first order: its memory would change under us
    yield child
    child.end()
    child.reap()


@pytest.fixture
def ground(worker: AgentProcess) -> Ground:
    """Free address space in the worker."""
    return Ground(worker)


@pytest.fixture
def stripes(worker: AgentProcess) -> Ground:
    """10,000 regions of a page each: every second one can be read only."""
    ground = Ground(worker, STRIPES)
    ground.lay(0, STRIPES)
    changed = worker.protect_every(ground.at(1), (STRIPES - 1) * ground.page, 2 * ground.page, ground.page, READ)
    assert required(changed, "striping") == STRIPES // 2
    return ground
