"""A zoo of crashing programs on real kernels: what the core that each kernel writes tells, held to the map that the
program saved just before, and to what it knew that it was about to do. In machines of images/, on this kernel, and
under qemu-user.

    ./run pytest images/tests/test_crashes.py -rA
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import vmatlas
from vmatlas import AddressSpace, Capture, Consistency, Query, Region, SystemInfo, operations
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import Explanation, FaultCause
from vmatlas.target.agent import AgentTarget
from vmatlas.target.connect import connect
from vmatlas_agents.build import build_program
from vmatlas_agents.targets import TARGETS

pytestmark = pytest.mark.timeout(8 * PATIENCE)

HERE = Path(__file__).parent
LARGEST = 64 << 20
HERE_IS = "this kernel"
KERNELS = [
    pytest.param((HERE_IS, "x86_64"), id="here-x86_64"),
    pytest.param((HERE_IS, "i386"), id="here-i386"),
    *(
        pytest.param(
            (machine, processor), id=f"{machine}-{processor}", marks=[pytest.mark.machine, pytest.mark.network]
        )
        for machine, processor in (
            ("linux-6.12", "x86_64"),
            ("linux-6.12", "i386"),
            ("linux-6.12-aarch64", "aarch64"),
            ("linux-6.12-s390x", "s390x"),
        )
    ),
]
"""Where, and of which processor the program is."""
WIDTHS = {"i386": 32}
PROVEN = ("[stack]", "[vdso]", "[vsyscall]")


class Left(NamedTuple):
    """What a program left that died."""

    processor: str
    explained: Explanation
    maps: AddressSpace
    """The map that it saved."""
    address: int
    """What it was about to touch; 0 where that is nothing in particular."""
    thread: int
    signal: int


class Death(NamedTuple):
    """What is to be told of a death."""

    signal: str
    cause: FaultCause | None
    words: str
    is_told: bool = True
    """Whether the address is."""


NO_ADDRESS = Death("SIGSEGV", None, "not aligned as its instruction needs it (movaps)", is_told=False)
DEATHS: dict[str, dict[str, Death]] = {
    "null": {"": Death("SIGSEGV", FaultCause.HOLE, "a null pointer")},
    "unmapped": {"": Death("SIGSEGV", FaultCause.HOLE, "othing is mapped at")},
    "stack": {"": Death("SIGSEGV", FaultCause.STACK_OVERFLOW, "it has overflowed", is_told=False)},
    "thread-stack": {"": Death("SIGSEGV", FaultCause.GUARD, "it has overflowed", is_told=False)},
    "guard": {"": Death("SIGSEGV", FaultCause.GUARD, "lies in a guard")},
    "thread-guard": {"": Death("SIGSEGV", FaultCause.GUARD, "lies in a guard")},
    "write-code": {"": Death("SIGSEGV", FaultCause.PROTECTION, "it cannot be written")},
    "write-constant": {"": Death("SIGSEGV", FaultCause.PROTECTION, "it cannot be written")},
    "jump": {"": Death("SIGSEGV", FaultCause.PROTECTION, "it cannot be executed")},
    "file-end": {"": Death("SIGBUS", FaultCause.BEYOND_FILE, "its file is shorter, or could not be read")},
    "misaligned": {
        "x86_64": NO_ADDRESS,
        "i386": NO_ADDRESS,
        "aarch64": Death("SIGBUS", FaultCause.NOT_BY_THE_MAP, "is not aligned as the instruction needs it"),
        "s390x": Death("SIGILL", None, "SIGILL", is_told=False),
    },
    "abort": {"": Death("SIGABRT", None, "That is what abort() sends", is_told=False)},
}
"""By how a program died, and by processor ("" any) what is to be told of it."""


def expected(how: str, processor: str) -> Death:
    return DEATHS[how].get("") or DEATHS[how][processor]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The zoo's program for a processor; each is built once."""
    folder, built = tmp_path_factory.mktemp("zoo"), dict[str, Path]()

    def program(processor: str) -> Path:
        if processor not in built:
            target = next(each for each in TARGETS if each.system == "linux" and processor in each.machines)
            made = folder / f"crash-{processor}"
            build_program(target, HERE / "guest" / "crash.c", ["thread/{musl}/clone.s"], made)
            built[processor] = made
        return built[processor]

    return program


Runs = Callable[[str, Path], dict[str, bytes]]
"""Has a program die in a way; the files that it left."""
LEFT = ("told", "maps", "core")


@pytest.fixture(scope="module", params=KERNELS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, programs: Callable[[str], Path]
) -> Iterator[Callable[[str], Left]]:
    """Has the program die there."""
    machine, processor = request.param
    died: dict[str, Left] = {}
    if machine == HERE_IS:
        yield remembering(died, processor, here(processor, programs(processor), tmp_path_factory))
        return
    with connect(f"qemu:{machine}") as target:
        assert isinstance(target, AgentTarget)
        yield remembering(died, processor, there(target, programs(processor), tmp_path_factory))


def remembering(
    died: dict[str, Left], processor: str, dies: Callable[[str], tuple[Path, int]]
) -> Callable[[str], Left]:
    """Each way to die is gone once."""

    def by(how: str) -> Left:
        if how not in died:
            folder, ended = dies(how)
            address, thread = (int(word, 16) for word in (folder / "told").read_bytes().split())
            died[how] = Left(
                processor,
                operations.explain(folder / "core"),
                of_text((folder / "maps").read_bytes(), processor),
                address,
                thread,
                ended,
            )
        return died[how]

    return by


def here(processor: str, program: Path, factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, int]]:
    """On this kernel. Skips where it does not write a core beside the program."""
    if platform.machine() != "x86_64":
        pytest.skip(f"a program of {processor} does not run on {platform.machine()}")
    if Path("/proc/sys/kernel/core_pattern").read_text() != "core\n":
        pytest.skip("this kernel gives cores to a program, or keeps them elsewhere (kernel.core_pattern)")

    def dies(how: str) -> tuple[Path, int]:
        folder = factory.mktemp(f"{processor}-{how}")
        (folder / "cause").write_text(how)
        done = subprocess.run([program], cwd=folder, timeout=PATIENCE, check=False)
        found = [*folder.glob("core"), *folder.glob("core.*")]  # kernel.core_uses_pid
        if not found and done.returncode < 0:
            pytest.skip("no core was written: its size is limited here (ulimit -Hc)")
        found[0].replace(folder / "core")
        return folder, -done.returncode

    return dies


def there(target: AgentTarget, program: Path, factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, int]]:
    """In a machine: what it left comes over the agent's wire."""
    agent = target.agent
    assert agent.read_file(b"/proc/sys/kernel/core_pattern") == b"core\n"
    assert agent.write_file(b"/crash", program.read_bytes(), mode=0o755).ok

    def dies(how: str) -> tuple[Path, int]:
        folder = factory.mktemp(f"{target.system_info.machine}-{how}")
        assert agent.write_file(b"/cause", how.encode()).ok
        child = agent.spawn(b"/crash")
        ended = child.reap(PATIENCE)
        assert ended.value == child.pid, ended
        for name in LEFT:
            (folder / name).write_bytes(agent.read_file(f"/{name}".encode(), LARGEST))
            assert agent.unlink(f"/{name}".encode()).ok
        return folder, ended.detail & 0x7F

    return dies


def of_text(maps: bytes, processor: str) -> AddressSpace:
    system = SystemInfo("linux", "", "", processor, "little", WIDTHS.get(processor, 64), 4096)
    return vmatlas.replay(
        Capture(
            {"maps": maps}, system, 1, "linux-procfs", "vmatlas-linux-procfs", Query(), 0.0,
            consistency=Consistency.FROZEN,
        )
    )  # fmt: skip


@pytest.mark.parametrize("how", DEATHS)
def test_cause_of_a_death_is_told_by_the_core_of_the_kernel(place: Callable[[str], Left], how: str) -> None:
    left = place(how)
    death, told = expected(how, left.processor), left.explained
    assert told.crash.signal_name == death.signal
    assert told.crash.signal == left.signal
    assert (told.fault and told.fault.cause) == death.cause
    assert death.words in told.text, told.text
    assert ("it has overflowed" in told.text) == (how in ("stack", "thread-stack"))
    if death.is_told:
        assert told.fault is not None
        page = told.crash.fault_span
        assert told.fault.address == (left.address if page == 1 else left.address & -page)
        assert page == (4096 if left.processor == "s390x" else 1)
        assert ("of its first byte" in told.text) == (page > 1)


@pytest.mark.parametrize("how", DEATHS)
def test_instruction_and_thread_are_those_that_died(place: Callable[[str], Left], how: str) -> None:
    left = place(how)
    told = left.explained
    assert told.threads[0].number == left.thread
    assert len(told.threads) == 1 + how.startswith("thread-")
    assert told.instruction is not None
    if how == "jump":
        assert told.instruction.address == left.address
    elif (how, left.processor) == ("abort", "i386"):  # its calls of the kernel return through the vdso
        assert told.instruction.region is not None
        assert told.instruction.region.name == "[vdso]"
    else:
        assert told.instruction.region is not None
        assert os.path.basename(told.instruction.region.path or "").startswith("crash")


@pytest.mark.parametrize("how", DEATHS)
def test_map_of_the_core_is_the_one_that_the_program_saved(place: Callable[[str], Left], how: str) -> None:
    left = place(how)
    ours, theirs = list(left.explained.space), list(left.maps)
    assert len(ours) == len(theirs) > 12
    for mine, known in zip(ours, theirs, strict=True):
        is_stack = known.name == "[stack]"  # which grows after the map was saved
        assert mine.start == known.start or (is_stack and mine.start < known.start)
        assert (mine.end, mine.protection) == (known.end, known.protection)
        told = known.path is not None or not label(known).startswith("[")
        assert label(mine) == (label(known) if told or label(known) in PROVEN else "")
        assert mine.offset == (known.offset if told else None)
        assert (mine.shared, mine.device, mine.inode) == (None, None, None)
    grown = [mine for mine in ours if mine.name == "[stack]"]
    assert len(grown) == 1
    assert how != "stack" or grown[0].size > 200_000


def label(region: Region) -> str:
    return region.label


EMULATED: dict[str, str] = {
    "stack": "most likely that stack has overflowed",
    "thread-stack": "most likely that stack has overflowed",
    "jump": "That memory cannot be executed: the program jumped into it",
    "abort": "That is what abort() sends",
}
"""Under qemu-user: what the registers or the signal tell, for an address stands in no core of it."""


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("processor", ["aarch64", "s390x"])
def test_core_of_qemu_user_tells_the_guests_map_and_what_registers_show(
    processor: str, how: str, programs: Callable[[str], Path], tmp_path: Path
) -> None:
    names = (f"qemu-{processor}-static", f"qemu-{processor}")
    emulator = next(filter(None, map(shutil.which, names)), None)
    if emulator is None:
        pytest.skip(f"no {names[0]} here: apt-get install qemu-user-static")
    (tmp_path / "cause").write_text(how)
    command = [emulator, str(programs(processor))]
    done = subprocess.run(command, cwd=tmp_path, timeout=PATIENCE, check=False, stderr=subprocess.DEVNULL)
    cores = [*tmp_path.glob("qemu_*.core")]
    if not cores and done.returncode < 0:
        pytest.skip("no core was written: its size is limited here (ulimit -Hc)")
    told, known = operations.explain(cores[0]), of_text((tmp_path / "maps").read_bytes(), processor)
    assert told.crash.signal_name == expected(how, processor).signal
    assert told.space.system.machine == processor
    assert (told.fault, told.crash.fault_address) == (None, None)
    assert EMULATED.get(how, "No address is told") in told.text
    assert ("jumped into it" in told.text) == (how == "jump")
    assert ("overflowed" in told.text) == (how in ("stack", "thread-stack"))
    assert told.threads[0].number == int((tmp_path / "told").read_text().split()[1], 16)
    assert together(told.space) == together(known)
    for region in known:  # of neighbours that 7.2 shows as one, the rights are those of the first
        mine = told.space.find(region.start)
        assert mine is not None and mine.protection == region.protection


def together(space: AddressSpace) -> list[tuple[int, int]]:
    """What is mapped, where one region ends and the next begins or not."""
    joined: list[tuple[int, int]] = []
    for each in space:
        if joined and joined[-1][1] == each.start:
            joined[-1] = joined[-1][0], each.end
        else:
            joined.append((each.start, each.end))
    return joined
