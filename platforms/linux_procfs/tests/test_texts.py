"""Texts of a map that somebody pasted: read as the kernel's own, and with --lenient whatever stands between."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

import vmatlas
from vmatlas import MalformedData, Unsupported, remains
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program
from vmatlas_linux_procfs.decode import MOST_KEYS
from vmatlas_linux_procfs.texts import without_odd_lines

MAPS = Path("/proc/self/maps")
TEXT = b"""00400000-00401000 r-xp 00000000 08:01 77                         /bin/x
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
"""
SMAPS = b"""00400000-00401000 r-xp 00000000 08:01 77                         /bin/x
Size:                  4 kB
Rss:                   4 kB
Private_Clean:         0 kB
Private_Dirty:         4 kB
"""
PASTED = b"""$ cat /proc/12/maps\r
  00400000-00401000 r-xp 00000000 08:01 77                         /bin/x\r

7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\r
00400000-00401000 r-xp 00000000 08:01 77                         /bin/x\r
$"""


def test_text_of_a_map_is_read_whichever_way_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "maps.txt"
    for content in (TEXT, TEXT[:-1], gzip.compress(TEXT)):
        path.write_bytes(content)
        code, stack = vmatlas.replay(path)
        assert (code.path, code.inode, code.permissions, stack.name) == ("/bin/x", 77, "r-xp", "[stack]")
    assert "neither whose map it is" in (vmatlas.replay(path).incomplete or "")


def test_text_of_smaps_tells_the_memory_in_use(tmp_path: Path) -> None:
    path = tmp_path / "smaps.txt"
    path.write_bytes(SMAPS)
    (region,) = vmatlas.replay(path)
    assert (region.resident, region.private_resident) == (4096, 4096)


def test_a_map_behind_the_command_that_printed_it_is_one_with_an_odd_line(tmp_path: Path) -> None:
    path = tmp_path / "pasted.txt"
    for head in (b"root@box:~# cat /proc/77/maps\n", b"\n", b"hello\nthere\n"):
        path.write_bytes(head + TEXT)
        with pytest.raises(MalformedData) as refused:
            vmatlas.replay(path)
        assert refused.value.offset == 0 and "--lenient" in (refused.value.hint or "")
        assert len(vmatlas.replay(remains.load(path, lenient=True))) == 2


def test_odd_lines_are_refused_with_the_byte_or_passed_over_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "pasted.txt"
    path.write_bytes(TEXT + b"-- end --\n")
    with pytest.raises(MalformedData) as refused:
        vmatlas.replay(path)
    assert refused.value.offset == len(TEXT) and "--lenient" in (refused.value.hint or ""), "what to do is said"
    path.write_bytes(PASTED)
    space = vmatlas.replay(remains.load(path, lenient=True))
    assert [each.label for each in space] == ["/bin/x", "[stack]"]
    assert "3 odd lines were passed over (the first: line 1)" in (space.incomplete or "")


def test_keys_behind_a_line_that_was_passed_over_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "smaps.txt"
    path.write_bytes(SMAPS + SMAPS)
    space = vmatlas.replay(remains.load(path, lenient=True))
    assert len(space) == 1
    assert "5 odd lines" in (space.incomplete or "")


ROLLUP = b"""00400000-7ffc00021000 ---p 00000000 00:00 0                          [rollup]
Rss:                1768 kB
Pss:                 167 kB
"""
WHOLE = SMAPS + b"VmFlags: rd ex mr mw me \n"


@pytest.mark.parametrize("text", [ROLLUP, ROLLUP[:-5], ROLLUP + ROLLUP])
@pytest.mark.parametrize("lenient", [False, True])
def test_totals_are_refused_by_name_and_are_no_region_of_terabytes(tmp_path: Path, text: bytes, lenient: bool) -> None:
    path = tmp_path / "rollup.txt"
    path.write_bytes(text)
    with pytest.raises(Unsupported, match="text of smaps_rollup: the totals of a process, and no map"):
        remains.load(path, lenient=lenient)


@pytest.mark.parametrize("text", [SMAPS + ROLLUP, ROLLUP + SMAPS])
def test_totals_beside_a_map_are_an_odd_line_wherever_they_stand(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "both.txt"
    path.write_bytes(text)
    with pytest.raises(MalformedData, match="not of smaps_rollup") as refused:
        vmatlas.replay(path)
    assert refused.value.offset == text.index(ROLLUP)
    space = vmatlas.replay(remains.load(path, lenient=True))
    assert [(each.label, each.resident) for each in space] == [("/bin/x", 4096)]
    assert "3 odd lines were passed over" in (space.incomplete or "")


@pytest.mark.parametrize(
    "cut",
    [b"Rss:", b"Rss:     ", b"Rss:     1", b"Rss:     1\n", b"Rss:   152 k", b"Rss:  152 kBytes\n", b"Pss_Dirty:   1",
     b"Private_Hugetlb:  1", b"VmFlags: rd e", b"VmFlags: rd e\n", b"VmFlags: r", b"THPeligible:  ",
     b"Locked:  4 MB\n"],
)  # fmt: skip
def test_a_value_of_smaps_that_was_cut_is_no_smaller_value(tmp_path: Path, cut: bytes) -> None:
    head = SMAPS.partition(b"\n")[0] + b"\n"
    path = tmp_path / "cut.txt"
    path.write_bytes(head + cut)
    with pytest.raises(MalformedData, match="a value of smaps, whole") as refused:
        vmatlas.replay(path)
    assert refused.value.offset == len(head)
    (region,) = vmatlas.replay(remains.load(path, lenient=True))
    assert (region.resident, region.flags, dict(region.details)) == (None, None, {})


@pytest.mark.parametrize(
    "whole",
    [
        b"VmFlags: \n",
        b"VmFlags: rd ?? x1\n",
        b"VmFlags: rd ex",
        b"THPeligible:    0\n",
        b"Madvised:  17\n",
        b"Name: y\n",
    ],
)
def test_what_a_kernel_writes_is_no_cut_value(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "whole.txt"
    path.write_bytes(SMAPS + whole)
    assert len(vmatlas.replay(path)) == 1


def test_a_text_that_may_have_been_cut_between_words_says_so(tmp_path: Path) -> None:
    def incomplete_of(text: bytes) -> str:
        path = tmp_path / "some.txt"
        path.write_bytes(text)
        return vmatlas.replay(path).incomplete or ""

    open_end, lacks = "its last line has no end: it may be cut", "its last region has no"
    assert open_end not in incomplete_of(TEXT)
    assert open_end in incomplete_of(TEXT[:-3])
    second = WHOLE.replace(b"00400000-00401000", b"00500000-00501000")
    assert lacks not in incomplete_of(WHOLE + second)
    assert f"{lacks} Private_Dirty, VmFlags, as others have: it may be cut there" in incomplete_of(
        WHOLE + second[: second.index(b"Private_Dirty")]
    )


@pytest.mark.parametrize("line", [b"\n", b"ab\n", b"A: 0\n", b" \r\n", TEXT.split(b"\n")[0] + b"\n"])
def test_passing_over_lines_costs_what_a_capture_may_cost(line: bytes) -> None:
    text = TEXT.split(b"\n")[0] + b"\n" + line * ((1 << 16) // len(line))
    tracemalloc.start()
    try:
        without_odd_lines(text)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(text)
    finally:
        tracemalloc.stop()


def test_more_keys_than_a_region_has_are_odd_lines() -> None:
    head = TEXT.split(b"\n")[0] + b"\n"
    kept, passed, first = without_odd_lines(head + b"A: 0\n" * (MOST_KEYS + 2) + b"\n")
    assert (kept, passed, first) == (head + b"A: 0\n" * MOST_KEYS, 2, MOST_KEYS + 2)


def test_a_text_of_more_lines_than_any_map_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remains, "_MOST_LINES", 100)
    path = tmp_path / "long.txt"
    path.write_bytes(TEXT + b"\n" * 100)
    for lenient in (True, False):
        with pytest.raises(MalformedData, match="a text of at most 100 lines"):
            remains.load(path, lenient=lenient)


def test_text_without_a_line_of_a_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"nothing of the kind\n")
    with pytest.raises(MalformedData, match="no capture of vmatlas"):
        vmatlas.replay(path)
    with pytest.raises(MalformedData, match="somewhere in the text"):
        remains.load(path, lenient=True)


def test_command_takes_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pasted.txt"
    path.write_bytes(PASTED)
    assert program.run(["maps", str(path)]) == Exit.MALFORMED_DATA
    capsys.readouterr()
    assert program.run(["maps", str(path), "--lenient"]) == Exit.OK
    printed = capsys.readouterr()
    assert "r-xp" in printed.out
    assert "3 odd lines" in printed.err
    assert program.run(["maps", "self", "--lenient"]) == Exit.USAGE
    assert program.run(["summary", str(MAPS)]) == Exit.OK
