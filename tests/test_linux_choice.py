"""On a kernel that lacks the ioctl the choice falls to the text, and a user can read why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from errno import ENOTTY

import pytest

import vmatlas
from tests.conftest import offered
from vmatlas import Filter, Query, choice
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.local import LOCAL


@pytest.fixture
def older_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Linux before 6.11: every PROCMAP_QUERY is ENOTTY."""

    def ioctl(descriptor: int, request: int, argument: bytearray) -> int:
        raise OSError(ENOTTY, os.strerror(ENOTTY))

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    LOCAL._probed.clear()
    yield
    LOCAL._probed.clear()


@pytest.mark.usefixtures("older_kernel")
def test_every_question_falls_to_the_text_and_the_reason_is_told() -> None:
    for query in (Query(), Query(address=4096), Query(where=Filter(shared=True)), Query(residency=True)):
        made = choice.choose(LOCAL, query)
        assert made.backend.name == "linux-procfs"
        assert "linux-ioctl: the kernel is older than 6.11" in made.reason
    assert vmatlas.snapshot().backend == "linux-procfs"
    assert vmatlas.find(None, vmatlas.snapshot()[0].start) is not None


@pytest.mark.usefixtures("older_kernel")
def test_doctor_s_list_shows_the_ioctl_with_its_reason() -> None:
    (found,) = [each for each in choice.consider(LOCAL) if each.name == "linux-ioctl"]
    assert not found.availability
    assert "older than 6.11" in found.availability.reason


@pytest.mark.usefixtures("older_kernel")
def test_what_only_the_ioctl_can_do_is_unsupported_with_the_reason() -> None:
    with pytest.raises(vmatlas.Unsupported, match=r"older than 6\.11"):
        vmatlas.snapshot(backend="linux-ioctl")
    with pytest.raises(vmatlas.Unsupported, match=r"older than 6\.11"):
        vmatlas.snapshot(build_ids=True)


def test_each_question_goes_to_the_backend_that_answers_it_best() -> None:
    offered("linux-ioctl")
    chosen = {
        "whole map": choice.choose(LOCAL, Query()),
        "one address": choice.choose(LOCAL, Query(address=4096)),
        "filtered": choice.choose(LOCAL, Query(where=Filter(shared=True))),
        "residency": choice.choose(LOCAL, Query(residency=True)),
        "build ids": choice.choose(LOCAL, Query(build_ids=True)),
        "above the process's own": choice.choose(LOCAL, Query(address=2**64 - 10 * 2**20)),
    }
    assert {question: made.backend.name.removeprefix("linux-") for question, made in chosen.items()} == {
        "whole map": "procfs",
        "one address": "ioctl",
        "filtered": "ioctl",
        "residency": "procfs",
        "build ids": "ioctl",
        "above the process's own": "ioctl",
    }


def test_vsyscall_is_found_by_the_automatic_choice_though_the_ioctl_cannot_see_it() -> None:
    whole = vmatlas.snapshot(backend="linux-procfs")
    if whole[-1].name != "[vsyscall]":
        pytest.skip("this kernel has no [vsyscall] page")
    address = whole[-1].start
    assert vmatlas.find(None, address) == whole[-1]
    assert vmatlas.find(None, whole[-2].end, or_next=True) == whole[-1]
    assert vmatlas.find(None, address, backend="linux-ioctl") is None
    asked = [sys.executable, "-m", "vmatlas", "find", "self", f"{address:x}", "--backend", "linux-ioctl"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"vmatlas: no region that was asked for lies at {address:#x}, as far as linux-ioctl tells, which never tells "
        "what the kernel itself has there\n"
    )
