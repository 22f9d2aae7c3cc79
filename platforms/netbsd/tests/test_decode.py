"""The decoder is pure: records of either byte order are read back exactly, all else is MalformedData."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import AddressSpace, Capture, Disordered, MalformedData, NoSuchProcess, Query, SystemInfo
from vmatlas.conformance.thorough import examples
from vmatlas.model.system import ByteOrder
from vmatlas_netbsd import BACKEND, layout
from vmatlas_netbsd.decode import MAP, PROCESS

CAPTURES = sorted((Path(__file__).parent / "captures").glob("*.vmatlas"))
SYSTEM = SystemInfo("netbsd", "1.0", "", "x86_64", "little", 64, 4096)
LARGEST = {"b": 2**7 - 1, "B": 2**8 - 1, "h": 2**15 - 1, "H": 2**16 - 1, "i": 2**31 - 1, "I": 2**32 - 1, "q": 2**63 - 1}


def decoded(data: bytes, byte_order: ByteOrder = "little", **streams: bytes) -> AddressSpace:
    system = replace(SYSTEM, byte_order=byte_order)
    streams = {MAP: data, **streams}
    return BACKEND.decode(Capture(streams, system, 7, BACKEND.name, BACKEND.distribution, Query(), time.time()))


def packed(byte_order: ByteOrder = "little", **changed: Any) -> bytes:
    """A record of a map: zeros, but for what is said."""
    empty = {name: b"" if code.endswith("s") else 0 for name, code, _ in layout.REGION_FIELDS}
    return layout.region_structure(byte_order).pack(*(empty | {"start": 0x1000, "end": 0x2000} | changed).values())


@st.composite
def maps(draw: st.DrawFn) -> tuple[list[dict[str, Any]], ByteOrder]:
    """Records with every field that the kernel might set, in order."""
    bounds = sorted(draw(st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=16)))
    rows = []
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        row: dict[str, Any] = {}
        for name, code, _ in layout.REGION_FIELDS:
            if code.endswith("s"):
                row[name] = draw(st.binary(max_size=min(int(code[:-1]) - 1, 60)))
            else:
                row[name] = draw(st.integers(0, LARGEST.get(code, 2**64 - 1)))
        rows.append(row | {"start": start, "end": end})
    return rows, draw(st.sampled_from(["little", "big"]))


@given(maps())
@settings(max_examples=examples(200), deadline=None)
def test_records_read_back_as_they_were_packed(made: tuple[list[dict[str, Any]], ByteOrder]) -> None:
    rows, order = made
    space = decoded(b"".join(packed(order, **row) for row in rows), order)
    assert [(region.start, region.end) for region in space] == [(row["start"], row["end"]) for row in rows]


@given(st.binary(max_size=4 * layout.REGION_SIZE), st.one_of(st.none(), st.binary(max_size=2 * layout.PROCESS_SIZE)))
@settings(max_examples=examples(300), deadline=None)
def test_arbitrary_bytes_are_malformed_or_read(data: bytes, process: bytes | None) -> None:
    try:
        space = decoded(data, **({} if process is None else {PROCESS: process}))
    except MalformedData as error:
        assert error.stream in (MAP, PROCESS)
    except NoSuchProcess:
        assert not data
    else:
        assert all(before.end <= after.start for before, after in pairwise(space))


@pytest.mark.parametrize("bounds", [(0x1000, 0x2000), (0x1FFF, 0x3000), (0x5000, 0x5000), (0x6000, 0x5000)])
def test_regions_out_of_order_are_disordered(bounds: tuple[int, int]) -> None:
    with pytest.raises(Disordered) as raised:
        decoded(packed() + packed(start=bounds[0], end=bounds[1]))
    assert raised.value.offset == layout.REGION_SIZE


def test_a_record_that_is_cut_is_malformed() -> None:
    with pytest.raises(MalformedData) as raised:
        decoded(packed() + packed()[:-1])
    assert raised.value.offset == layout.REGION_SIZE


def test_an_empty_map_without_its_process_is_malformed_and_without_a_process_gone() -> None:
    with pytest.raises(MalformedData, match="at least one region"):
        decoded(b"")
    with pytest.raises(NoSuchProcess):
        decoded(b"", process=b"")


@pytest.mark.parametrize("path", CAPTURES or [None], ids=lambda path: path.name if path else "none")
def test_a_recording_of_a_real_kernel_is_read(path: Path | None) -> None:
    if path is None:
        pytest.skip("never run: there is no recording of a real netbsd yet (tests/captures/README.md)")
    space = vmatlas.replay(path)
    assert len(space) > 0
    assert space.incomplete is None
