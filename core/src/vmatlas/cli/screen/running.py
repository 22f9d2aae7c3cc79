"""A program of textual, run so that it ends as other commands do: by signals, and with their exit codes."""

from __future__ import annotations

import asyncio
import signal
import sys

from vmatlas.cli.exits import Exit
from vmatlas.cli.screen.pages import Top

_CODES = {signal.SIGINT: Exit.OK, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.HUNG_UP}
"""Ctrl-C is how one leaves what goes on for ever."""

_SWITCH = 0.001
"""Seconds that a thread which works on an answer keeps the interpreter from one that has a key to serve."""


def run(app: Top) -> int:
    """Show it until it ends: the exit code. The terminal is then as it was.

    Raises TargetLost where the target was lost meanwhile, once the user has seen enough of what was left.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        return asyncio.run(_run(app))
    finally:
        sys.setswitchinterval(before)


async def _run(app: Top) -> int:
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _CODES}
    for number, code in _CODES.items():
        if before[number] is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, app.exit, code)
    try:
        found = await app.run_async(mouse=False)
    finally:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
    if app.defect is not None:
        raise app.defect
    if app.lost is not None and found == Exit.OK:
        raise app.lost
    return (Exit.BUG if app.return_code else Exit.OK) if found is None else found
