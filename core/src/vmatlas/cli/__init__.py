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
        if error.name not in ("click", "rich"):
            raise
        import sys

        sys.stderr.write(f"vmatlas: the command line needs {error.name}, which is not installed\n")
        sys.stderr.write('hint: pip install "vmatlas[cli]"\n')
        return 5
    return program.run()
