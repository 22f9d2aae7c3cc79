"""PROTOCOL.md, the agent's table and the host's names tell of the same operations."""

from __future__ import annotations

import re
from pathlib import Path

from vmatlas.target import asking
from vmatlas.target.agent import Agent
from vmatlas.target.wire import Operation
from vmatlas_agents.build import NATIVE

PROTOCOL = Path(__file__).parents[1] / "PROTOCOL.md"


def documented() -> dict[int, tuple[str, bool]]:
    """Number to name, and whether the operation changes something."""
    rows = re.findall(r"^\| (\d+) \| ([a-z]\w+)( \*)? \|", PROTOCOL.read_text(), re.MULTILINE)
    return {int(number): (name, bool(star)) for number, name, star in rows}


def test_the_agents_table_is_the_documented_one() -> None:
    rows = re.findall(r'^    \{(\d+), (ASKS|CHANGES), "(\w+)", ', (NATIVE / "dispatch.c").read_text(), re.MULTILINE)
    assert {int(number): (name, effect == "CHANGES") for number, effect, name in rows} == documented()


def test_the_hosts_operations_are_the_documented_ones() -> None:
    assert {each.value: (each.name.lower(), each in asking._CHANGING) for each in Operation} == documented()


def test_hello_names_every_operation(agent: Agent) -> None:
    assert agent.hello.operations == {name for name, _ in documented().values()}
