"""The program that reads debug information: it runs by itself, apart from who asks, and imports nothing of vmatlas.

On standard input: {"path": sys.path, "base": N, "addresses": [N, ...]}; the file is the descriptor that the first
argument names, and the second says how many seconds it may take.
On standard output: for each address a list of [function, file, line], the innermost first.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import signal
import sys
from typing import Any

LARGEST_MEMORY = 4 << 30
"""Bytes of address space, the file's own included."""
MOST_FRAMES = 128
"""Functions that are inlined into one another at one address."""
LONGEST = 4096
"""Characters of a name or a path."""
_PR_SET_PDEATHSIG = 1


def _bound(seconds: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # no prctl: the limits end us as well
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for which, limit in (
        (resource.RLIMIT_AS, LARGEST_MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(which)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(which, (limit, limit))


def main() -> None:
    """Answers once."""
    descriptor, seconds = int(sys.argv[1]), int(sys.argv[2])
    _bound(seconds)
    asked = json.load(sys.stdin)
    sys.path[:] = asked["path"]
    from symbolic.debuginfo import Archive  # type: ignore[import-not-found,unused-ignore]

    cache: Any = next(Archive.open(f"/proc/self/fd/{descriptor}").iter_objects()).make_symcache()
    base = asked["base"]
    json.dump(
        [
            [
                [each.symbol[:LONGEST], (each.full_path or "")[:LONGEST] or None, each.line or None]
                for each in (cache.lookup(address - base)[:MOST_FRAMES] if address >= base else ())
            ]
            for address in asked["addresses"]
        ],
        sys.stdout,
    )


if __name__ == "__main__":
    main()
