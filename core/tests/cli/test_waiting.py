"""A terminal shows that an answer over a wire is still waited for; a pipe does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vmatlas.cli.exits import Exit
from vmatlas.errors import TargetLost
from vmatlas.target.asking import Limits, heard_by
from vmatlas.target.connect import connect

from .conftest import Run

SILENT = ("maps", "1", "--target", "agent:sleep 3600", "--patience", "2.5")


def test_a_terminal_shows_that_an_answer_is_waited_for(in_terminal: Callable[..., tuple[str, int]]) -> None:
    shown, code = in_terminal(100, *SILENT)
    assert code == Exit.TARGET_LOST
    assert "agent:sleep 3600: no answer yet, " in shown
    assert "\x1b[Kvmatlas: the target did not answer" in shown, "the line is gone before the last word"


def test_a_pipe_is_not_told_of_waiting(run: Run) -> None:
    done = run(*SILENT)
    assert done.exit_code == Exit.TARGET_LOST
    assert "no answer yet" not in done.output
    assert done.stderr.startswith("vmatlas: the target did not answer")


def test_how_much_came_so_far_is_told() -> None:
    told: list[tuple[str, int]] = []

    class Listener:
        def waiting(self, name: str, received: int, seconds: float) -> None:
            assert seconds > 1
            told.append((name, received))

        def done(self) -> None:
            told.append(("done", 0))

    url = "agent:sh -c 'while sleep 0.2; do printf xxxxxxxxxx; done'"
    with heard_by(Listener()), pytest.raises(TargetLost):
        connect(url, Limits(silence=2.5, again=1))
    assert told[-1] == ("done", 0)
    amounts = [received for name, received in told if name == url]
    assert amounts == sorted(amounts) and amounts[-1] > amounts[0] > 0
