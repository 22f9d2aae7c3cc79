"""The command line asks a process through an agent as it asks one of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vmatlas


@pytest.fixture(scope="module")
def agent(binary) -> Path:
    """The agent for this machine."""
    return binary


def test_maps_through_an_agent_are_those_of_this_machine(run, child, agent):
    target = f"agent:{agent}"
    told = json.loads(run("maps", child.pid, "--target", target, "--json").stdout)
    assert told["target"] == target
    assert told["regions"] == json.loads(vmatlas.snapshot(child.pid).to_json())


def test_find_through_an_agent_tells_the_addresses_of_elf_files(run, child, agent):
    region = next(each for each in vmatlas.snapshot(child.pid) if each.protection & 4 and each.path)
    asked = ["find", child.pid, f"{region.start + 16:x}", "--json"]
    (here,), (there,) = (json.loads(run(*asked, *more).stdout) for more in ((), ("--target", f"agent:{agent}")))
    assert here["elf_address"] is not None
    assert there["elf_address"] == here["elf_address"]


def test_doctor_looks_at_the_machine_behind_the_agent(run, agent):
    told = json.loads(run("doctor", "--target", f"agent:{agent}", "--json").stdout)
    assert told["answers"] is True
    assert told["target"] == f"agent:{agent}"


def test_a_target_that_is_lost_has_its_exit_code(run):
    assert run("maps", "self", "--target", "agent:/no/such/agent").exit_code == 8
