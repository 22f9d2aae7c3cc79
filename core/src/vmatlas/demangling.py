"""Legible names for the mangled ones of C++ and Rust, by c++filt (binutils) or llvm-cxxfilt, where one is installed.

No library for Python that is kept does this for both (symbolic, which reads lines of source code, has no demangler in
its Python package). A name is a stranger's, and unfolds to a multiple of itself: so it is a program of its own that
reads them, with limits of time, memory and output, and what it cannot tell stays as it is.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable

SECONDS = 10
LARGEST_MEMORY = 1 << 29
LARGEST_ANSWER = 1 << 25
"""Bytes of all legible names together."""
_PROGRAMS = ("c++filt", "llvm-cxxfilt")
_MANGLED = re.compile(r"_{1,3}[ZR][A-Za-z0-9_$.]+")
"""Of C++ and older Rust _Z, of Rust's own scheme _R. What stands behind @ is a version, and no part of it."""


def is_mangled(name: str) -> bool:
    """Whether it looks like one of C++ or Rust."""
    return name.startswith(("_Z", "_R", "__Z", "___Z")) and _MANGLED.fullmatch(name.partition("@")[0]) is not None


def is_possible() -> bool:
    """Whether there is a program that does it."""
    return _program() is not None


def legible(names: Iterable[str]) -> dict[str, str]:
    """Of those that are mangled what they mean; others, and what no program here can tell, are not in it."""
    asked = list(dict.fromkeys(filter(is_mangled, names)))
    program = _program()
    if not asked or program is None:
        return {}
    lines = _answer(program, [each.partition("@")[0] for each in asked])
    return {
        name: told + name[len(name.partition("@")[0]) :]
        for name, told in zip(asked, lines, strict=False)
        if told and not is_mangled(told)
    }


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def _answer(program: str, names: list[str]) -> list[str]:
    """A line for each; fewer where it was ended before its end: then the last may be half a name, and is left out."""
    import resource

    limits = (
        (resource.RLIMIT_AS, LARGEST_MEMORY),
        (resource.RLIMIT_FSIZE, LARGEST_ANSWER),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
    )
    with tempfile.TemporaryFile() as told:
        try:
            process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=told, stderr=subprocess.DEVNULL)
        except OSError:
            return []
        with process:
            for which, most in limits:  # before it has a name to read
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    resource.prlimit(process.pid, which, (most, most))
            try:
                process.communicate("".join(f"{name}\n" for name in names).encode(), timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        told.seek(0)
        lines = told.read(LARGEST_ANSWER).decode("utf-8", "replace").split("\n")
    return lines[:-1]


__all__ = ["is_mangled", "is_possible", "legible"]
