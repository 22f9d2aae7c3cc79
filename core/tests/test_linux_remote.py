"""What an agent on Linux tells beside the map is data: numbers of threads, the process's state."""

from __future__ import annotations

import pytest

from vmatlas.errors import MalformedData, NoSuchProcess, Unanswered
from vmatlas.systems.linux.remote import read_streams
from vmatlas.systems.linux.stat import parse_stat

STAT = b"%d (x) Z 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 77 " + b"0 " * 30 + b"\n"


class Zombie:
    """A process whose first thread has ended, and that lists these others; none has memory."""

    pid, thread, start_time = 7, None, 77

    def __init__(self, *names: bytes) -> None:
        self.names = list(names)
        self.asked: list[int] = []

    def streams(self, source: str, *, thread: int | None = None, **more: object) -> dict[str, bytes]:
        if thread is not None:
            self.asked.append(thread)
        return {"stat": STAT % 7, "maps": b""}

    def list_folder(self, path: bytes) -> list[bytes]:
        return self.names


def read(process: Zombie) -> None:
    read_streams(process, "linux.maps", "maps", empty_means_gone=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [b"9" * 5000, b"99999999999", b"4294967296", b"0", b"-1", b"\xb2", b"x", b"1_0"])
def test_a_thread_that_has_no_number_is_malformed(name: bytes) -> None:
    with pytest.raises(MalformedData, match="'/proc/7/task' at byte 0: expected numbers of threads") as wrong:
        read(Zombie(b"7", name, b"12"))
    assert len(str(wrong.value)) < 200


def test_threads_are_asked_once_each_in_order() -> None:
    zombie = Zombie(b"9", b"7", b"8", b"9")
    with pytest.raises(NoSuchProcess, match="zombie"):
        read(zombie)
    assert zombie.asked == [8, 9]


def test_threads_without_number_are_not_all_asked() -> None:
    zombie = Zombie(*(b"%d" % number for number in range(100, 100_000)))
    with pytest.raises(Unanswered, match="none of the first 1,024 threads of process 7"):
        read(zombie)
    assert zombie.asked == list(range(100, 1124))


@pytest.mark.parametrize("number", [b"9" * 5000, b"9" * 4000, b"1" * 2100])
def test_a_stat_with_a_number_of_any_length_is_malformed(number: bytes) -> None:
    with pytest.raises(MalformedData, match="49 numbers"):
        parse_stat((STAT % 7).replace(b" 77 ", b" %s " % number), pid=7)
