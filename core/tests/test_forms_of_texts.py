"""What kind of text a file is, is found out in time: whoever wrote it may have chosen every byte."""

from __future__ import annotations

import time

import pytest

from vmatlas.files.texts import HEAD, LINUX_MAPS, form_of

PIECES = [
    b"\n",
    b" ",
    b"\t",
    b"\r\n",
    b" \n",
    b"\r",
    b"\x0b",
    b"x",
    b"{",
    b'{"',
    b'{"COREDUMP_',
    b"0",
    b"0-0 ",
    b"0-0 r--p ",
    b"DEBUG ",
    b"DEBUG(1",
    b"*** ",
    b": ",
    b"pid: 1",
    b"1: \n",
    b"==1==",
    b"=",
    b"Address ",
    b"Address  Perm ",
    b"Address\n",
    b"#",
    b" PID  ",
    b"Mapping ",
    b"panic",
    b"goroutine 1\n",
    b"[signal SIG",
    b"1: x\n00000000 ",
]


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_what_is_repeated_to_the_end_costs_what_its_length_is(piece: bytes) -> None:
    """Some hundredths of a second; a pattern that goes from each line to the end took minutes."""
    began = time.process_time()
    assert form_of((piece * (HEAD // len(piece) + 1))[:HEAD]) in (None, LINUX_MAPS)
    assert time.process_time() - began < 10


def test_lines_of_nothing_before_a_map_do_not_hide_it() -> None:
    line = b"7f0000000000-7f0000001000 r--p 00000000 00:00 0\n"
    for before in (b"", b"\n\n", b" \t\n", b"an odd line\n\n\n"):
        assert form_of(before + line) == LINUX_MAPS
    header = b"Address Perm Offset Device Inode Size Rss Mapping\n"
    for before in (b"", b"\n\n  ", b"1: /bin/x\n \t"):
        found = form_of(before + header)
        assert found is not None and found.name == "pmap"
