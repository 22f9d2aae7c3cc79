"""Core files with bytes that no writer wrote: an address space in order, or an error of ours that says where."""

from __future__ import annotations

import lzma
import struct
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import VmatlasError, remains
from vmatlas.conformance.thorough import examples
from vmatlas_linux_procfs import BACKEND

from .core_files import CORES, Load, Made

KEPT = 20_000
"""Bytes of each recorded core: all headers and notes lie in them."""

RECORDED = [lzma.decompress(path.read_bytes())[:KEPT] for path in sorted(CORES.glob("*.core.xz"))]
NUMBERS = st.one_of(
    st.integers(0, 64), st.sampled_from([2**31, 2**32 - 1, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1)
)
CHANGES = st.lists(st.tuples(st.integers(0, KEPT - 8), NUMBERS, st.sampled_from((1, 2, 4, 8))), max_size=6)


def check(content: bytes) -> None:
    """Whatever the bytes are."""
    with suppress(VmatlasError):
        capture = remains.read_bytes(content, "core", 0.0)
        if capture is None:
            return
        with suppress(VmatlasError):
            BACKEND.crash(capture)
        space = vmatlas.replay(capture)
        assert space.columns.first_disorder() is None
        assert len(list(space)) == len(space)
        assert space.incomplete


@settings(max_examples=examples(1000), deadline=None)
@given(st.sampled_from(RECORDED), CHANGES, st.integers(0, KEPT))
def test_recorded_core_with_numbers_changed_and_cut(
    content: bytes, changes: list[tuple[int, int, int]], cut: int
) -> None:
    damaged = bytearray(content)
    for place, number, size in changes:
        at = place % max(1, len(damaged) - size)
        damaged[at : at + size] = (number & (256**size - 1)).to_bytes(size, "little")
    check(bytes(damaged))
    check(bytes(damaged[:cut]))


@settings(max_examples=examples(1000), deadline=None)
@given(
    st.sampled_from([Made(), Made(32, "<", 3), Made(64, ">", 22), Made(32, ">", 8)]),
    st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 2**32 - 1)), max_size=5),
    st.lists(
        st.tuples(st.sampled_from((b"CORE\0", b"GDB\0", b"LINUX\0", b"")), NUMBERS, st.binary(max_size=200)), max_size=5
    ),
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=20)), max_size=4),
)
def test_core_of_any_numbers(
    by: Made,
    loads: list[tuple[int, int, int]],
    notes: list[tuple[bytes, int, bytes]],
    files: list[tuple[int, int, int, bytes]],
) -> None:
    most = 2**by.bits - 1
    told = by.status() + b"".join(by.note(kind & 0xFFFFFFFF, content, name) for name, kind, content in notes)
    told += by.files(
        [(start & most, end & most, offset & most, name.replace(b"\0", b"")) for start, end, offset, name in files]
    )
    with suppress(struct.error):
        check(by.core([Load(start & most, size & most, flags) for start, size, flags in loads], told))
