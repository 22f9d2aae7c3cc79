"""Reading and decoding in one go, by the compiled twin, from files of our own: the same as in two steps, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from vmatlas import compiled
from vmatlas.model import Columns
from vmatlas.systems.linux import links
from vmatlas_linux_procfs import decode

pytestmark = pytest.mark.skipif(
    not (twin := compiled.twin("vmatlas_linux_procfs._native")).serves,
    reason=f"the compiled twin does not serve here: {twin.reason}",
)

LINE = b"%08x-%08x r-xp 00000000 08:01 12                                 %s\n"
DETAILS = b"Size:                  4 kB\nRss:                   %d kB\nVmFlags: rd ex\n"
VSYSCALL = b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
ROOM = 1 << 15

Put = Callable[[bytes], int]


@pytest.fixture
def put() -> Iterator[Put]:
    """A descriptor of a file with some bytes in it."""
    opened: list[int] = []

    def put(text: bytes) -> int:
        opened.append(os.memfd_create("text"))
        os.write(opened[-1], text)
        return opened[-1]

    yield put
    for descriptor in opened:
        os.close(descriptor)


def maps(count: int, *names: bytes) -> bytes:
    lines = [LINE % (row << 13, (row << 13) + 4096, b"/lib/%d" % (row % 7)) for row in range(1, count + 1)]
    return b"".join(lines) + b"".join(LINE % (1 << 40, 1 << 41, name) for name in names)


def smaps(count: int) -> bytes:
    lines = maps(count).splitlines(keepends=True)
    return b"".join(line + DETAILS % row for row, line in enumerate(lines))


def plain(columns: Columns | None) -> object:
    assert columns is not None
    numbers = columns.start, columns.end, columns.offset, columns.inode, columns.protection, columns.kind, columns.label
    details = {key: list(each) for key, each in columns.details.items()}
    return [list(each) for each in numbers], columns.labels, details, columns.flags


@pytest.mark.parametrize("count", [1, 50, 10_000])
@pytest.mark.parametrize("make", [maps, smaps])
def test_text_in_pieces_decodes_as_the_whole_text_does(make: Callable[[int], bytes], count: int, put: Put) -> None:
    text, is_smaps = make(count), make is smaps
    by_pieces = decode.NATIVE.read(put(text), -1, is_smaps, 0)
    whole = decode.NATIVE.decode_smaps(text) if is_smaps else decode.NATIVE.decode_maps(text)
    assert plain(decode.columns_of_native(by_pieces, links.NOTHING)) == plain(
        decode.columns_of_native(whole, links.NOTHING)
    )


@pytest.mark.parametrize("value", [
    b"                   4 kB", b" 4 kB", b"4 kB", b"\t4 kB", b"                   4", b"         999999999999 kB",
    b"        9999999999999 kB", b"   1844674407370955160", b" " * 70 + b"4 kB", b"                   0 kB",
])  # fmt: skip
@pytest.mark.parametrize("key", [b"KSM", b"Rss", b"Swap", b"Size_of", b"Sizes_of", b"Private_Hugetlb", b"K" * 40])
def test_line_that_is_not_quite_as_the_kernel_writes_it_is_read_as_python_reads_it(key: bytes, value: bytes) -> None:
    """Whether it stands in the middle of a text, where it is looked at by words of the machine, or near its end."""
    lines = maps(9).splitlines(keepends=True)
    text = b"".join(line + key + b":" + value + b"\nVmFlags: rd gd\n" for line in lines)
    found = decode.NATIVE.decode_smaps(text)
    assert found is not None
    assert plain(decode.columns_of_native(found, links.NOTHING)) == plain(decode._decode_smaps(text, links.NOTHING))


def test_name_that_fills_the_room_is_read_and_a_longer_one_is_left_to_python(put: Put) -> None:
    longest = b"/" * (ROOM - len(maps(0, b"")) - 1)
    assert len(decode.NATIVE.read(put(maps(3, longest)), -1, False, 0)) == 4
    assert decode.NATIVE.read(put(maps(3, longest + b"xx")), -1, False, 0) is None


@pytest.mark.parametrize("text", [b"", maps(9)[:-1], maps(2000)[:-30], maps(3)[9:], maps(2) + maps(1)])
def test_text_that_is_not_whole_lines_in_order_is_left_to_python(text: bytes, put: Put) -> None:
    assert decode.NATIVE.read(put(text), -1, False, 0) is None


@pytest.mark.parametrize("text", [smaps(9)[:-1], smaps(9)[:-20], smaps(2000)[:-60]])
def test_text_whose_last_region_lacks_a_key_is_left_to_python(text: bytes, put: Put) -> None:
    assert decode.NATIVE.read(put(text), -1, True, 0) is None


def test_more_regions_than_wanted_are_given_up(put: Put) -> None:
    assert len(decode.NATIVE.read(put(maps(9)), -1, False, 9)) == 9
    assert decode.NATIVE.read(put(maps(10)), -1, False, 9) is None


@pytest.mark.parametrize(("text", "looks_again"), [(maps(9) + VSYSCALL, False), (maps(9), True), (VSYSCALL, False)])
def test_only_a_text_that_does_not_end_above_all_memory_is_looked_at_again(
    text: bytes, looks_again: bool, put: Put
) -> None:
    """The second look costs the kernel a page of text. Where the descriptor then stands tells of it."""
    descriptor = put(text)
    assert decode.NATIVE.read(descriptor, -1, False, 0) is not None
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == (1 if looks_again else len(text))


def test_file_reads_like_its_bytes_and_no_others_and_is_not_looked_at_again(put: Put) -> None:
    text = maps(500)
    descriptor = put(text)
    assert decode.NATIVE.reads_like(descriptor, text)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == len(text)
    for other in (b"", text[:-1], text + b"x", b"x" + text[1:], text[:-1] + b"x", text[:20_000] + b"x" + text[20_001:]):
        assert not decode.NATIVE.reads_like(descriptor, other)
    assert decode.NATIVE.reads_like(put(b""), b"")


def test_descriptor_that_cannot_be_read_is_left_to_python(tmp_path: os.PathLike[str]) -> None:
    reading, writing = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY)
    for descriptor in (reading, folder):
        assert decode.NATIVE.read(descriptor, -1, False, 0) is None
        assert not decode.NATIVE.reads_like(descriptor, b"")
        os.close(descriptor)
    os.close(writing)
