"""A scripted C library answers as ctypes has it of a real one; a scripted kernel in C tells all that a source did."""

from __future__ import annotations

import ctypes
from errno import EAGAIN, ENOMEM, ENOSPC, EPERM, EPIPE
from pathlib import Path

import pytest

from vmatlas.conformance.scripted_libc import Fails, ScriptedLibc, ScriptedSysctl

MAP_FAILED = ctypes.c_size_t(-1).value


@pytest.mark.parametrize("value", [0, 1, -1, 2**31, 2**32 + 7, 2**64 - 1])
@pytest.mark.parametrize("kind", [ctypes.c_int, ctypes.c_long, ctypes.c_size_t, ctypes.c_void_p])
def test_a_result_is_what_ctypes_makes_of_it(value: int, kind: type) -> None:
    real = ctypes.CFUNCTYPE(ctypes.c_size_t)(lambda: value % 2**64)
    scripted = ScriptedLibc(function=value).function
    real.restype = scripted.restype = kind
    assert scripted() == real()


def test_a_failure_leaves_its_errno_and_is_map_failed_where_an_address_is_returned() -> None:
    libc = ScriptedLibc(mlock=Fails(EAGAIN), mmap=Fails(ENOMEM))
    libc.mmap.restype = ctypes.c_void_p
    assert (libc.mlock(), ctypes.get_errno()) == (-1, EAGAIN)
    assert (libc.mmap(), ctypes.get_errno()) == (MAP_FAILED, ENOMEM)


def test_calls_are_kept_as_c_is_given_them() -> None:
    libc = ScriptedLibc()
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.mmap(None, 2**40, -1, 7)
    libc.munmap(ctypes.c_void_p(2**40), ctypes.c_size_t(4096), b"name")
    assert libc.calls == [("mmap", None, 2**40, -1, 7), ("munmap", 2**40, 4096, b"name")]


@pytest.mark.parametrize("address", [2**32, -(2**31) - 1])
def test_an_address_that_c_would_be_given_in_part_is_a_mistake(address: int) -> None:
    with pytest.raises(AssertionError, match=r"munmap: .* has no type"):
        ScriptedLibc().munmap(address, 4096)


def test_answers_are_given_one_after_another_and_no_further() -> None:
    libc = ScriptedLibc(mlock=[1, Fails(EAGAIN), lambda address: address + 1], system_calls={434: 5})
    assert [libc.mlock(7) for _ in range(3)] == [1, -1, 8]
    assert [libc.syscall(434), libc.syscall(440)] == [5, 0]
    with pytest.raises(AssertionError, match="more often than it has answers"):
        libc.mlock(7)


def test_a_function_that_is_lacking_is_not_there() -> None:
    libc = ScriptedLibc(lacking=["mmap64"])
    assert not hasattr(libc, "mmap64")
    assert libc.mmap is libc.mmap


class Sysctl(ScriptedSysctl):
    """One value of five bytes, and one that may not be read."""

    def value(self, mib: tuple[int, ...], reading: bool) -> bytes | int:
        return b"value" if mib == (1, 2) else EPERM


@pytest.mark.parametrize(
    ("mib", "room", "told"),
    [
        ((1, 2), None, (0, 5, b"")),
        ((1, 2), 5, (0, 5, b"value")),
        ((1, 2), 9, (0, 5, b"value")),
        ((1, 2), 3, (ENOSPC, 5, b"val")),
        ((1, 3), 9, (EPERM, 9, b"")),
    ],
)
def test_sysctl_tells_a_size_or_fills_the_room(
    mib: tuple[int, int], room: int | None, told: tuple[object, ...]
) -> None:
    kernel = Sysctl(ENOSPC)
    size, buffer = ctypes.c_size_t(room or 0), ctypes.create_string_buffer(9)
    ctypes.set_errno(0)
    returned = kernel.sysctl(
        (ctypes.c_int * 2)(*mib), ctypes.c_uint(2), None if room is None else buffer, ctypes.byref(size), None,
        ctypes.c_size_t(0),
    )  # fmt: skip
    assert (ctypes.get_errno(), size.value, buffer.value) == told
    assert (returned, kernel.calls) == (-1 if told[0] else 0, [mib])


# ---- in C ----

DRIVER = """
#include "scripted_kernel.h"
static int acquire(const struct source_question *question, struct source_sink *sink)
{
    unsigned char room[4];
    size_t size = 0, given = sizeof room;
    int error;
    printf("asked of %u, %u, for %u\\n", question->pid, question->tid, question->want);
    if (script_number("keeps", 0))
        mmap(NULL, (size_t)script_number("keeps", 0), PROT_READ, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (script_number("beyond", 0))
        room[given + (size_t)script_number("beyond", 0)] = 0;
    if (script_fill(NULL, &size, 2, ENOSPC) != 0)
        return source_failure_of(sink, "asking", question->pid, errno);
    sink->refused = script_fill(room, &given, 2, ENOSPC) != 0;
    error = sink->put(sink, "map", 1, "\\nend 0 0 \\n", 10);
    if (error != 0 && !script_number("goes_on", 0))
        return error;
    sink->put(sink, "empty", 0, "", 0);
    sink->put(sink, "map", (unsigned)script_number("part", 0), room, given < sizeof room ? given : sizeof room);
    return sink->refused ? errno : 0;
}
int main(int argc, char **argv)
{
    const struct source sources[] = {{"none", NULL, NULL}, {"map", acquire, NULL}};
    script_begin(argc, argv);
    return script_ask(sources);
}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory):
    scripted = pytest.importorskip("vmatlas.conformance.scripted_kernel", reason="vmatlas-agents is not installed")
    folder: Path = tmp_path_factory.mktemp("scripted")
    (folder / "driver.c").write_text(DRIVER)
    return scripted.ScriptedKernel(folder, folder / "driver.c")


def test_a_source_is_asked_and_its_streams_are_put_together(kernel) -> None:
    told = kernel.ask(7, source=1, tid=8, want=3, size=1, growth=[1, 5])
    assert told.streams == {"map": b"mmmm\nend 0 0 \n", "empty": b""}
    assert list(told.streams) == ["map", "empty"]
    assert told[1:] == (0, False, "", ["asked of 7, 8, for 3", "reading 4"])


@pytest.mark.parametrize(("growth", "error", "left"), [([], 0, b"mm"), ([1], 0, b"mmmm"), ([2], ENOSPC, b"mmmm")])
def test_a_map_grows_as_the_script_says(kernel, growth: list[int], error: int, left: bytes) -> None:
    told = kernel.ask(7, source=1, size=1, growth=growth)
    assert (told.error, told.refused) == (error, error != 0)
    assert told.streams["map"].startswith(left + b"\n")


def test_a_refusal_is_told_in_the_sources_words(kernel) -> None:
    assert kernel.ask(7, source=1, size=-EPERM)[1:] == (EPERM, False, "asking of process 7", ["asked of 7, 0, for 0"])


def test_a_source_that_goes_on_after_a_put_that_failed_is_found(kernel) -> None:
    told = kernel.ask(7, source=1, size=1, puts=0)
    assert (told.error, told.streams) == (EPIPE, {})
    with pytest.raises(AssertionError, match="went on after a put that failed, and put: empty"):
        kernel.ask(7, source=1, size=1, puts=0, goes_on=1)


def test_a_word_of_the_script_that_nothing_asks_for_is_a_mistake(kernel) -> None:
    with pytest.raises(AssertionError, match="nothing asked for this word of the script: growht=5"):
        kernel.ask(7, source=1, size=1, growht=5)


def test_memory_that_a_source_keeps_is_found(kernel) -> None:
    with pytest.raises(AssertionError, match="memory that was mapped is not given back by: map"):
        kernel.ask(7, source=1, size=1, keeps=4096)


def test_a_stream_that_begins_with_its_second_part_is_a_mistake(kernel) -> None:
    with pytest.raises(AssertionError, match="a stream without a part 0"):
        kernel.ask(7, source=1, size=1, part=1)


def test_a_byte_beyond_its_room_is_found(kernel) -> None:
    with pytest.raises(AssertionError, match=r"runtime error|stack-buffer-overflow"):
        kernel.ask(7, source=1, beyond=1, size=1)
