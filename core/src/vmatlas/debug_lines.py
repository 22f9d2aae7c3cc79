"""Lines of source code for addresses of an ELF file, by the package symbolic.

Debug information is as long and as odd as a stranger likes to make it: so it is read by a process of its own, whose
memory and time are limited, and which ends with us.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vmatlas.errors import Unsupported
from vmatlas.symbols.lines import Frames, SourceLine

SECONDS = 60.0
"""How long a file's debug information may take to be read: that of a browser has a gigabyte."""

_PROGRAM = Path(__file__).with_name("debug_lines_apart.py")


class Unreadable(Exception):
    """Why nothing was told, in words."""


def check_installed() -> None:
    """Raises Unsupported."""
    if importlib.util.find_spec("symbolic") is None:
        raise Unsupported(
            "lines of source code are read by the package symbolic, which is not installed", hint="pip install symbolic"
        )
    if not sys.executable:
        raise Unsupported("lines of source code are read by a Python of its own, and this one tells no path of its own")


def lines_of(descriptor: int, base: int, addresses: Sequence[int], *, seconds: float = SECONDS) -> list[Frames]:
    """For each address of the file's own the functions that it lies in, and the line in each; the innermost first.

    `base`: where the first segment of the file is loaded, in its own addresses. An address that no line is told of has
    no frames. Raises Unsupported (the package is not installed), Unreadable.
    """
    check_installed()
    asked = json.dumps({"path": sys.path, "base": base, "addresses": list(addresses)})
    command = [sys.executable, "-I", "-S", str(_PROGRAM), str(descriptor), str(math.ceil(seconds))]
    try:
        told = subprocess.run(
            command, input=asked, capture_output=True, text=True, pass_fds=[descriptor], timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"its debug information took more than {seconds:g} seconds to read") from None
    except OSError as error:
        raise Unreadable(f"no process could be started to read its debug information: {error.strerror}") from None
    if told.returncode:
        raise Unreadable(_why(told.returncode, told.stderr))
    return [tuple(SourceLine(*each) for each in frames) for frames in json.loads(told.stdout)]


def _why(code: int, words: str) -> str:
    last = words.strip().rpartition("\n")[2][:200]
    if code < 0:
        return f"reading its debug information was ended by signal {-code}" + (f": {last}" if last else "")
    return f"its debug information cannot be read: {last or f'exit {code}'}"


__all__ = ["SECONDS", "Unreadable", "check_installed", "lines_of"]
