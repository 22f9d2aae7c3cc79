"""The command line: a thin skin over the API.

A command parses, calls the API, and hands the value to a renderer (`render/`). What goes wrong becomes a line, a hint
and an exit code in one place (`exits`). A command's module, rich, and all that is heavy are imported when that command
needs them. This module must stay light: it runs before anything can be caught.
"""

from __future__ import annotations


def main() -> int:
    """The program `vmatlas`: its exit code, which `vmatlas.cli.exits` explains."""
    import gc

    gc.set_threshold(50_000)  # the imports and a large map make many objects and no garbage: 5 % of a start
    try:
        from vmatlas.cli.program import program
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        from vmatlas.cli.exits import OF_COMMAND_LINE, exit_of, say, story_of

        if error.name not in OF_COMMAND_LINE:
            raise
        line, hint = story_of(error)
        say(line, hint=hint)
        return exit_of(error)
    _end_what_was_started()
    return program.run()


def _end_what_was_started() -> None:
    """Let SIGTERM leave all contexts as Ctrl-C does: the program of a target (`agent:COMMAND`) is ended there."""
    import signal
    import sys

    from vmatlas.cli.exits import Exit

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.TERMINATED))
