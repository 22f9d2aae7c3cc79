"""A process about which this kernel answers nothing, for real: the commands tell it, go on, and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.survey import survey
from vmatlas.target.local import LOCAL

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it holds a lock of a Linux kernel")

PROGRAM = Path(__file__).parent / "programs" / "held_exec.py"
COMMAND = [sys.executable, "-c", "import sys; from vmatlas.cli import main; sys.exit(main())"]


@pytest.fixture
def held() -> Iterator[int]:
    """A process whose map cannot be opened: whoever tries waits."""
    holder = subprocess.Popen([sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin and holder.stdout
    try:
        word, _, rest = holder.stdout.readline().strip().partition(" ")
        if word != "held":
            pytest.skip(f"no process can be held here: it {word} {rest}")
        yield int(rest)
    finally:
        holder.stdin.close()
        try:
            holder.wait(PATIENCE)
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()


def ask(*words: object) -> tuple[int, str, str, float]:
    began = time.monotonic()
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr, time.monotonic() - began


def test_the_map_of_a_held_process_is_given_up_and_ctrl_c_ends_the_wait(held: int) -> None:
    code, out, said, _ = ask("maps", held, "--patience", "1")
    assert (code, out) == (7, "")
    assert f"process {held} (" in said and "did not answer in 1" in said
    assert (
        "waits for a lock of that process, which it holds while it executes a program (" in said
        and f"in /proc/{held}" in said
    )
    waiting = subprocess.Popen([*COMMAND, "maps", str(held)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        time.sleep(1)  # it waits by then, or is about to
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(PATIENCE) in (130, -2)
    finally:
        waiting.kill()
        waiting.communicate()


def test_a_survey_gives_a_held_process_a_row_and_reads_the_others(held: int) -> None:
    code, out, said, took = ask("summary", "--all", "--patience", "1")
    assert code == 7
    assert any(line.split()[:1] == [str(held)] and "no answer in" in line for line in out.splitlines())
    assert f"process {held} (" in said
    assert took < PATIENCE
    found = {each.process.pid: each for each in survey(len_of_map, patience=1)}
    error = found[held].error
    assert isinstance(error, vmatlas.Unanswered) and error.waits_for is not None
    assert sum(each.answer is not None for each in found.values()) > 0


def test_a_choice_by_name_finds_the_others_and_tells_whose_name_could_not_be_asked(held: int) -> None:
    own = Path("/proc/self/comm").read_text().rstrip("\n")
    with subprocess.Popen([sys.executable, "-c", "open(0).read()"], stdin=subprocess.PIPE) as other:
        words = (f"children:{os.getpid()}", f"name:{own}", "name:no-such-program")
        code, out, said, _ = ask("processes", *words, "--patience", "1")
    assert other.pid in {int(line.split()[0]) for line in out.splitlines()[1:]}, said
    assert code == 7 and f"{held} " in said and "no answer in 2 s" in said, said
    with pytest.raises(vmatlas.NoSuchProcess) as error:
        vmatlas.select("name:no-such-program")
    assert error.value.incomplete is not None and str(held) in error.value.incomplete, "it may be that one"


def test_a_held_process_is_chosen_by_what_it_tells(held: int) -> None:
    (parent,) = (each.parent for each in vmatlas.processes() if each.pid == held)
    user = os.stat(f"/proc/{parent}").st_uid
    code, out, said, _ = ask("processes", f"user:{user}")
    assert held in {int(line.split()[0]) for line in out.splitlines()[1:]}, (code, said)
    assert held in {each.pid for each in vmatlas.select(f"children:{parent}")}


def test_what_a_held_process_belongs_to_is_not_told_and_not_waited_for(held: int) -> None:
    began = time.monotonic()
    assert LOCAL.system.belongs_to(held, None, "program") is None  # type: ignore[attr-defined]
    assert time.monotonic() - began < PATIENCE


def len_of_map(process: vmatlas.Process) -> int:
    return len(process.snapshot())


def test_the_list_of_an_agent_tells_a_held_process_as_the_host_does(held: int, binary: Path) -> None:
    with vmatlas.connect(f"agent:{binary}") as board:
        listed = {each.pid: each for each in vmatlas.processes(board)}
        seen = next(each for each in vmatlas.processes() if each.pid == held)
        told = listed[held]
        assert (told.name, told.parent, told.state) == (seen.name, seen.parent, seen.state)
        assert (told.start_time, told.kernel) == (None, False)
        own = listed[os.getpid()]
        assert own.start_time == next(each.start_time for each in vmatlas.processes() if each.pid == os.getpid())
        helpers = [each for each in listed.values() if each.parent == board.open(None).pid and each.state != "Z"]
        assert helpers == [], "who reads for it is not listed"
        assert {each.pid for each in vmatlas.processes(board)} >= {held, os.getpid()}, "and it is still of use"
