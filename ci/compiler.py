"""A C compiler for another machine than this one, as setuptools is told of it: ziglang, without this machine's flags.

    python ci/compiler.py TARGET ARGUMENT...    TARGET as ziglang names it: x86_64-linux-gnu.2.17

What setuptools passes besides ours is how this Python was built: its warnings, its debugging, the folder of its
libraries, which is nobody else's. Ours are kept, so the same sources give the same bytes by every Python.
"""

from __future__ import annotations

import os
import sys

OURS = ("-c", "-D", "-I", "-O2", "-fPIC", "-o", "-pthread", "-shared", "-std=")
ALWAYS = ("-O2", "-g0", "-fno-strict-aliasing", "-fvisibility=hidden", "-s")


def chosen(arguments: list[str]) -> list[str]:
    """Those that are ours: files, and options that a twin asks for or cannot do without."""
    return [each for each in arguments if not each.startswith("-") or each.startswith(OURS)]


if __name__ == "__main__":
    target, *given = sys.argv[1:]
    headers = [f"-I{folder}" for folder in filter(None, [os.environ.get("VMATLAS_HEADERS")])]
    command = [sys.executable, "-P", "-m", "ziglang", "cc", "-target", target, *ALWAYS, *chosen(given), *headers]
    os.execv(command[0], command)
