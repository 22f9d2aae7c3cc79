"""Program headers of every processor, and the address that a mapped byte has in its file."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.model import Kind, Protection, Region
from vmatlas.symbols import Elf, Segment, parse_elf, place_in_elf
from vmatlas.symbols.elf import MOST_SEGMENTS

R, RX, RW = Protection.READ, Protection.READ | Protection.EXECUTE, Protection.READ | Protection.WRITE
PAGE = 4096
LOADS = (
    Segment(0, 0x400000, 0x600, 0x600, R),
    Segment(0x1000, 0x401000, 0x1F5, 0x1F5, RX),
    Segment(0x2DB8, 0x403DB8, 0x268, 0x5000, RW),
)


def elf(segments, *, bits=64, order="<", kind=3, machine=62, gap=0):
    """The head of a file, made by hand after the System V ABI."""
    wide = bits == 64
    size, entry = (64, 56) if wide else (52, 32)
    head = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    numbers = (kind, machine, 1, 0, size + gap, 0, 0, size, entry, len(segments), 64, 0, 0)
    head += struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *numbers) + bytes(gap)
    for each in segments:
        flags = int(bool(each.protection & 4)) | (each.protection & 2) | (4 if each.protection & 1 else 0)
        place = (each.offset, each.address, each.address, each.file_size, each.memory_size)
        numbers = (1, flags, *place, 0x1000) if wide else (1, *place, flags, 0x1000)
        head += struct.pack(order + ("IIQQQQQQ" if wide else "IIIIIIII"), *numbers)
    return head


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize("gap", [0, 40])
def test_headers_of_both_widths_and_orders_are_read(bits, order, kind, gap):
    assert parse_elf(elf(LOADS, bits=bits, order=order, kind=kind, gap=gap)) == Elf(bits, kind == 2, LOADS)


@pytest.mark.parametrize("cut", range(64 + 3 * 56))
def test_a_head_that_is_cut_tells_nothing(cut):
    assert parse_elf(elf(LOADS)[:cut]) is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("place", [2**63 - 1, 2**63, 2**64 - 64])
def test_headers_beyond_any_file_tell_nothing(order, place):
    head = bytearray(elf(LOADS, order=order))
    struct.pack_into(order + "Q", head, 32, place)  # e_phoff
    assert parse_elf(bytes(head)) is None


@pytest.mark.parametrize("kind", [0, 1, 4])
def test_what_is_no_program_and_no_library_has_no_addresses(kind):
    assert parse_elf(elf(LOADS, kind=kind)) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_taken(data):
    parse_elf(data)
    parse_elf(elf(LOADS)[:20] + data)


def region(start, offset, size, protection):
    return Region(start, start + size, protection, False, offset, None, 7, "/bin/x", kind=Kind.FILE)


def loaded(bias, relro=True):
    """As ld.so and the kernel map them: whole pages, a page of the file twice where two segments have a part of it."""
    base = bias + 0x400000
    found = [region(base, 0, 0x1000, R), region(base + 0x1000, 0x1000, 0x1000, RX)]
    if relro:
        return [*found, region(base + 0x3000, 0x2000, 0x1000, R), region(base + 0x4000, 0x3000, 0x1000, RW)]
    return [*found, region(base + 0x3000, 0x2000, 0x2000, RW)]


@pytest.mark.parametrize("bias", [0, 0x7F0000000000, -0x400000 + 0x55D0C0000000])
@pytest.mark.parametrize("relro", [True, False])
@given(st.data())
def test_every_byte_of_a_load_lies_where_its_bias_says(bias, relro, data):
    regions = loaded(bias, relro)
    chosen = data.draw(st.sampled_from(regions))
    address = data.draw(st.integers(chosen.start, chosen.end - 1))

    def lookup(where):
        return next((each for each in regions if each.covers(where)), None)

    told = place_in_elf(Elf(64, bias == 0, LOADS), chosen, address, page=PAGE, lookup=lookup)
    assert told == address - bias


def test_a_page_that_two_segments_share_is_told_by_the_rest_of_the_load():
    rodata = Segment(0x2000, 0x402000, 0x100, 0x100, R)
    file = Elf(64, False, (*LOADS[:2], rodata, LOADS[2]))
    for bias in (0x1000, 0x550000000000):
        base = bias + 0x400000
        regions = [*loaded(bias), region(base + 0x2000, 0x2000, 0x1000, R)]  # rodata beside relro: the same page, r--

        def lookup(where, regions=regions):
            return next((each for each in regions if each.covers(where)), None)

        for each in regions:
            for address in (each.start, each.end - 1):
                assert place_in_elf(file, each, address, page=PAGE, lookup=lookup) == address - bias


def test_what_was_mapped_to_read_the_file_has_the_addresses_of_the_segments_whose_bytes_they_are():
    """A symbolizer maps all of a file: in the page that two segments share each byte is its own segment's."""
    file = Elf(64, False, (Segment(0, 0, 0x4590, 0x4590, R), Segment(0x4C40, 0x5C40, 0x400, 0x500, RW)))
    whole = region(0x70000, 0, 0x6000, R)
    for offset, own in ((0, 0), (0x458F, 0x458F), (0x4C40, 0x5C40), (0x4C68, 0x5C68), (0x503F, 0x603F)):
        assert place_in_elf(file, whole, 0x70000 + offset, page=PAGE, lookup=whole_of(whole)) == own


def whole_of(only):
    return lambda where: only if only.covers(where) else None


def test_what_a_loader_leaves_without_rights_between_two_segments_has_no_address():
    """As older linkers align to 2 MiB: the hole shows a part of the file that belongs to another segment."""
    file = Elf(64, False, (Segment(0, 0, 0x3A4CC, 0x3A4CC, RX), Segment(0x3ADA0, 0x23ADA0, 0x6E0, 0x6F0, RW)))
    base, none = 0x7F0000000000, Protection.NONE
    text, hole, data = (
        region(base, 0, 0x3B000, RX),
        region(base + 0x3B000, 0x3B000, 0x1FF000, none),
        region(base + 0x23A000, 0x3A000, 0x2000, RW),
    )

    def lookup(where):
        return next((each for each in (text, hole, data) if each.covers(where)), None)

    assert place_in_elf(file, hole, hole.start, page=PAGE, lookup=lookup) is None
    assert place_in_elf(file, data, data.end - 1, page=PAGE, lookup=lookup) == data.end - 1 - base
    closed = data._replace(protection=none)  # what was mapped for a segment keeps its address when it loses its rights
    data = closed
    assert place_in_elf(file, closed, closed.end - 1, page=PAGE, lookup=lookup) == closed.end - 1 - base


def test_where_nothing_tells_which_segment_is_meant_no_address_is_told():
    twice = Elf(64, False, (Segment(0, 0x1000, 0x800, 0x800, R), Segment(0, 0x9000, 0x800, 0x800, R)))
    assert place_in_elf(twice, region(0x70000, 0, 0x1000, R), 0x70010, page=PAGE, lookup=lambda _: None) is None


def test_what_lies_beyond_every_segment_has_no_address():
    whole = region(0x70000, 0, 0x10000, R)  # a tool that maps the file to read it
    file = Elf(64, False, LOADS)
    assert place_in_elf(file, whole, 0x70000 + 0x8000, page=PAGE, lookup=lambda _: None) is None
    assert place_in_elf(file, whole, 0x70000 + 0x1010, page=PAGE, lookup=lambda _: None) == 0x401010


def test_an_address_of_32_bits_stays_one():
    file = Elf(32, False, (Segment(0, 0xFFFFF000, 0x1000, 0x1000, R), Segment(0x1000, 0xFFFFFF00, 0x200, 0x200, R)))
    assert place_in_elf(file, region(0x70000, 0x1000, 0x1000, R), 0x70180, page=PAGE, lookup=lambda _: None) is None


def test_a_file_of_more_segments_than_any_linker_makes_is_not_compared_with_itself():
    """Each of them may be looked up for each, and a lookup is a question to the kernel."""
    many = [Segment(0, 0x1000 * n, 0x1000, 0x1000, Protection.READ) for n in range(MOST_SEGMENTS + 1)]
    assert parse_elf(elf(many)) is None
    whole = parse_elf(elf(many[:-1]))
    assert whole is not None and len(whole.segments) == MOST_SEGMENTS
    asked = []
    place_in_elf(whole, region(0x10000, 0, 0x1000, Protection.READ), 0x10010, page=4096, lookup=asked.append)
    assert len(asked) <= MOST_SEGMENTS**2
