"""Short of everything: another way, or one clear line and a documented code. Never a defect, a traceback, a hang."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Program
from vmatlas.cli.exits import Exit
from vmatlas.conformance.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it takes limits and filters of Linux")

Lack = list[int | str]
MIB = 1 << 20

SCARCE: list[Lack] = [
    *(["memory", size] for size in (0, 8 * MIB + MIB // 2, 24 * MIB)),
    *(["descriptors", number] for number in (3, 4, 8)),
    ["streams", 2],
    ["streams", 0, 1, 2],
]
"""With these a command may fail."""

WHOLE: list[Lack] = [["memory", 8 * MIB + MIB // 2], ["descriptors", 4]]
"""With these the interpreter's own end is of interest as well: it has threads to end."""

DENIED = ("openat", "getdents64", "readlinkat", "memfd_create", "ioctl", "query")
"""Calls that some command cannot do without."""

SPARE = ("sched_getaffinity", "pidfd_open", "openat2", "statx", "prctl", "clone3", "threads", "socketpair")
"""Calls without which every command answers as with them."""


class Ended(NamedTuple):
    code: int | None
    left: bool
    out: str
    said: str


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def short() -> Iterator[Run]:
    """Runs a command that lacks something."""
    program = Program("short")
    assert program.hear() == "ready"

    def run(args: list[str], lack: Lack) -> Ended:
        ask = {"args": args, "lack": lack, "whole": lack in WHOLE, "limit": PATIENCE / 2}
        return Ended(**json.loads(program.tell(json.dumps(ask))))

    yield run
    program.end()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, binary: Path) -> Iterator[dict[str, str]]:
    """The words of commands: a process that does not change, a capture of it, an agent."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.read(1)  # it is through with its beginning
        capture = tmp_path_factory.mktemp("short") / "it.vmatlas"
        command = [sys.executable, "-m", "vmatlas", "record", str(process.pid), "-o", str(capture)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
        yield {"PID": str(process.pid), "CAPTURE": str(capture), "AGENT": f"agent:{binary}"}
        process.stdin.close()


STEADY = (
    "maps PID",
    "maps PID --residency",
    "find PID 7f0000000000 --neighbours",
    "summary PID",
    "audit PID",
    "diff PID CAPTURE",
    "replay CAPTURE",
)
"""What answers the same each time."""

OTHERS = (
    "maps self",
    "maps PID --target AGENT",
    "record PID -o -",
    "advise PID --cold --where anon",
    "processes",
    "--help",
)


def words(command: str, asked: dict[str, str]) -> list[str]:
    return [asked.get(word, word) for word in command.split()]


def wrongs(ended: Ended) -> list[str]:
    """What must not be of an end."""
    found = []
    if ended.code is None:
        found.append("it hangs")
    elif ended.code == Exit.BUG or ended.code not in [*map(int, Exit)]:
        found.append(f"exit code {ended.code}")
    if ended.left:
        found.append("what it started lives on")
    lines = ended.said.splitlines()
    if [line for line in lines if not re.match(r"(vmatlas|hint): .", line)] or "defect" in ended.said:
        found.append("not one clear line")
    # Of somebody else's process on this machine that was silent just then each has a line.
    told = [line for line in lines if line.startswith("vmatlas: ") and " did not answer in " not in line]
    if sum("warning" not in line for line in told) > 1:
        found.append("more than one line")
    return found


def failures(short: Run, args: list[str], lacks: list[Lack]) -> list[object]:
    """Those lacks with which a command ends as it must not."""
    found = []
    for lack in lacks:
        ended = short(args, lack)
        wrong = wrongs(ended)
        if ended.code not in (0, 1) and not ended.said and not (lack[0] == "streams" and 2 in lack):
            wrong.append("it fails without a word")
        if wrong:
            found.append((lack, wrong, ended.code, ended.said[-500:]))
    return found


@pytest.mark.parametrize("command", [*STEADY, *OTHERS])
def test_short_of_memory_descriptors_and_streams(short: Run, asked: dict[str, str], command: str) -> None:
    assert failures(short, words(command, asked), SCARCE) == []


needs_numbers = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the numbers of this processor's calls are not in the test"
)


@needs_numbers
@pytest.mark.parametrize("command", ["maps PID", "advise PID --cold --where anon", *OTHERS[:3], "processes"])
def test_calls_that_a_sandbox_denies(short: Run, asked: dict[str, str], command: str) -> None:
    denied = [*DENIED, "process_madvise"] if command.startswith("advise") else DENIED
    lacks: list[Lack] = [["call", call, ("EPERM", "ENOSYS")[at % 2]] for at, call in enumerate(denied)]
    assert failures(short, words(command, asked), lacks) == []


@needs_numbers
@pytest.mark.parametrize(
    "command",
    [
        "maps PID",
        "maps PID --backend linux-ioctl",
        "audit PID --ignore code-anybody-may-write,relro-undone,changed-code",  # which say that they cannot tell
    ],
)
def test_calls_that_can_be_done_without_change_no_answer(short: Run, asked: dict[str, str], command: str) -> None:
    args = words(command, asked)
    whole = short(args, ["nothing"])
    lacks: list[Lack] = [["call", call, ("EPERM", "ENOSYS")[at % 2]] for at, call in enumerate(SPARE)]
    found = {str(lack): short(args, lack) for lack in lacks}
    assert {lack: ended for lack, ended in found.items() if ended != whole} == {}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have no readlink(2): see readlinkat")
def test_links_that_may_not_be_read_are_told_as_that_and_not_as_another_namespace(
    short: Run, asked: dict[str, str]
) -> None:
    for error in ("EPERM", "ENOSYS"):
        ended = short(words("maps PID", asked), ["call", "readlink", error])
        assert ended.code == Exit.UNSUPPORTED
        assert "/proc/self may not be asked" in ended.said and "namespace" not in ended.said


def test_without_descriptors_a_file_is_told_no_other_reason(short: Run, asked: dict[str, str], tmp_path: Path) -> None:
    code = next(line for line in Path(f"/proc/{asked['PID']}/maps").read_text().splitlines() if "r-xp" in line)
    for number in range(5, 11):
        command = ["recover", asked["PID"], "0x" + code.split("-")[0], "-o", str(tmp_path / f"{number}")]
        ended = short(command, ["descriptors", number])
        assert ended.code == 0 or (ended.code == Exit.FAILED and "Too many open files" in ended.said), (number, ended)


@needs_numbers
@pytest.mark.parametrize("command", ["summary --all", "audit --all"])
def test_what_asks_everybody_gets_by_on_little(short: Run, command: str) -> None:
    lacks: list[Lack] = [
        *WHOLE,
        ["call", "threads", "EPERM"],
        ["call", "sched_getaffinity", "EPERM"],
        ["streams", 0, 2],
    ]
    assert failures(short, command.split(), lacks) == []


def test_doctor_tells_what_is_lacking_as_a_part_of_its_answer(short: Run) -> None:
    for lack in (["descriptors", 4], ["memory", MIB]):
        ended = short(["doctor"], lack)
        assert wrongs(ended) == []
        too_little = lack[0] == "memory" and ended.code == Exit.FAILED and "out of memory" in ended.said
        assert ended.code == Exit.UNSUPPORTED or ended.out or too_little


@pytest.mark.parametrize("command", ["maps self", "maps PID", "audit --all", "processes", "replay CAPTURE", "doctor"])
def test_without_proc(short: Run, asked: dict[str, str], command: str) -> None:
    ended = short(words(command, asked), ["proc"])
    if ended.code == 125:
        pytest.skip(ended.said)
    assert wrongs(ended) == []
    assert ended.code == (0 if command.startswith("replay") else Exit.UNSUPPORTED)


def test_a_full_disk_loses_nothing_and_leaves_nothing(short: Run, asked: dict[str, str], tmp_path: Path) -> None:
    new, old = tmp_path / "new.vmatlas", tmp_path / "old.vmatlas"
    old.write_bytes(b"it")
    said = [short(["record", asked["PID"], "-o", str(file), "--force"], ["room"]) for file in (new, old)]
    assert [ended.code for ended in said] == [9, 9]
    assert old.read_bytes() == b"it"
    assert sorted(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("size", [0, 4 * MIB])
def test_too_little_memory_even_to_begin_is_one_line(size: int) -> None:
    program = f"""
import resource, sys
import vmatlas.cli
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + {size},) * 2)
sys.exit(vmatlas.cli.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (5, 9)
    assert re.fullmatch(r"vmatlas: .+\n(hint: .+\n)?", done.stderr), done.stderr
