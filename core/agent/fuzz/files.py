"""The readers of files that strangers wrote eat arbitrary bytes: core files, minidumps, texts and reports, all of them
compressed; ELF files for their symbols and build ids; what a JIT wrote for perf; captures.

`python core/agent/fuzz/files.py READER SEED ROUNDS SECONDS FOLDER`, as host.py; READER is one of `READERS`. The first
inputs of each are the recorded files of the plugins' tests that are its business. Claims: nothing but the errors that
are documented, a map in order, and an end.
"""

from __future__ import annotations

import gzip
import importlib
import lzma
import sys
from collections.abc import Callable
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


def recorded() -> dict[str, list[bytes]]:
    """Files that were written by what writes them, for each reader."""
    found: dict[str, list[bytes]] = {reader: [] for reader in READERS}
    for folder in ("cores", "reports", "captures"):
        for path in sorted(PLATFORMS.glob(f"*/tests/{folder}/*")):
            if path.is_file() and path.suffix not in (".md", ".json", ".bin"):
                content = path.read_bytes()
                content = (lzma.decompress(content) if path.suffix == ".xz" else content)[:_RECORDED]
                found[reader_for(content)].append(content)
    for name, kinds in OTHERS.items():  # of which none was recorded here
        for bits, mark in ((64, "<"), (32, ">")):
            notes = b"".join(note(name, kind, bytes(range(1, 177)), mark) for kind in kinds)
            loads = [(0x10000, 0x1000, 5), (0x11000, 0x2000, 6), (0x20000, 0x1000, 0)]
            found["cores"].append(made_core(loads, notes, bits=bits, mark=mark, os_abi=9 * (name == b"FreeBSD")))
    for each in (found["cores"][0], found["minidumps"][0], found["texts"][0]):
        found["packed"] += [pack(each) for pack in packers()]
    programs = sorted(PLATFORMS.glob("*/src/*/_native*.so"), key=lambda path: path.stat().st_size)
    found["symbols"] += [path.read_bytes()[:LARGEST] for path in programs[:1]]
    found["jit"] += [b"1000 10 one\n0x1004 4 two three\n2000 8 \xff\n"]
    return found


def reader_for(content: bytes) -> str:
    """Whose business a file is, by its first bytes."""
    if content.startswith(b"\x7fELF"):
        return "cores"
    if content.startswith(b"MDMP"):
        return "minidumps"
    return "captures" if content.startswith(b"PK") else "texts"


def packers() -> list[Callable[[bytes], bytes]]:
    """All that a core is found compressed by, and is read here."""
    found: list[Callable[[bytes], bytes]] = [lzma.compress, gzip.compress]
    for name in ("zstandard", "lz4.frame"):
        with suppress(ImportError):
            found.append(importlib.import_module(name).compress)
    return found


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


def eat_jit(data: bytes) -> None:
    """The lines of a map for perf, asked for addresses in it and beyond."""
    jit_names(reader_of(data), len(data), [0, 0x1000, 0x1005, 0x2000, 1 << 47])


READERS: dict[str, Callable[[bytes], None]] = {
    "cores": eat_remains,
    "minidumps": eat_remains,
    "texts": eat_remains,
    "packed": eat_remains,
    "captures": eat_remains,
    "symbols": eat_elf,
    "jit": eat_jit,
}
"""Whoever eats a file is fuzzed alone: what is guided by coverage would else stay with what is found soonest."""


if __name__ == "__main__":
    from host import main

    reader = sys.argv.pop(1)
    sys.exit(main(f"files, {reader}", recorded()[reader], READERS[reader], LARGEST, f"files.READERS[{reader!r}]"))
