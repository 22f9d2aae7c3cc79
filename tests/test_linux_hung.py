"""A file system that answers nothing holds nobody up: neither who asks about one process, nor who asks about all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from tests.conftest import MAY_ASK_WHAT_IS_MAPPED, Program, Start, offered
from vmatlas import registry
from vmatlas.analysis import audit
from vmatlas.conformance.patience import PATIENCE


def begun(program: Program) -> None:
    told = json.loads(program.hear())
    if "missing" in told:
        pytest.skip(f"no FUSE file system can be mounted here: {told['missing']}")


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Path]]:
    folder = tmp_path_factory.mktemp("hung")
    program = Program("hung", folder)
    looks: list[subprocess.Popen[bytes]] = []
    try:
        begun(program)
        looks.append(subprocess.Popen(["stat", f"/proc/{program.pid}/root{folder}/c.so"], stdout=subprocess.DEVNULL))
        with pytest.raises(subprocess.TimeoutExpired):  # else all that follows would prove nothing
            looks[0].wait(2)
        yield program, folder
    finally:
        program.end()
        for look in looks:
            look.wait(PATIENCE)


def run(*arguments: str) -> tuple[int, str]:
    """The exit code and the output of a command, which is left behind where it hangs: nothing else ends it."""
    command = subprocess.Popen(
        [sys.executable, "-m", "vmatlas", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = command.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        command.kill()
        pytest.fail(f"vmatlas {' '.join(arguments)} hangs")
    return command.returncode, output


@pytest.mark.parametrize(
    "words",
    [
        "maps PID",
        "maps PID --residency",
        "maps PID --backend linux-ioctl",
        "maps PID --backend linux-procfs",
        "find PID 0 --or-next",
        "summary PID",
        "summary PID --residency",
        "watch PID --for 0.1",
        "record PID -o FILE",
        "maps PID --build-ids",
        "record PID -o FILE --build-ids",
    ],
)
def test_command_comes_back(hung: tuple[Program, Path], tmp_path: Path, words: str) -> None:
    names = {"PID": str(hung[0].pid), "FILE": str(tmp_path / "x.vmatlas")}
    if {"--build-ids", "linux-ioctl"} & set(words.split()):
        offered("linux-ioctl")
    code, output = run(*(names.get(word, word) for word in words.split()))
    assert code == 0, output


@pytest.mark.parametrize("command", ["summary", "audit"])
def test_survey_of_everybody_comes_back(hung: tuple[Program, Path], command: str) -> None:
    code, output = run(command, "--all")
    assert code in (0, 1, 7), output
    rows = [line for line in output.splitlines() if line.split()[:1] == [str(hung[0].pid)]]
    assert rows and not any("no answer" in row or "no-answer" in row for row in rows)
    assert f"process {hung[0].pid} (" not in output  # another test's may be silent


def test_find_says_of_which_file_nothing_was_read(hung: tuple[Program, Path]) -> None:
    program, folder = hung
    regions = {region.path: region for region in vmatlas.snapshot(program.pid)}
    code, output = run("find", str(program.pid), f"{regions[f'{folder}/c.so'].start:x}")
    assert code == 0
    assert f"no ELF-ADDRESS of {folder}/c.so: its file system is not asked, which may not answer (fuse" in output


def test_unlinked_file_is_found_although_its_file_system_is_silent(hung: tuple[Program, Path]) -> None:
    program, folder = hung
    code, output = run("audit", str(program.pid), "--fail-on", "note", "--json")
    assert code == 1
    found = {each["thing"]: each for each in json.loads(output)["findings"] if each["finding"] == "deleted-file"}
    assert any(path.removesuffix(" (deleted)") == str(folder / "a.so") for path in found)
    assert str(folder / "c.so") not in found


@pytest.mark.parametrize("may_ask_mapped", [True, False])
@pytest.mark.parametrize("backend", ["linux-procfs", "linux-ioctl"])
def test_name_that_could_not_be_settled_is_not_told_deleted_and_that_is_said(
    hung: tuple[Program, Path], backend: str, may_ask_mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, folder = hung
    if not may_ask_mapped:  # as for an ordinary user
        monkeypatch.setattr("vmatlas.systems.linux.LinuxProcess.mapped_file", lambda *_: b"none")
    with vmatlas.open(program.pid, backend=offered(backend)) as process:
        space = process.snapshot()
        regions = {region.path: region for region in space if region.path and str(folder) in region.path}
        unlinked = {"a.so": True} if may_ask_mapped and MAY_ASK_WHAT_IS_MAPPED else {"a.so (deleted)": None}
        expected = unlinked | {"b (deleted)": None, "c.so": False}
        assert {path: region.deleted for path, region in regions.items()} == {
            f"{folder}/{name}": deleted for name, deleted in expected.items()
        }
        explained = {each.region.path: each for each in audit(space, process.evidence())}
        named_so = explained[f"{folder}/b (deleted)"]
        assert named_so.id == "deleted-file"
        assert "was not asked: its file system (fuse) may not answer" in named_so.explanation


def test_process_whose_root_it_is_holds_nobody_up(start: Start, tmp_path: Path) -> None:
    program = start("hung", tmp_path, "rooted")
    begun(program)
    code, output = run("audit", str(program.pid), "--fail-on", "note")
    assert (code, output.count("deleted-file")) == (1, 2), output


def test_build_ids_of_other_files_are_told_and_what_lacks_is_said(hung: tuple[Program, Path]) -> None:
    program, folder = hung
    with vmatlas.open(program.pid, backend=offered("linux-ioctl")) as process:
        space = process.snapshot(build_ids=True)
        assert any(region.build_id for region in space)
        assert not any(region.build_id for region in space if str(region.path).startswith(str(folder)))
        assert space.incomplete is not None
        assert "(fuse) were not asked for build ids: 3 region(s) lack theirs" in space.incomplete


def test_agent_is_not_held_up_either(hung: tuple[Program, Path], binary: Path) -> None:
    program, folder = hung
    with vmatlas.connect(f"agent:{binary}") as board:
        for name in ("linux-procfs", "linux-ioctl"):
            if not board.offers(registry.backend(name)):
                continue
            with vmatlas.open(program.pid, target=board, backend=name) as process:
                regions = {region.path: region for region in process.snapshot() if region.path}
                unlinked = "a.so" if MAY_ASK_WHAT_IS_MAPPED else "a.so (deleted)"
                told = [regions[f"{folder}/{each}"].deleted for each in (unlinked, "b (deleted)", "c.so")]
                assert told == [True if MAY_ASK_WHAT_IS_MAPPED else None, None, False]
                assert process.elf_address(regions[f"{folder}/c.so"].start) is None
                if name == "linux-ioctl":
                    assert "(fuse) were not asked" in str(process.snapshot(build_ids=True).incomplete)


def test_file_of_it_is_not_opened(hung: tuple[Program, Path]) -> None:
    program, folder = hung
    with vmatlas.open(program.pid) as process:
        region = next(each for each in process.snapshot() if each.path == f"{folder}/c.so")
        assert process.elf_address(region.start) is None


DECEIVED = """
import os, sys
import vmatlas
from vmatlas.systems.linux import LINUX
from vmatlas.systems.linux.files import HeldMounts, ProcessFiles, open_mapped
from vmatlas.systems.linux.mounts import MountTable

pid, path, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
region = next(each for each in vmatlas.snapshot(pid) if each.path == path)
process = LINUX.open(pid, None)
with ProcessFiles(process) as files:
    silent = files.table.of_device((region.device.major, region.device.minor))
    assert silent.type == b"fuse", silent
    local = [each._replace(type=b"tmpfs") if each.device == silent.device else each for each in files.table.own]
    files.__dict__["table"] = MountTable(local, local)  # as it was, before the number came to mean another mount
    if what == "number":
        now = files.now_at(os.fsencode(path), silent.device)
        print(now.inode, now.unasked)
        print(files.is_linked(os.fsencode(path), None, region.inode, silent.device))
    else:
        print(files.opened(region))
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("number", "None its file system (fuse) may not answer\nNone\n"),
        ("map", "its file system is not asked, which may not answer (fuse)\n"),
    ],
)
def test_what_a_table_said_before_is_not_believed_of_what_is_held(
    hung: tuple[Program, Path], what: str, told: str
) -> None:
    """Meanwhile a process may map another file at the same bounds, or mount another file system of the same number."""
    program, folder = hung
    asking = subprocess.Popen(
        [sys.executable, "-c", DECEIVED, str(program.pid), f"{folder}/c.so", what], stdout=subprocess.PIPE, text=True
    )
    try:
        output, _ = asking.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        asking.kill()
        pytest.fail("it asked a file system that does not answer")
    assert output == told


SWAPPED = """
import json, os, sys
import vmatlas
from vmatlas_linux_ioctl import acquire, apart

apart.LIMIT = 0.3
acquire._silent = lambda *_: {}  # nothing was silent when it was looked at
with vmatlas.open(int(sys.argv[1]), backend="linux-ioctl") as process:
    space = process.snapshot(build_ids=True)
left = len(apart._left)
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
told = {each.path: each.build_id is not None for each in space if each.path}
print(json.dumps([told, space.incomplete, left, len(children)]))
"""


@pytest.mark.parametrize("pure", ["0", "1"])
def test_a_file_that_is_mapped_meanwhile_and_does_not_answer_holds_up_a_child_alone(
    hung: tuple[Program, Path], pure: str
) -> None:
    offered("linux-ioctl")
    program, folder = hung
    asking = subprocess.Popen(
        [sys.executable, "-c", SWAPPED, str(program.pid)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "VMATLAS_PURE": pure},
    )
    try:
        output, _ = asking.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        asking.kill()
        pytest.fail("it waits for a file system that does not answer")
    told, lacks, left, children = json.loads(output)
    silent = [path for path in told if path.startswith(str(folder))]
    assert silent and not any(told[path] for path in silent)
    assert any(told.values())
    assert "no answer in 0.3 s" in lacks
    assert left == children <= 1
    assert asking.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="advising another process takes CAP_SYS_NICE")
def test_advice_that_reads_a_file_which_does_not_answer_is_given_up(hung: tuple[Program, Path]) -> None:
    """A child asks, and is left behind; with it nothing of ours that somebody waits for."""
    program, folder = hung
    code, output = run("advise", str(program.pid), "--willneed", "--where", f"path={folder}/c.so", "--patience", "0.5")
    assert code == 7 and "did not answer in" in output, output
