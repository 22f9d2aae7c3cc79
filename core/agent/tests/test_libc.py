"""What the agent has in place of a C library gives what C says: strings, numbers, division of 64 bits."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples
from vmatlas_agents.build import NATIVE

TEXT = st.binary(max_size=20).map(lambda text: text.replace(b"\0", b"/"))
SHORT = st.text("ab/ ", max_size=6).map(str.encode)


@pytest.fixture(scope="module")
def libc(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """libc_linux.c as a library, by the host's compiler; what it calls of itself is its own."""
    if shutil.which("cc") is None:
        pytest.skip("no compiler 'cc' in PATH: apt-get install gcc libc6-dev")
    made = tmp_path_factory.mktemp("libc") / "own.so"
    flags = [
        "-std=c99",
        "-Os",
        "-ffreestanding",
        "-fno-builtin",
        "-fPIC",
        "-shared",
        "-Wl,-Bsymbolic",
        "-DWITH_DIVISION",
    ]
    command = ["cc", *flags, "-w", "-o", str(made), str(NATIVE / "libc_linux.c")]
    subprocess.run(command, check=True, timeout=PATIENCE)
    own = ctypes.CDLL(str(made), use_errno=True)
    for name in ("strtoul", "strtoull", "__udivdi3", "__umoddi3"):
        getattr(own, name).restype = ctypes.c_uint64
    getattr(own, "__divdi3").restype = ctypes.c_int64
    for name in ("strstr", "strchr", "strrchr", "strtok_r", "memchr"):
        getattr(own, name).restype = ctypes.c_void_p
    for name in ("strcspn", "strlen"):
        getattr(own, name).restype = ctypes.c_size_t
    return own


def at(found: int | None, held: ctypes.Array[ctypes.c_char]) -> int:
    """Where in a text a pointer points; -1 for none, as Python's find has it."""
    return -1 if found is None else found - ctypes.addressof(held)


@settings(max_examples=examples(500), deadline=None)
@given(text=SHORT, wanted=SHORT, byte=st.sampled_from(b"ab/ "))
def test_texts_are_searched(libc: ctypes.CDLL, text: bytes, wanted: bytes, byte: int) -> None:
    held = ctypes.create_string_buffer(text)
    assert libc.strlen(held) == len(text)
    assert at(libc.strstr(held, wanted), held) == text.find(wanted)
    assert at(libc.strchr(held, byte), held) == text.find(byte)
    assert at(libc.strrchr(held, byte), held) == text.rfind(byte)
    assert at(libc.memchr(held, byte, ctypes.c_size_t(len(text))), held) == text.find(byte)
    assert libc.strcspn(held, wanted) == next((n for n, each in enumerate(text) if each in wanted), len(text))
    order = (text > wanted) - (text < wanted)
    said = libc.strcmp(held, wanted)
    assert (said > 0) - (said < 0) == order
    assert at(libc.strchr(held, 0), held) == at(libc.strrchr(held, 0), held) == len(text)


@settings(max_examples=examples(300), deadline=None)
@given(text=SHORT)
def test_words_of_a_path_are_taken_one_by_one(libc: ctypes.CDLL, text: bytes) -> None:
    rest = ctypes.c_void_p(ctypes.addressof(held := ctypes.create_string_buffer(text)))
    words = []
    while (word := libc.strtok_r(None, b"/", ctypes.byref(rest))) is not None:
        words.append(ctypes.string_at(word))
    assert words == [each for each in text.split(b"/") if each]
    assert held is not None


@settings(max_examples=examples(500), deadline=None)
@given(
    number=st.integers(-(2**66), 2**66),
    before=st.sampled_from([b"", b"  ", b"\t+"]),
    after=st.sampled_from([b"", b"x"]),
)
def test_numbers_are_read(libc: ctypes.CDLL, number: int, before: bytes, after: bytes) -> None:
    text = ctypes.create_string_buffer((b"" if number < 0 else before) + b"%d" % number + after)
    expected = number % 2**64 if abs(number) < 2**64 else 2**64 - 1
    for read in (libc.strtoul, libc.strtoull):
        end = ctypes.c_void_p()
        assert read(text, ctypes.byref(end), 10) == expected
        assert ctypes.string_at(end.value or 0) == after


@pytest.mark.parametrize("text", [b"", b"x1", b" ", b"-", b"+ 1"])
def test_what_is_no_number_is_none(libc: ctypes.CDLL, text: bytes) -> None:
    held, end = ctypes.create_string_buffer(text), ctypes.c_void_p()
    assert libc.strtoul(held, ctypes.byref(end), 10) == 0
    assert end.value == ctypes.addressof(held)


@settings(max_examples=examples(300), deadline=None)
@given(content=st.binary(max_size=60), to=st.integers(0, 20), start=st.integers(0, 20), byte=st.integers(0, 255))
def test_memory_is_moved_set_and_compared(libc: ctypes.CDLL, content: bytes, to: int, start: int, byte: int) -> None:
    size = ctypes.c_size_t(len(content))
    held = ctypes.create_string_buffer(bytes(start) + content, 100)
    libc.memmove(ctypes.byref(held, to), ctypes.byref(held, start), size)
    assert held.raw[to : to + len(content)] == content
    assert libc.memcmp(ctypes.byref(held, to), content, size) == 0
    libc.memset(ctypes.byref(held, to), byte, size)
    assert held.raw[to : to + len(content)] == bytes([byte]) * len(content)
    libc.memcpy(held, content, size)
    assert held.raw[: len(content)] == content


WIDE = st.integers(0, 2**64 - 1) | st.integers(0, 63).map(lambda bit: 1 << bit)


@settings(max_examples=examples(500), deadline=None)
@given(number=WIDE, by=WIDE.filter(bool))
def test_64_bits_are_divided(libc: ctypes.CDLL, number: int, by: int) -> None:
    wide = ctypes.c_uint64
    assert getattr(libc, "__udivdi3")(wide(number), wide(by)) == number // by
    assert getattr(libc, "__umoddi3")(wide(number), wide(by)) == number % by
    signed, divisor = ctypes.c_int64(number).value, ctypes.c_int64(by).value
    quotient = abs(signed) // abs(divisor) * (1 if (signed < 0) == (divisor < 0) else -1)
    got = getattr(libc, "__divdi3")(ctypes.c_int64(signed), ctypes.c_int64(divisor))
    assert got == ctypes.c_int64(quotient).value
