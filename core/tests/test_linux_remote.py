"""What an agent on Linux tells beside the map is data: numbers of threads, the process's state."""

from __future__ import annotations

import pytest

from vmatlas.errors import MalformedData, NoSuchProcess, TornRead, Unanswered, Unsupported, VmatlasError
from vmatlas.systems.linux.remote import clear_marks, read_streams
from vmatlas.systems.linux.stat import judge_empty_map, parse_stat
from vmatlas.target.wire import Result

STAT = b"%d (x) Z 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 %d 0 77 " + b"0 " * 30 + b"\n"


class Zombie:
    """A process whose first thread has ended, that is said to have two threads, and lists these others; none has
    memory. `begets`: each time it is asked for them they are others. `is_ending`: what is told of each."""

    pid, thread, start_time = 7, None, 77

    def __init__(self, *names: bytes, threads: int = 2, begets: bool = False, is_ending: bool = False) -> None:
        self.names = list(names)
        self.asked: list[int] = []
        self.threads, self.begets, self.is_ending = threads, begets, is_ending

    def streams(self, source: str, *, thread: int | None = None, **more: object) -> dict[str, bytes]:
        if thread is not None:
            self.asked.append(thread)
        return {"stat": STAT % (7, self.threads), "maps": b""}

    def list_folder(self, path: bytes) -> list[bytes]:
        names = self.names
        if self.begets:
            self.names = [b"%d" % (int(name) + len(names)) for name in names]
        return names

    def read_file(self, path: bytes, limit: int = 0) -> bytes:
        stat = STAT % (int(path.split(b"/")[4]), 2)
        return stat if self.is_ending else stat.replace(b" Z ", b" S ")


def read(process: Zombie) -> None:
    read_streams(process, "linux.maps", "maps", empty_means_gone=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [b"9" * 5000, b"99999999999", b"4294967296", b"0", b"-1", b"\xb2", b"x", b"1_0"])
def test_a_thread_that_has_no_number_is_malformed(name: bytes) -> None:
    with pytest.raises(MalformedData, match="'/proc/7/task' at byte 0: expected numbers of threads") as wrong:
        read(Zombie(b"7", name, b"12"))
    assert len(str(wrong.value)) < 200


def test_a_process_of_one_thread_that_has_ended_is_a_zombie_and_no_thread_is_asked() -> None:
    zombie = Zombie(b"9", b"7", b"8", threads=1)
    with pytest.raises(NoSuchProcess, match="zombie"):
        read(zombie)
    assert not zombie.asked


def test_threads_are_asked_the_last_begun_first_and_those_that_have_no_memory_are_no_zombie() -> None:
    zombie = Zombie(b"9", b"7", b"8", b"9")
    with pytest.raises(TornRead, match=r"process 7 \(x\) lives on in threads that ended during each of 20"):
        read(zombie)
    assert zombie.asked == [9, 8] * 20


def test_a_process_that_hops_from_thread_to_thread_is_no_zombie_though_each_thread_ends() -> None:
    with pytest.raises(TornRead, match="lives on"):
        read(Zombie(b"7", b"8", b"9", begets=True, is_ending=True))


def test_a_process_all_of_whose_threads_are_ending_and_beget_none_has_ended() -> None:
    with pytest.raises(NoSuchProcess, match="has ended"):
        read(Zombie(b"7", b"8", b"9", is_ending=True))


def test_threads_without_number_are_not_all_asked() -> None:
    zombie = Zombie(*(b"%d" % number for number in range(100, 100_000)))
    with pytest.raises(Unanswered, match="none of 1,024 threads of process 7"):
        read(zombie)
    assert len(zombie.asked) == 1024


def test_an_empty_map_is_no_zombies_where_the_stat_beside_it_tells_of_other_threads() -> None:
    with pytest.raises(NoSuchProcess):
        judge_empty_map(STAT % (7, 1), "maps", pid=7)
    with pytest.raises(TornRead, match="lives on"):
        judge_empty_map(STAT % (7, 2), "maps", pid=7)


@pytest.mark.parametrize("number", [b"9" * 5000, b"9" * 4000, b"1" * 2100])
def test_a_stat_with_a_number_of_any_length_is_malformed(number: bytes) -> None:
    with pytest.raises(MalformedData, match="49 numbers"):
        parse_stat((STAT % (7, 1)).replace(b" 77 ", b" %s " % number), pid=7)


class Worker:
    """A process there, or none, whose clear_refs cannot be opened."""

    pid, thread, start_time = 7, None, None

    def __init__(self, *, ends: bool) -> None:
        self.told = [STAT % (7, 1)] + [b""] * ends

    def read_file(self, path: bytes, limit: int = 0) -> bytes:
        assert path == b"/proc/7/stat"
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]

    def read_link(self, path: bytes) -> bytes:
        assert path == b"/proc/7/exe"
        return b"/bin/x"


@pytest.mark.parametrize(("ends", "kind"), [(False, Unsupported), (True, NoSuchProcess)])
def test_a_kernel_without_marks_is_told_from_a_process_that_has_ended(ends: bool, kind: type[VmatlasError]) -> None:
    with pytest.raises(kind):
        clear_marks(Worker(ends=ends), "written", lambda path, what: Result(-1, 2, "ENOENT"))  # type: ignore[arg-type]
