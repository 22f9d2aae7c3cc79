"""Frames: whatever the stream holds, what is found was sent, and what was sent whole after the last damage is found."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.errors import MalformedData
from vmatlas.target.wire import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    SYNC,
    Assembly,
    Damage,
    Decoder,
    Fields,
    Flaw,
    Frame,
    Gap,
    Kind,
    Puzzle,
    Result,
    encode,
    pack,
    read_failure,
    read_hello,
    read_looked,
    read_processes,
    read_result,
    text8,
    text16,
)

NUMBER = st.integers(0, 2**32 - 1)
FRAMES = st.builds(
    Frame,
    kind=st.integers(0, 255),
    operation=st.integers(0, 65535),
    request=NUMBER,
    sequence=NUMBER,
    process=NUMBER,
    payload=st.one_of(st.binary(max_size=100), st.just(SYNC * 30), st.just(bytes(range(256)) * (MAX_PAYLOAD // 256))),
    version=st.integers(0, 255),
)
# Noise that could be taken for the beginning of a frame is among it.
NOISE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([SYNC, SYNC[:3], SYNC * 4, SYNC + bytes(40)]),
    FRAMES.map(lambda frame: encode(frame)[: HEADER_SIZE + 3]),
)


def settled(decoder: Decoder, data: bytes) -> list[Frame | Damage]:
    """All that a decoder finds once it is known that nothing more will come."""
    found = decoder.feed(data)
    while decoder.partial:
        found += decoder.cut()
    return found


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(0, 300), max_size=20))
def test_frames_come_back_whatever_the_cuts_between_readings(frames: list[Frame], cuts: list[int]) -> None:
    stream, decoder = b"".join(map(encode, frames)), Decoder()
    found: list[Frame | Damage] = []
    for cut in cuts:
        found += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert [*found, *decoder.feed(stream)] == frames
    assert not decoder.partial and decoder.stray == b""


@given(st.lists(st.tuples(NOISE, FRAMES), max_size=4), NOISE)
def test_whole_frames_are_found_between_noise(pieces: list[tuple[bytes, Frame]], end: bytes) -> None:
    stream = b"".join(noise + encode(frame) for noise, frame in pieces) + end
    found = [each for each in settled(Decoder(), stream) if isinstance(each, Frame)]
    sent = [frame for _, frame in pieces]
    position = 0
    for frame in found:  # a frame inside another's payload may be found too, when its outer one was damaged
        if position < len(sent) and frame == sent[position]:
            position += 1
    assert position == len(sent)


@given(FRAMES, st.data())
def test_one_wrong_bit_never_gives_another_frame(frame: Frame, data: st.DataObject) -> None:
    stream = bytearray(encode(frame))
    at = data.draw(st.integers(0, min(len(stream), 200) - 1) | st.integers(max(0, len(stream) - 40), len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    follower = Frame(Kind.END, 2, 7, payload=b"follows")
    found = settled(Decoder(), bytes(stream) + encode(follower))
    assert [each for each in found if isinstance(each, Frame)] == [follower]


@given(FRAMES, st.data())
def test_a_frame_cut_short_costs_itself_only(frame: Frame, data: st.DataObject) -> None:
    whole = encode(frame)
    kept = data.draw(st.integers(0, len(whole) - 1))
    follower = Frame(Kind.END, 2, 7, payload=b"follows")
    found = settled(Decoder(), whole[:kept] + encode(follower))
    assert [each for each in found if isinstance(each, Frame)] == [follower]


@given(st.binary(max_size=400))
def test_no_bytes_make_the_decoder_raise_or_keep_more_than_it_may(data: bytes) -> None:
    decoder = Decoder(keep=16)
    for _ in range(5):
        decoder.feed(data)
        decoder.cut()
    assert len(decoder.stray) <= 16
    while decoder.partial:
        decoder.cut()


@pytest.mark.parametrize("length", [MAX_PAYLOAD + 1, 2**31, 2**32 - 1])
def test_a_frame_of_4_gb_is_damage_at_once(length: int) -> None:
    header = struct.pack("<4sBBHIIII", SYNC, 1, Kind.DATA, 5, 99, 0, 0, length)
    frame = Frame(Kind.END, 2, 7)
    found = Decoder().feed(header + struct.pack("<I", zlib.crc32(header)) + encode(frame))
    assert found == [Damage(Flaw.LENGTH, 99), frame]


def test_damage_tells_whose_answer_it_was() -> None:
    stream = bytearray(encode(Frame(Kind.DATA, 5, 99, payload=b"payload")))
    stream[-5] ^= 1
    assert Decoder().feed(bytes(stream)) == [Damage(Flaw.CHECK, 99)]
    decoder = Decoder()
    assert decoder.feed(bytes(stream[:-6])) == []
    assert decoder.cut() == [Damage(Flaw.CUT, 99)]


def test_the_end_of_what_was_said_outside_of_frames_is_kept() -> None:
    decoder = Decoder(keep=20)
    decoder.feed(b"x" * 100 + b"Kernel panic" + encode(Frame(Kind.END, 2, 7)) + b" - really")
    assert decoder.stray == (b"x" * 100 + b"Kernel panic - really")[-20:]


def test_the_sync_bytes_are_no_text_and_the_layout_is_the_protocols() -> None:
    stream = encode(Frame(Kind.REQUEST, 0x1234, 0xA1B2C3D4, 5, 6, b"ab"))
    assert stream[:4].hex() == "9d564da5"
    assert stream[4:28].hex() == "01013412d4c3b2a1050000000600000002000000" + stream[24:28].hex()
    assert struct.unpack("<I", stream[24:28])[0] == zlib.crc32(stream[:24])
    assert stream[28:30] == b"ab" and struct.unpack("<I", stream[30:])[0] == zlib.crc32(b"ab")


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.REQUEST, 1, 1, payload=bytes(MAX_PAYLOAD + 1)),
        Frame(256, 1, 1),
        Frame(1, 65536, 1),
        Frame(1, 1, -1),
    ],
)
def test_what_does_not_fit_in_a_frame_is_refused(frame: Frame) -> None:
    with pytest.raises(ValueError, match="fit"):
        encode(frame)


def test_what_does_not_fit_in_a_field_is_refused() -> None:
    too_large: list[Callable[[], bytes]] = [
        lambda: text8(bytes(256)),
        lambda: text16(bytes(4097)),
        lambda: pack("I", 2**32),
        lambda: pack("Q", -1),
    ]
    for wrong in too_large:
        with pytest.raises(ValueError, match=r"fit|takes at most"):
            wrong()


@given(st.sampled_from([read_result, read_failure, read_hello, read_processes]), st.binary(max_size=80))
def test_payloads_of_any_bytes_are_read_or_malformed(read, payload: bytes) -> None:  # type: ignore[no-untyped-def]
    try:
        read(payload)
    except MalformedData as error:
        assert error.stream in ("agent's answer", "agent's hello")


@given(
    st.integers(-(2**63), 2**63 - 1),
    NUMBER,
    st.text("ABCDE", max_size=9),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=9),
)
def test_a_result_is_read_and_what_follows_it_is_left(
    value: int, errno: int, name: str, detail: int, more: bytes
) -> None:
    payload = struct.pack("<qI", value, errno) + text8(name.encode()) + struct.pack("<Q", detail) + more
    assert read_result(payload) == Result(value, errno, name, detail)


def test_words_of_a_board_that_errors_repeat_do_nothing_to_who_reads_them() -> None:
    evil = b"\x1b[2J\n" + b"x" * 200
    number = struct.pack("<qI", -1, 5) + text8(evil) + bytes(40)
    failure = read_failure(struct.pack("<BI", 0, 5) + text8(evil) + text16(evil * 19))
    for told in (failure.what, failure.errno_name, read_result(number).errno_name, read_looked(number).errno_name):
        assert told.isprintable() and told.startswith(r"\x1b[2J\n") and len(told) < 1000


def test_fields_beyond_the_end_are_malformed() -> None:
    fields = Fields(b"\x05ab")
    with pytest.raises(MalformedData, match="5 more bytes"):
        fields.text8()


def data(sequence: int, part: int, stream: bytes, content: bytes) -> Frame:
    """A DATA frame."""
    return Frame(Kind.DATA, 5, 7, sequence, payload=bytes((part,)) + text8(stream) + content)


def test_parts_of_a_stream_are_joined_in_their_order_however_they_come() -> None:
    assembly = Assembly(7)
    for sequence, (part, stream, content) in enumerate(
        [(0, b"vmas", b"1"), (1, b"vmas", b"a"), (0, b"stat", b"s"), (0, b"vmas", b"2"), (1, b"vmas", b"b")]
    ):
        assert not assembly.add(data(sequence, part, stream, content))
    assert assembly.add(Frame(Kind.END, 5, 7, 5))
    assert assembly.streams == {"vmas": b"12ab", "stat": b"s"}


@given(st.permutations(range(6)), st.integers(0, 5))
def test_frames_in_any_order_make_an_answer_that_ends_at_its_first_end(order: list[int], last: int) -> None:
    puzzle = Puzzle(7)
    for sequence in order:
        ends = sequence in (last, 5)
        puzzle.put(Frame(Kind.END, 5, 7, sequence) if ends else data(sequence, 0, b"maps", b"%d" % sequence))
        if puzzle.is_whole:
            break
    assert puzzle.is_whole and puzzle.missing(9) == []
    assembly = puzzle.assembled()
    assert assembly.last is not None and assembly.last.sequence == last
    assert assembly.streams.get("maps", b"") == bytes(range(0x30, 0x30 + last))


def test_nothing_is_asked_for_behind_the_last_number_that_there_is() -> None:
    puzzle = Puzzle(7)
    puzzle.put(data(2**32 - 1, 0, b"maps", b"x"))
    assert puzzle.missing(9) == [(0, 2**32 - 1)]


def test_a_missing_frame_is_a_gap() -> None:
    assembly = Assembly(7)
    assembly.add(data(0, 0, b"maps", b"x"))
    with pytest.raises(Gap):
        assembly.add(data(2, 0, b"maps", b"y"))
