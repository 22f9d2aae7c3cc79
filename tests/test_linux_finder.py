"""A point query in one call into C gives what the long way gives, and never answers for another memory than that of the
process: after exec, after its end, after the handle is closed, for names that only the file system can tell."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

import vmatlas
from vmatlas import AddressSpace, compiled, registry
from vmatlas import process as handle
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import NoSuchProcess, UsageError
from vmatlas.reading import MapReader
from vmatlas.systems.linux.procmap import UNTOLD
from vmatlas.target.local import LOCAL

pytestmark = pytest.mark.skipif(
    not compiled.twin("vmatlas_linux_ioctl._native").serves or not LOCAL.offers(registry.backend("linux-ioctl")),
    reason="no compiled twin here, or no PROCMAP_QUERY",
)
STEPS = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 4096)
kept = mmap.mmap(file, 4096, prot=mmap.PROT_READ)
print("ready", flush=True)
sys.stdin.readline()
os.unlink(sys.argv[1])
print("deleted", flush=True)
sys.stdin.readline()
os.execv(sys.executable, [sys.executable, "-c", "import sys; print('exec', flush=True); sys.stdin.readline()"])
"""


class Stepper:
    """A process that maps a file, deletes it, calls exec and ends, step by step."""

    def __init__(self, file: str) -> None:
        command = [sys.executable, "-I", "-S", "-c", STEPS, file]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.hear() == "ready"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def step(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.hear()


@pytest.fixture
def stepper(tmp_path) -> Iterator[Stepper]:
    made = Stepper(str(tmp_path / "mapped"))
    yield made
    made.process.kill()
    made.process.communicate()


def edges(space: vmatlas.AddressSpace) -> list[int]:
    user = [region for region in space if region.end < 2**63]
    return sorted({0, *(edge for region in user for edge in (region.start, region.end - 1, region.end))})


def test_every_address_finds_what_the_long_way_finds(stepper: Stepper):
    with vmatlas.open(stepper.process, backend="linux-ioctl") as process:
        space = process.snapshot()
        addresses = edges(space)
        assert process.find(addresses[1]) == space.find(addresses[1])
        assert process._finder is not None
        assert [process.find(address) for address in addresses] == space.find_many(addresses)
        shuffled = random.Random(3).sample(addresses * 3, len(addresses) * 3)
        assert process._finder.find_many(array("Q", shuffled)) == space.find_many(shuffled)
        assert process.find_many(shuffled[:9]) == space.find_many(shuffled[:9])
        assert process.find_many([]) == []
        assert all(type(process.find(address)) in (vmatlas.Region, type(None)) for address in addresses)


@pytest.mark.parametrize("way", ["asked", "read", "given up, then asked"])
def test_many_addresses_find_alike_by_each_way(stepper: Stepper, way: str, monkeypatch: pytest.MonkeyPatch):
    read: list[bool] = []

    def watched(self: MapReader, *arguments: Any, **words: Any) -> AddressSpace | None:
        space = directly(self, *arguments, **words)
        read.append(space is not None)
        return space

    directly = MapReader.space_directly
    with vmatlas.open(stepper.process, backend="linux-ioctl") as process:
        space = process.snapshot()
        process.find(4096)
        assert process._finder is not None
        addresses = edges(space) if way == "read" else edges(space)[:5]
        monkeypatch.setattr(MapReader, "space_directly", watched)
        monkeypatch.setattr(handle, "ALWAYS_ASKED", len(addresses) if way == "asked" else 1)
        assert len(addresses) > len(space) or way != "read"
        assert process.find_many(addresses) == space.find_many(addresses)
    assert read == {"asked": [], "read": [True], "given up, then asked": [False]}[way]


@pytest.mark.parametrize("odd", [-1, 2**64, 1.5, "1"])
def test_what_is_no_address_is_refused_as_ever(stepper: Stepper, odd: object):
    with vmatlas.open(stepper.process) as process:
        process.find(4096)
        with pytest.raises(UsageError):
            process.find(odd)  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            process.find_many([4096, odd])  # type: ignore[list-item]


def test_a_file_that_is_deleted_meanwhile_is_told(stepper: Stepper):
    with vmatlas.open(stepper.process) as process:
        mapped = next(region for region in process.snapshot() if (region.path or "").endswith("/mapped"))
        assert process.find(mapped.start) == process.find(mapped.start)
        assert stepper.step() == "deleted"
        for _ in range(3):
            found = process.find(mapped.start)
            assert found is not None
            assert (found.path, found.deleted) == (mapped.path, True)
        assert process._finder is not None  # it goes on for the others


def test_after_exec_the_new_memory_is_asked(stepper: Stepper):
    with vmatlas.open(stepper.process) as process:
        before = process.snapshot()
        process.find(before[0].start)
        process.find(before[0].start)
        stepper.step()
        assert stepper.step() == "exec"
        after = process.snapshot()
        assert all(process.find(region.start) is not None for region in after if region.end < 2**63)
        stack = next(region for region in after if region.name == "[stack]")
        found = process.find(stack.end - 1)
        assert found is not None
        assert (found.start, found.name) == (stack.start, "[stack]")
        process.find(stack.start)
        assert process._finder is not None


def test_after_the_end_there_is_no_process(stepper: Stepper):
    with vmatlas.open(stepper.process) as process:
        process.find(4096)
        process.find(4096)
        stepper.process.kill()
        stepper.process.wait()
        with pytest.raises(NoSuchProcess):
            process.find(4096)
        with pytest.raises(NoSuchProcess):
            process.find_many([4096])


def test_a_closed_handle_answers_nothing_and_leaves_no_descriptor(stepper: Stepper):
    before = set(os.listdir("/proc/self/fd"))
    process = vmatlas.open(stepper.process)
    process.find(4096)
    finder = process._finder
    assert finder is not None
    process.close()
    assert set(os.listdir("/proc/self/fd")) <= before  # what earlier tests left may be collected meanwhile
    assert finder.find(4096) is NotImplemented
    for _ in range(2):
        with pytest.raises(UsageError, match="closed"):
            process.find(4096)


def test_threads_ask_one_handle_while_another_closes_it(stepper: Stepper):
    process = vmatlas.open(stepper.process, backend="linux-ioctl")
    space = process.snapshot()
    addresses = edges(space)
    wanted = space.find_many(addresses)
    process.find(4096)
    wrong: list[object] = []

    def ask() -> None:
        try:
            while True:
                if [process.find(address) for address in addresses] != wanted:
                    wrong.append("another answer")
                    return
        except UsageError:
            return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.3)
    process.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_where_the_kernel_has_pages_that_the_ioctl_never_tells_the_finder_does_not_say_that_nothing_is(
    stepper: Stepper,
) -> None:
    """[vectors] of 32-bit ARM lies below 2**63. All other addresses are ordinary: s390x maps memory above it, too."""
    with vmatlas.open(stepper.process.pid) as process:
        process.find(0)
        finder = process._finder
        assert finder is not None
        for start, end in UNTOLD:
            for address in (start, end - 1):
                assert finder.find(address) is NotImplemented
                assert finder.find_many(array("Q", [0, address])) is NotImplemented
                assert process.find(address) == process.snapshot().find(address)
                assert process.find_many([0, address]) == process.snapshot().find_many([0, address])
            assert finder.find(end) is None
        ordinary = [1 << 47, 1 << 63, 0xFFFFFFFFFFFFE000, 2**64 - 1]
        assert [finder.find(address) for address in ordinary] == [None] * 4
        assert finder.find_many(array("Q", ordinary)) == [None] * 4
