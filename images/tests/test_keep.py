"""A machine that stays: booted once, joined by each question, gone with its time, its holder, or by a word.

Here it is gVisor's kernel where this host lets it run, else Linux in QEMU: both stand for any machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.asking import Limits
from vmatlas.target.connect import connect
from vmatlas_images import Cache, find
from vmatlas_images.errors import MachineError, StageError
from vmatlas_images.run.keep import Kept, end_kept, hold_apart, kept, offered, turn

NAMES = ("gvisor", "linux-6.12")
pytestmark = pytest.mark.timeout(4 * PATIENCE)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "waited for in vain"
        time.sleep(0.05)


class Held:
    """What `offered` needs of a machine that runs, without one."""

    kernel, accelerator = "9.9", type("Accelerator", (), {"scale": 2.0, "__str__": lambda self: "none"})()

    def __init__(self, folder: Path) -> None:
        self.machine = find("linux-6.12")
        self.socket_path, self.console_path = folder / "agent", folder / "console"


def test_what_is_offered_is_found_while_its_holder_lives_and_no_longer(cache: Cache, tmp_path: Path) -> None:
    assert kept("linux-6.12", cache) is None
    with offered(Held(tmp_path), 1e10, cache) as is_wanted:  # type: ignore[arg-type]
        found = kept("linux-6.12", cache)
        assert found is not None
        assert (found.kernel, found.scale, found.socket) == ("9.9", 2.0, str(tmp_path / "agent"))
        assert is_wanted()
        with (
            pytest.raises(MachineError, match="is up already"),
            offered(Held(tmp_path), None, cache),  # type: ignore[arg-type]
        ):
            pass
    assert kept("linux-6.12", cache) is None


def test_the_file_of_a_holder_that_was_killed_is_nobodys_offer(cache: Cache) -> None:
    room = cache.room("kept")
    (room / "linux-6.12.json").write_text('{"name": "linux-6.12"}')
    assert kept("linux-6.12", cache) is None


def test_a_word_ends_what_is_held(cache: Cache, tmp_path: Path) -> None:
    with offered(Held(tmp_path), None, cache) as is_wanted:  # type: ignore[arg-type]
        assert end_kept("linux-6.12", cache)  # its socket is not there: it is gone at once
        assert not is_wanted()
    assert not end_kept("linux-6.12", cache)


def test_an_agent_has_one_connection_at_a_time_and_the_next_waits_for_its_turn(cache: Cache) -> None:
    held = Kept("linux-6.12", "9.9", "tcg", 1.0, "/nowhere", "/nowhere", None)
    with (
        turn(held, 0, cache),
        pytest.raises(StageError, match="another connection has had its agent"),
        turn(held, 0, cache),
    ):
        pass
    with turn(held, 0, cache):
        pass


def test_a_keeper_whose_starter_is_gone_before_its_machine_is_up_ends(cache: Cache) -> None:
    command = [sys.executable, "-P", "-m", "vmatlas_images.keeper", "linux-6.12", "3600"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert kept("linux-6.12", cache) is None


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A machine that is held, apart; under a name of its own, which no other test joins."""
    folder = tmp_path_factory.mktemp("machines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VMATLAS_IMAGES", str(folder))
        for each in NAMES:
            own = f"{each}-held-{os.getpid()}"
            told = find(each).path.read_text().replace(f"name: {each}\n", f"name: {own}\n")
            (folder / f"{own}.yaml").write_text(told)
            if hold_apart(own, 4 * PATIENCE, Console(quiet=True)) == 0:
                yield own
                end_kept(own)
                return
    pytest.skip(f"none of {', '.join(NAMES)} runs on this host")


@pytest.mark.machine
@pytest.mark.network
def test_one_boot_answers_many_questions_and_a_word_ends_it(name: str) -> None:
    held = kept(name)
    assert held is not None
    for _ in range(3):
        with connect(f"qemu:{name}", Limits(silence=PATIENCE)) as target:
            assert len(vmatlas.snapshot(1, target=target)) > 1
            assert target.system_info.release == held.kernel
    assert Path(held.socket).exists()
    assert end_kept(name)
    assert not Path(held.socket).exists()
    assert kept(name) is None


@pytest.mark.machine
@pytest.mark.network
@pytest.mark.parametrize("how", ["killed", "time"])
def test_what_is_held_goes_with_its_holder_or_its_time(name: str, how: str) -> None:
    end_kept(name)
    seconds = 2.0 if how == "time" else 4 * PATIENCE
    starter = "from rich.console import Console\nfrom vmatlas_images.run.keep import hold_apart\n"
    starter += f"raise SystemExit(hold_apart({name!r}, {seconds}, Console()))"
    said = subprocess.run(
        [sys.executable, "-c", starter], capture_output=True, text=True, timeout=2 * PATIENCE, check=True
    ).stdout
    assert f"--target qemu:{name} joins it" in said
    folder = Path(said.partition("agent:")[2].split("agent:")[-1].split()[0]).parent
    if how == "killed":
        (holder,) = holders(name)
        os.kill(holder, signal.SIGKILL)
    until(lambda: not folder.exists())
    until(lambda: kept(name) is None)


def holders(name: str) -> list[int]:
    """The keepers of that name that this user has."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"vmatlas_images.keeper" in words and name.encode() in words:
            found.append(int(place.parent.name))
    return found
