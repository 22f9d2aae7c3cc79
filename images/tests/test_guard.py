"""Nothing that is started outlives the process that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images.fetch.guarded import Guarded, run

PARENT = """
import os, subprocess, sys, time
from pathlib import Path
from vmatlas_images.fetch.guarded import Guarded
folder = Path(sys.argv[1])
script = f"cd {folder}/..; sleep 3600 & echo $! > child; echo $$ > pid; wait"
g = Guarded(["sh", "-c", script], folder=folder, output=subprocess.DEVNULL)
print(g.process.pid, flush=True)
time.sleep(3600)
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def within(seconds: float, fact: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fact():
            return True
        time.sleep(0.02)
    return fact()


def family(tmp_path: Path) -> tuple[subprocess.Popen[str], int, int, Path]:
    """A parent, the pids of its guard and of the guarded command, and the folder that goes with them."""
    folder = tmp_path / "run"
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, folder],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    guard = int(parent.stdout.readline())
    assert within(PATIENCE, lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().endswith("\n"))
    return parent, guard, int((tmp_path / "pid").read_text()), folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_command_and_its_folder_go_with_the_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent, guard, command, folder = family(tmp_path)
    os.killpg(parent.pid, number)
    assert parent.wait(PATIENCE) != 0
    assert within(PATIENCE, lambda: not is_alive(command) and not is_alive(guard))
    assert within(PATIENCE, lambda: not folder.exists())


def test_the_command_goes_with_a_killed_guard(tmp_path: Path) -> None:
    parent, guard, command, _ = family(tmp_path)
    os.kill(guard, signal.SIGKILL)
    assert within(PATIENCE, lambda: not is_alive(command))
    parent.kill()
    parent.wait(PATIENCE)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)  # a killed guard cannot see to the command's own


def test_a_terminated_guard_takes_the_command_with_it(tmp_path: Path) -> None:
    parent, guard, command, folder = family(tmp_path)
    os.kill(guard, signal.SIGTERM)
    assert within(PATIENCE, lambda: not is_alive(command) and not folder.exists())
    parent.kill()
    parent.wait(PATIENCE)


def test_children_of_the_command_go_too(tmp_path: Path) -> None:
    guarded = Guarded(["sh", "-c", f"sleep 3600 & echo $! > {tmp_path}/pid; wait"])
    assert within(PATIENCE, lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().endswith("\n"))
    assert guarded.wait(0.1) is None
    guarded.end()
    guarded.end()
    assert within(PATIENCE, lambda: not is_alive(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["sh", "-c", "echo out; echo err >&2; exit 7"], 7, "out\nerr\n"),
        (["sh", "-c", "kill -9 $$"], 128 + 9, ""),
        (["/no/such/program"], 127, "cannot start /no/such/program: No such file or directory\n"),
    ],
)
def test_the_commands_status_and_words_come_through(command: list[str], status: int, said: str) -> None:
    assert run(command, PATIENCE) == (status, said)


def test_commands_do_not_run_in_the_current_folder_which_may_be_somebody_else_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU would take its firmware from there: bios-256k.bin, linuxboot_dma.bin, efi-e1000.rom."""
    monkeypatch.chdir(tmp_path)
    assert run(["pwd"], PATIENCE) == (0, "/\n")
    assert run(["pwd"], PATIENCE, cwd=tmp_path) == (0, f"{tmp_path}\n")


def test_of_a_command_that_says_much_the_end_is_kept() -> None:
    status, said = run(["sh", "-c", "yes | head -c 2000000; echo end"], PATIENCE)
    assert (status, len(said), said[-4:]) == (0, 1 << 20, "end\n")


def test_a_command_past_its_limit_is_ended() -> None:
    started = time.monotonic()
    assert run(["sleep", "3600"], 0.3) == (None, "")
    assert time.monotonic() - started < PATIENCE


BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_what_a_command_took_of_a_processor_is_told_once_it_has_ended() -> None:
    guarded = Guarded([sys.executable, "-I", "-S", "-c", BURN])
    assert guarded.processor_seconds is None
    assert guarded.wait(PATIENCE) == 0
    assert guarded.processor_seconds is not None
    assert 0.3 <= guarded.processor_seconds < PATIENCE


def test_what_a_command_and_its_children_have_taken_so_far_is_told() -> None:
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("this kernel does not list the children of a process")
    command = ["sh", "-c", f"{sys.executable} -I -S -c '{BURN}\ntime.sleep(3600)' & wait"]
    guarded = Guarded(command)
    try:
        assert within(PATIENCE, lambda: (guarded.spent() or 0.0) >= 0.25)
    finally:
        guarded.end()
    assert guarded.spent() is None


def test_two_that_wait_for_a_command_are_told_the_same() -> None:
    guarded = Guarded(["sh", "-c", "sleep 0.2; exit 7"])
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: guarded.wait(PATIENCE), range(4))) == [7] * 4
