"""The command line: a thin skin over the API.

A command parses, calls the API, and hands the value to a renderer (`render/`). What goes wrong becomes a line, a hint
and an exit code in one place (`exits`). A command's module, rich, and all that is heavy are imported when that command
needs them. This module must stay light: it runs before anything can be caught.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

_FAILED = 9
"""`exits.Exit.FAILED`, without loading it."""


def main() -> int:
    """The program `vmatlas`: its exit code, which `vmatlas.cli.exits` explains."""
    try:
        code = _run()
    except (MemoryError, OSError, SystemError) as error:  # too short of something even to load what tells errors
        code = _last_word(error)
    except Exception as error:
        if unloaded(error) is None:
            raise
        code = _last_word(error)
    _end_beside_threads(code)
    gc.freeze()  # on its way out the interpreter would look through all that there is for garbage: a sixth of a start
    return code


_DAMAGED = "EOFError", "ValueError", "TypeError", "SyntaxError", "UnicodeDecodeError"
"""What Python's import raises for a file of code, compiled or not, that is cut, or is none."""


def unloaded(error: BaseException) -> tuple[str, str] | None:
    """A part of this program that Python could not load, as a line, and what to do; None: the error is another.

    It may be found at any time, since modules are loaded when they are needed: its file is no matter of the user's.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not trace.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
        return None
    if isinstance(error, OSError):
        line = f"a part of this program could not be loaded: {error.strerror or error}"
        return line, "it takes descriptors (ulimit -n), memory, and the right to read where it is installed"
    known = trace.tb_frame.f_locals
    # What is no code at all is an ImportError, as is much else: of a compiled file it has the path at hand.
    if type(error).__name__ not in _DAMAGED and not (type(error) is ImportError and "bytecode_path" in known):
        return None
    path = next((known[name] for name in ("bytecode_path", "source_path", "path") if known.get(name)), "its file")
    line = f"a part of this program could not be loaded: {path} is damaged ({error})"
    return line, "delete the file where it is in a __pycache__; else install anew"


def _last_word(error: Exception) -> int:
    """One line on standard error, by what is loaded already.

    Where an import finds no memory, Python 3.11 may lose that error on the way, and raise SystemError instead.
    """
    import os

    what = (error.strerror or str(error)) if isinstance(error, OSError) else "out of memory"
    where = error.filename if isinstance(error, OSError) else None
    line, hint = unloaded(error) or (f"{where}: {what}" if where is not None else what, None)
    lines = [f"vmatlas: {ascii(line)[1:-1]}\n", f"hint: {hint}\n" if hint is not None else ""]
    try:
        os.write(2, "".join(lines).encode("ascii"))
    except OSError:  # closed, full: the exit code tells
        return _FAILED
    return _FAILED


def _end_beside_threads(code: int) -> None:
    """End the program here, where a thread is left whose question still waits.

    One that comes back to an interpreter on its way out aborts the program, should there be no memory or no descriptor
    for the library that ending a thread takes (Python before 3.14).
    """
    threading, patience = sys.modules.get("threading"), sys.modules.get("vmatlas.patience")
    if threading is None or patience is None:
        return
    if any(thread.name == patience.THREAD for thread in threading.enumerate()):
        import os

        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                try:
                    stream.flush()
                except (OSError, ValueError):
                    code = code or _FAILED
        os._exit(code)


def _run() -> int:
    gc.set_threshold(50_000)  # the imports and a large map make many objects and no garbage: 5 % of a start
    try:
        command = _understood()
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:  # Python before 3.12 makes one of it while a class is made
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        return 130
    except ImportError as error:
        from vmatlas.cli.exits import Exit, exit_of, say, story_of

        code = exit_of(error)
        if code is Exit.BUG:
            raise
        line, hint = story_of(error)
        say(line, hint=hint)
        return code
    from vmatlas.cli import ending

    ending.begin()
    try:
        return command()
    finally:
        ending.end()


def _understood() -> Callable[[], int]:
    """What the command line asks for, with all that is imported for that first."""
    from vmatlas.cli.plain import understood

    plain = understood(sys.argv[1:])
    if plain is None:
        from vmatlas.cli.program import program

        return program.run
    from vmatlas.cli import running

    return lambda: running.run(plain)
