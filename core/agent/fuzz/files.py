"""The readers of files that strangers wrote eat arbitrary bytes: core files, minidumps, texts and reports, all of them
compressed; ELF files for their symbols and build ids; what a JIT wrote for perf; captures.

`python core/agent/fuzz/files.py SEED ROUNDS SECONDS FOLDER`, as host.py. The first inputs are the recorded files of the
plugins' tests. Claims: nothing but the errors that are documented, a map in order, and an end.
"""

from __future__ import annotations

import lzma
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import vmatlas
from vmatlas import registry, remains
from vmatlas.backend import TellsCrash
from vmatlas.capture import Capture
from vmatlas.conformance.made_core import made_core, note
from vmatlas.errors import Unsupported, VmatlasError
from vmatlas.operations import explaining
from vmatlas.symbols.elf import HEAD, parse_elf
from vmatlas.symbols.jit import jit_names
from vmatlas.symbols.table import Sections, TooManySymbols, build_id_of_head, reader_of, symbols_of

PLATFORMS = Path(__file__).resolve().parents[3] / "platforms"
LARGEST = 1 << 16
"""Bytes of an input: headers and notes of the recorded cores lie in their first 20,000."""
_RECORDED = 20_000


OTHERS = {
    b"FreeBSD": (3, 1, 0x11, 8, 10, 16),
    b"NetBSD-CORE": (1, 2),
    b"OpenBSD": (10, 11),
    b"QNX": (6, 7, 8, 9),
}
"""Who names the notes of other systems' cores, and the types that are read."""


def recorded() -> list[bytes]:
    """Files that were written by what writes them."""
    found = []
    for folder in ("cores", "reports", "captures"):
        for path in sorted(PLATFORMS.glob(f"*/tests/{folder}/*")):
            if path.is_file() and path.suffix not in (".md", ".json", ".bin"):
                content = path.read_bytes()
                found.append((lzma.decompress(content) if path.suffix == ".xz" else content)[:_RECORDED])
    found += [lzma.compress(each) for each in found[:3]]
    for name, kinds in OTHERS.items():  # of which none was recorded here
        for bits, mark in ((64, "<"), (32, ">")):
            notes = b"".join(note(name, kind, bytes(range(1, 177)), mark) for kind in kinds)
            loads = [(0x10000, 0x1000, 5), (0x11000, 0x2000, 6), (0x20000, 0x1000, 0)]
            found.append(made_core(loads, notes, bits=bits, mark=mark, os_abi=9 * (name == b"FreeBSD")))
    programs = sorted(PLATFORMS.glob("*/src/*/_native*.so"), key=lambda path: path.stat().st_size)
    return found + [path.read_bytes()[:LARGEST] for path in programs[:1]]


def eat_remains(data: bytes) -> None:
    """Whatever it is taken for: a map in order, or an error of ours."""
    lenient = len(data) % 2 == 1
    with suppress(VmatlasError):
        capture = remains.read_bytes(data, "file", 0.0, lenient=lenient)
        if capture is None:
            capture = Capture.read(BytesIO(data), "file") if data.startswith(b"PK") else None
        if capture is None:
            return
        backend = registry.backend(capture.backend, distribution=capture.distribution)
        crash = None
        if isinstance(backend, TellsCrash):
            with suppress(Unsupported):
                crash = backend.crash(capture)
        space = vmatlas.replay(capture)
        assert space.columns.first_disorder() is None
        assert len(list(space)) == len(space)
        str(explaining.explain_crash(crash or explaining.of_live_threads(space, None), space))


def eat_elf(data: bytes) -> None:
    """Symbols of any bytes, looked up at any address."""
    build_id_of_head(data[:4096])
    parse_elf(data[:HEAD])
    read = reader_of(data)
    str(Sections(read).build_id)
    table = None
    with suppress(TooManySymbols):
        table = symbols_of(read)
    if table is not None:
        table.find_many([0, 1, 0x1000, 0x1234, 1 << 32, (1 << 64) - 1, *range(0, 1 << 16, 4097)])


def one_input(data: bytes) -> None:
    """Raises when a claim does not hold."""
    eat_remains(data)
    if data.startswith(b"\x7fELF"):
        eat_elf(data)
    jit_names(reader_of(data), len(data), [0, 0x1000, 1 << 47])


if __name__ == "__main__":
    from host import main

    sys.exit(main("files", recorded(), one_input, LARGEST))
