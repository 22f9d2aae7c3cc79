"""What a policy allows by a path is the file of that path here: a process with mounts of its own gets nothing by it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Policy
from vmatlas.systems.linux.host import LINUX

CAT = shutil.which("cat") or "/bin/cat"
FOUND = ("code-in-temporary-folder", "deleted-file")
"""What is found of a program that is run from /tmp."""

OTHER = 'mount -t tmpfs none "$0"; cp "$1" "$0/cat"; '
"""Another file system with another program, where the allowed one is."""
HELD = 'cd /; exec 9<"$0/cat"; '

Run = Callable[[Path, str], int]


@pytest.fixture
def engine() -> Iterator[Path]:
    """A folder with a program that a policy allows. In /tmp, whatever TMPDIR says."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vmatlas-") as path:
        folder = Path(path, "engine")
        folder.mkdir()
        shutil.copy(CAT, folder / "cat")
        yield folder


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts what a script executes in mounts of its own ($0: the folder, $1: a program); an empty one: in ours."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(folder: Path, script: str) -> int:
        command = [str(folder / "cat")]
        if script:
            user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
            command = ["unshare", *user, "--mount", "sh", "-ec", script, str(folder), CAT]
        try:
            program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError:
            pytest.skip("unshare (package util-linux) is missing")
        started.append(program)
        assert program.stdin is not None and program.stdout is not None and program.stderr is not None
        program.stdin.write(b"there\n")
        program.stdin.flush()
        if program.stdout.readline() != b"there\n":
            said = program.stderr.read().decode(errors="replace").strip()
            if "unshare" in said or "mount" in said:
                pytest.skip(f"no mounts of one's own here: {said}")
            raise AssertionError(said)
        return program.pid

    yield begin
    for each in started:
        each.kill()
        each.communicate()


def audited(pid: int, **allowance: str) -> vmatlas.AuditReport:
    policy = Policy.of({"allow": [{"rules": list(FOUND), "reason": "known", **allowance}]}).only(list(FOUND))
    with vmatlas.open(pid) as process:
        report = vmatlas.audit(process.snapshot(), process.evidence(), policy)
    unasked = [each.why for each in report.doubted if "kernel" in each.why]
    if unasked:
        pytest.skip(f"nothing can be looked up here: {unasked[0]}")
    return report


@pytest.mark.parametrize("what", ["program", "path"])
@pytest.mark.parametrize("script", ["", 'exec "$0/cat"'], ids=["in our mounts", "in a copy of our mounts"])
def test_the_file_that_has_the_path_here_is_allowed(engine: Path, run: Run, what: str, script: str) -> None:
    report = audited(run(engine, script), **{what: f"{engine}/*"})
    assert {each.finding.id for each in report.allowed} == {"code-in-temporary-folder"}
    assert not report.findings and not report.doubted


@pytest.mark.parametrize("what", ["program", "path"])
@pytest.mark.parametrize(
    ("script", "why"),
    [
        (OTHER + 'exec "$0/cat"', "another file has that path"),
        (OTHER + 'mkdir "$0/mine"; cp "$1" "$0/mine/cat"; exec "$0/mine/cat"', "there is no such file"),
        (OTHER + HELD + 'rm "$0/cat"; exec /proc/self/fd/9', "it lay in another folder of that path"),
        (
            'mount -t tmpfs none "$0"; mkdir -p "$0$0"; cp "$1" "$0$0/cat"; cd /; exec 9<"$0$0/cat"; umount -l "$0"; '
            "exec /proc/self/fd/9",
            "another file has that path",
        ),
    ],
    ids=["mounted over", "where there is nothing here", "unlinked", "from a mount that is gone"],
)
def test_a_process_that_mounts_something_there_is_not_allowed(
    engine: Path, run: Run, what: str, script: str, why: str
) -> None:
    pid = run(engine, script)
    report = audited(pid, **{what: f"{engine}/*"})
    assert not report.allowed
    assert [each.id for each in report].count("code-in-temporary-folder") == 1
    assert {each.why.rpartition(": ")[2] for each in report.doubted} == {why}
    assert LINUX.doubt(pid, None, "user") is None, "that is what the kernel says"


UNMOUNTS = 'mkdir -p "$0$0"; cp "$1" "$0$0/cat"; cd /; exec 9<"$0$0/cat"; umount -l "$0"; exec /proc/self/fd/9'


@pytest.mark.parametrize(
    ("script", "is_found"),
    [
        ('mount -t tmpfs none "$0"; ' + UNMOUNTS, True),
        ('mkdir "$0/mine"; mount --bind "$0/mine" "$0"; ' + UNMOUNTS, True),
        ('mount -t tmpfs none "$0"; mkdir "$0/a"; mount --bind "$0" "$0/a"; ' + UNMOUNTS, True),
        (OTHER + 'exec "$0/cat"', False),
        ('exec "$0/cat"', False),
        (HELD + 'mount -t tmpfs none "$0"; exec /proc/self/fd/9', False),
    ],
    ids=["another file system", "a folder of ours", "one that has two mounts", "mounted", "ours", "hidden"],
)
def test_code_from_a_mount_that_is_gone_is_found(engine: Path, run: Run, script: str, is_found: bool) -> None:
    pid = run(engine, script)
    if is_found and not may_ask_mapped():
        pytest.skip("which mount it was takes the right to follow /proc/PID/map_files")
    with vmatlas.open(pid) as process:
        report = vmatlas.audit(process.snapshot(), process.evidence(), Policy.preset("default").only(["deleted-file"]))
    told = [(each.thing, each.severity.word) for each in report]
    assert told == [(f"{engine}/cat", "medium")] * is_found


def may_ask_mapped() -> bool:
    try:
        os.stat(next(os.scandir("/proc/self/map_files")).path)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("what", ["program", "path"])
def test_a_file_that_was_unlinked_here_is_allowed(engine: Path, run: Run, what: str) -> None:
    pid = run(engine, "")
    (engine / "cat").unlink()
    report = audited(pid, **{what: f"{engine}/*"})
    assert {each.finding.id for each in report.allowed} == set(FOUND)
    assert not report.findings and not report.doubted


def test_who_has_ended_is_in_doubt(engine: Path, run: Run) -> None:
    pid = run(engine, "")
    assert LINUX.doubt(pid, None, "program") is None
    assert LINUX.doubt(pid, 1, "program") == "it is not told any more", "another of that number"
