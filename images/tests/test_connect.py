"""`vmatlas.connect("qemu:NAME")` on a real kernel: the guest's maps, the cost on the wire, and a kernel that panics."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import UsageError
from vmatlas.target.agent import AgentTarget, required
from vmatlas.target.connect import connect

pytestmark = [pytest.mark.machine, pytest.mark.network, pytest.mark.timeout(4 * PATIENCE)]

MACHINE = "qemu:linux-6.12"


def emulators() -> set[int]:
    """The QEMUs that descend from this process: what other workers and other users boot is no business of a test."""
    return {each.pid for each in psutil.Process().children(recursive=True) if each.name().startswith("qemu-system")}


def test_map_of_the_guests_init_and_a_thousand_regions_in_three_round_trips() -> None:
    with connect(MACHINE) as target:
        assert isinstance(target, AgentTarget)
        assert target.system_info.release.startswith("6.12.")
        init = vmatlas.snapshot(1, target=target)
        assert any(region.path == "/init" for region in init)
        worker = target.agent.spawn()
        page = target.system_info.page_size
        start = required(worker.map(1000 * page), "mapping")
        required(worker.protect_every(start, 1000 * page, 2 * page, page, vmatlas.Protection.READ), "striping")
        before = target.agent.talk.requests_sent
        space = vmatlas.snapshot(worker.pid, target=target)
        assert target.agent.talk.requests_sent - before <= 3
        assert len(space) >= 1000


def test_guest_that_panics_is_a_lost_target_whose_last_words_say_so_and_no_qemu_is_left() -> None:
    before = emulators()  # a machine that other tests of this process share
    with connect(MACHINE) as target:
        assert isinstance(target, AgentTarget)
        (emulator,) = emulators() - before
        assert os.readlink(f"/proc/{emulator}/exe").rpartition("/")[2].startswith("qemu-system")
        with pytest.raises(vmatlas.TargetLost):
            target.agent.write_file(b"/proc/sysrq-trigger", b"c", create=False)
        with pytest.raises(vmatlas.TargetLost) as lost:
            vmatlas.snapshot(1, target=target)
        assert "sysrq" in lost.value.last_words
    assert not Path(f"/proc/{emulator}").exists()


def test_unknown_machine_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"linux-6\.12"):
        connect("qemu:linux-0.1")
