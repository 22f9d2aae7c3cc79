"""What the cases of crashed processes are measured on: a core file of many regions, addresses of one library."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vmatlas
from vmatlas.conformance.made_core import made_core, note

REGIONS, NAMED = 65_000, 2_000
"""Program headers of the core, and how many of them have a file."""
ADDRESSES = 10_000
_PAGE = 4096


@contextmanager
def core() -> Iterator[Path]:
    """A core file as the kernel writes it, without the memory."""
    starts = [0x10000 + 2 * _PAGE * each for each in range(REGIONS)]
    named = range(0, REGIONS, REGIONS // NAMED)
    words = [len(named), _PAGE]
    for each in named:
        words += [starts[each], starts[each] + _PAGE, each]
    files = struct.pack(f"<{len(words)}Q", *words) + b"".join(b"/usr/lib/x/lib%d.so\0" % (each % 97) for each in named)
    notes = note(b"CORE", 1, bytes(336)) + note(b"CORE", 3, bytes(136)) + note(b"CORE", 0x46494C45, files)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "core"
        path.write_bytes(made_core([(start, _PAGE, 6) for start in starts], notes))
        yield path


def read_of_a_large_one() -> str:
    """How much of a core of 60 GB is read (1,000 regions; a hole but for headers and notes), and the memory.

    Its peak is the memory's own (VmHWM): what getrusage tells holds what the process had before it executed a program.
    """
    program = (
        "import sys; from vmatlas import remains; found = remains.read(sys.argv[1]); import vmatlas\n"
        "count = len(vmatlas.replay(found.capture)); told = open('/proc/self/status').read().split()\n"
        "used = int(told[told.index('VmHWM:') + 1])\n"
        "print(f'{found.bytes_read:,} of {found.size:,} bytes, {used / 1024:.0f} MiB of memory, {count:,} regions')"
    )
    notes = note(b"CORE", 1, bytes(336)) + note(b"CORE", 3, bytes(136))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "core"
        path.write_bytes(made_core([((each + 1) << 26, 60 << 20, 6) for each in range(1000)], notes))
        os.truncate(path, 60 << 30)
        done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def of_libc() -> tuple[str, list[int], list[int]]:
    """The C library of this process, addresses in its code as they are here, and the same in its own file."""
    space = vmatlas.snapshot()
    code = next(
        each for each in space if "libc.so" in (each.path or "") and each.protection & vmatlas.Protection.EXECUTE
    )
    numbers = random.Random(1)
    here = [numbers.randrange(code.start, code.end) for _ in range(ADDRESSES)]
    with vmatlas.open() as process:
        shift = (process.elf_address(code.start, code) or 0) - code.start
    return code.path or "", here, [each + shift for each in here]
