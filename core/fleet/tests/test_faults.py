"""What goes wrong on the way: nothing that was recorded is lost, nothing counts twice, and everything is told."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import MalformedData
from vmatlas_fleet import recording
from vmatlas_fleet.asking import Order, Told
from vmatlas_fleet.dataset import DataSet, Run, new_run
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.recording import Pace, record
from vmatlas_fleet.storage import UNSEEN, Folder

from . import sshd
from .conftest import rows_of

PROGRAM = [sys.executable, "-c", "import sys; from vmatlas.cli import main; sys.exit(main())"]
SILENT = "import sys; open(sys.argv[1], 'w').close(); sys.stdin.read()"
"""Says nothing, for as long as somebody may ask."""


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def silent(tmp_path: Path) -> str:
    """The URL of what says nothing for ever, and makes the file `asked`."""
    program = tmp_path / "silent.py"
    program.write_text(SILENT)
    return f"agent:{sys.executable} {program} {tmp_path}/asked"


def begin(tmp_path: Path, lines: list[str], *options: object) -> subprocess.Popen[bytes]:
    inventory = tmp_path / "inventory"
    if not inventory.exists():  # another program may be reading it
        inventory.write_text("\n".join(lines))
    with inventory.open("rb") as file:
        return subprocess.Popen(
            [*PROGRAM, "fleet", "record", "-", "--to", str(tmp_path / "atlas"), *map(str, options)],
            stdin=file,
            stderr=subprocess.PIPE,
        )


def files_of(data: Path, table: str) -> list[Path]:
    return sorted(data.glob(f"{table}/*/*/*.parquet"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_keeps_what_is_there_and_resume_asks_for_the_rest_alone(tmp_path, child, run, number, code):
    data = tmp_path / "atlas"
    lines = ["one local", f"stuck {silent(tmp_path)}", "two local", "three local"]
    options = ["--select", child, "--concurrency", 1, "--patience", 600, "--deadline", "1h"]
    process = begin(tmp_path, lines, *options)
    wait_for(lambda: files_of(data, "hosts"))
    wait_for((tmp_path / "asked").exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    assert b"2 hosts not asked" in said and b"--resume" in said
    told = {row["name"]: row for row in rows_of(data, "hosts")}
    assert (told["one"]["status"], told["stuck"]["status"]) == ("answered", "failed")
    assert "interrupted" in told["stuck"]["reason"]
    (before,) = [path for path in files_of(data, "hosts") if "host=one" in str(path)]
    written = before.stat().st_mtime_ns
    again = lines[:1] + lines[2:] + ["stuck local"]
    result = run("fleet", "record", "-", "--to", data, *options, "--resume", input="\n".join(again))
    assert result.exit_code == 0, result.stderr
    assert "3 hosts answered (1 more had before)" in result.stderr
    assert before.stat().st_mtime_ns == written
    rows = rows_of(data, "hosts")
    assert sorted(row["name"] for row in rows) == ["one", "stuck", "three", "two"]
    assert {row["status"] for row in rows} == {"answered"} and len({row["run"] for row in rows}) == 1
    result = run("fleet", "record", "-", "--to", data, *options, "--resume", input="\n".join(again))
    assert result.exit_code == 0 and "0 hosts answered (4 more had before)" in result.stderr


def test_a_recording_that_is_killed_leaves_whole_files_and_goes_on(tmp_path, child, run):
    data = tmp_path / "atlas"
    lines = [f"h{number} local" for number in range(40)]
    process = begin(tmp_path, [*lines, f"stuck {silent(tmp_path)}"], "--select", child, "--patience", 600)
    wait_for(lambda: len(files_of(data, "hosts")) > 5)
    process.kill()
    process.communicate(timeout=PATIENCE)
    for table in ("hosts", "processes", "regions"):
        for path in files_of(data, table):
            assert pq.read_table(path).num_rows
    options = ["--select", child, "--patience", 600, "--resume"]
    result = run("fleet", "record", "-", "--to", data, *options, input="\n".join(lines))
    assert result.exit_code == 0, result.stderr
    hosts, processes = rows_of(data, "hosts"), rows_of(data, "processes")
    assert len({row["name"] for row in hosts}) == len(hosts) == len(processes) == 40
    assert len({(row["host"], row["run"], row["pid"]) for row in processes}) == 40


def test_what_was_not_finished_long_ago_is_taken_away(tmp_path):
    data = DataSet.at(str(tmp_path / "a"))
    for name, age in (("old", 2 * 86400), ("new", 0)):
        part = tmp_path / "a" / UNSEEN / name
        part.write_text("x")
        os.utime(part, (time.time() - age,) * 2)
    DataSet.at(data.storage.location)
    assert [path.name for path in (tmp_path / "a" / UNSEEN).iterdir()] == ["new"]


def test_resume_asks_the_same_or_is_refused(tmp_path, child, run):
    data = tmp_path / "a"
    assert run("fleet", "record", "-", "--to", data, "--resume", input="local").exit_code == 2
    assert run("fleet", "record", "-", "--to", data, "--select", child, input="local").exit_code == 0
    result = run("fleet", "record", "-", "--to", data, "--select", child, "--what", "audit", "--resume", input="local")
    assert result.exit_code == 2 and "asks otherwise" in result.stderr
    result = run("fleet", "record", "-", "--to", data, "--resume", input="local")
    assert result.exit_code == 2 and "select" in result.stderr
    (lock,) = data.glob("_runs/*.lock")
    with Folder(str(data)).hold(f"_runs/{lock.name}"):
        result = run("fleet", "record", "-", "--to", data, "--select", child, "--resume", input="local")
    assert result.exit_code == 2 and "goes on elsewhere" in result.stderr


def test_a_full_disk_ends_it_with_what_was_written_before(recorded, tmp_path, monkeypatch, child):
    real, written = Folder.write, []

    def fills(self, name, fill):
        if len(written) >= 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, name, fill)
        written.append(name)

    monkeypatch.setattr(Folder, "write", fills)
    with pytest.raises(OSError, match="No space left"):
        recorded(*(Host(f"h{n}", "local") for n in range(9)), select=(f"pid:{child}",), pace=Pace(1, retries=0))
    rows = rows_of(tmp_path / "atlas", "hosts")
    assert 1 <= len(rows) <= 3
    assert {row["status"] for row in rows} == {"answered"}


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system takes root")
def test_a_full_disk_is_told_with_its_code_and_nothing_half_written_is_left(tmp_path, child):
    record = f"{shlex.join(PROGRAM)} fleet record - --what maps,pages --concurrency 1"
    script = (
        'mount -t tmpfs -o size=200k,mode=755 none "$1" || exit 99\n'
        f'for n in 1 2 3 4 5 6 7 8 9; do echo h$n local; done | {record} --to "$1/atlas" --select "$2"\n'
        'code=$?\nfind "$1/atlas/_writing" -type f | wc -l\nls "$1"/atlas/hosts/* | wc -l\nexit $code\n'
    )
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", folder, str(child)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no file system of its own here: {done.stderr.strip()}")
    if done.returncode == 0:
        pytest.skip("nine hosts took less room than 200 KiB")
    left, hosts = done.stdout.split()
    assert (done.returncode, left) == (9, "0"), done.stderr
    assert int(hosts) >= 1 and "No space left" in done.stderr and "--resume" in done.stderr


def test_two_recordings_at_once_do_not_meet(tmp_path, child):
    data = DataSet.at(str(tmp_path / "atlas"))
    hosts = [Host(f"h{n}", "local") for n in range(6)]
    outcomes = []

    def one() -> None:
        run = new_run(what=("maps",), select=(), options={}, hosts=6)
        order = Order(run.run, select=(f"pid:{child}",), threads=1)
        outcomes.append(record(hosts, order, Pace(concurrency=2), data, run))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.answered for outcome in outcomes] == [6, 6]
    rows = rows_of(tmp_path / "atlas", "hosts")
    assert len(rows) == 12 and len({(row["host"], row["run"]) for row in rows}) == 12


def test_two_programs_that_record_at_once_do_not_meet_either(tmp_path, child):
    lines = [f"h{number} local" for number in range(6)]
    programs = [begin(tmp_path, lines, "--select", child, "--concurrency", 3) for _ in range(2)]
    for program in programs:
        _, said = program.communicate(timeout=PATIENCE)
        assert program.returncode == 0, said
    rows = rows_of(tmp_path / "atlas", "hosts")
    assert len(rows) == 12 and len({row["run"] for row in rows}) == 2
    assert {row["status"] for row in rows} == {"answered"}
    assert len({(row["host"], row["run"]) for row in rows}) == 12


def test_many_names_that_do_not_resolve_are_each_a_row(recorded):
    hosts = [Host(f"h{n}", "tcp:a..b:1" if n % 2 else "", problem="" if n % 2 else "no way") for n in range(200)]
    outcome, data = recorded(*hosts)
    assert (outcome.failed, len(rows_of(data, "hosts"))) == (200, 200)
    assert sorted(outcome.reasons.values()) == [100, 100]


def test_a_defect_of_ours_is_not_taken_for_a_hosts(recorded, monkeypatch):
    monkeypatch.setattr(recording, "ask_host", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recorded(Host("a", "local"), Host("b", "local"))


def test_memory_does_not_grow_with_the_number_of_hosts(recorded, monkeypatch):
    """What a host told is let go of once it is written."""
    alive = 0

    class Table:
        def __init__(self) -> None:
            nonlocal alive
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    most = 0

    def told(*_):
        nonlocal most
        most = max(most, alive)
        return Told("answered", tables={"made": Table()})

    monkeypatch.setattr(recording, "ask_host", told)
    outcome, _ = recorded(*(Host(f"h{n}", "local") for n in range(40)), pace=Pace(concurrency=4))
    assert outcome.answered == 40 and most <= 8


def test_through_ssh_nobody_is_asked_and_a_changed_key_is_no_answer(tmp_path, recorded, monkeypatch, child, binary):
    if (why := sshd.why_not()) is not None:
        pytest.skip(why)
    folder = tmp_path / "sshd"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{sshd.prepare(folder)}:{os.environ['PATH']}")
    with sshd.serving(folder) as port:
        host = Host("board", f"ssh:127.0.0.1:{port}")
        outcome, data = recorded(host, select=(f"pid:{child}",), into="first")
        (row,) = rows_of(data, "hosts")
        assert (outcome.answered, row["scheme"]) == (1, "ssh"), row["reason"]
        (process,) = rows_of(data, "processes")
        assert process["pid"] == child
    sshd.key(folder / "host")
    with sshd.serving(folder, port):
        _, data = recorded(host, select=(f"pid:{child}",), into="second", pace=Pace(retries=5))
    (row,) = rows_of(data, "hosts")
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert "Host key verification failed" in row["reason"]
    (folder / "user").unlink()
    (folder / "known").unlink()
    with sshd.serving(folder, port):
        _, data = recorded(host, select=(f"pid:{child}",), into="third", pace=Pace(retries=5))
    (row,) = rows_of(data, "hosts")
    assert (row["status"], row["attempts"]) == ("failed", 1) and "Permission denied" in row["reason"]
    wait_for(lambda: not os.listdir(folder / "tmp"))


@pytest.mark.parametrize("kind", ["a pipe", "a device", "brackets", "too much", "a list", "nothing"])
def test_what_somebody_left_for_a_recording_is_told_and_neither_waited_for_nor_read_for_ever(tmp_path, kind):
    data = DataSet.at(str(tmp_path / "atlas"))
    path = tmp_path / "atlas" / "_runs" / "99991231T000000Z-aaaaaa.json"
    path.parent.mkdir()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "too much":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_text({"brackets": "[" * 100_000, "a list": "[]", "nothing": ""}[kind])
    with pytest.raises(MalformedData, match="99991231T"):
        list(data.runs())


def test_a_row_of_a_host_that_is_no_parquet_is_told(tmp_path):
    data, run = DataSet.at(str(tmp_path / "atlas")), new_run(what=("maps",), select=("all",), options={}, hosts=1)
    path = tmp_path / "atlas" / "hosts" / f"day={run.day}" / "host=web-1" / f"{run.run}.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(MalformedData, match="Parquet"):
        data.answered(run)


@pytest.mark.parametrize("threads", [0, 2])
def test_where_no_thread_is_to_be_had_fewer_ask_or_the_one_that_waits(recorded, monkeypatch, child, threads):
    start, left, asked = threading.Thread.start, [threads], []

    def few(self):
        if self.name == recording.THREAD and self._target.__name__ == "_work":
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
        start(self)

    def noted(*given):
        asked.append(threading.current_thread() is threading.main_thread())
        return real(*given)

    real = recording.ask_host
    monkeypatch.setattr(threading.Thread, "start", few)
    monkeypatch.setattr(recording, "ask_host", noted)
    hosts = [Host(f"h{number}", "local") for number in range(5)] + [Host("lost", "tcp:127.0.0.1:1")]
    outcome, data = recorded(*hosts, select=(f"pid:{child}",), pace=Pace(retries=1, back_off=0.01))
    assert (outcome.answered, outcome.failed) == (5, 1)
    rows = rows_of(data, "hosts")
    assert [(row["name"], row["attempts"]) for row in rows] == [
        *((f"h{number}", 1) for number in range(5)),
        ("lost", 2),
    ]
    assert asked == [not threads] * 7


def test_where_no_thread_is_to_be_had_ctrl_c_and_the_time_for_all_end_it_as_usual(recorded, monkeypatch, child):
    def none(self):
        raise RuntimeError("can't start new thread")

    def ended(host, *given):
        if host.name == "h1":
            raise KeyboardInterrupt
        return real(host, *given)

    real = recording.ask_host
    monkeypatch.setattr(threading.Thread, "start", none)
    monkeypatch.setattr(recording, "ask_host", ended)
    hosts = [Host(f"h{number}", "local") for number in range(3)]
    outcome, data = recorded(*hosts, select=(f"pid:{child}",))
    assert outcome.interrupted is not None and (outcome.answered, outcome.failed, outcome.not_asked) == (1, 1, 1)
    assert "interrupted" in rows_of(data, "hosts")[1]["reason"]
    lost = [Host(f"h{number}", "tcp:127.0.0.1:1") for number in range(2)]
    outcome, data = recorded(*lost, into="second", pace=Pace(retries=100, back_off=30.0, host=100.0, all=1.0))
    assert outcome.failed == 2 and {row["attempts"] for row in rows_of(data, "hosts")} == {1}


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("prlimit") is None,
    reason="it takes root, setpriv and prlimit (util-linux): a limit of processes goes by user, and is none for root",
)
def test_a_user_who_may_have_no_second_thread_records_all_the_same(tmp_path):
    """By the thread that waits, and without those of a library that is never called here."""
    user = 40000 + os.getpid() % 20000  # who has no process yet
    (tmp_path / "inventory.yaml").write_text("hosts: {a: local, b: local}\n")
    tmp_path.chmod(0o777)
    program = (
        "import sys, threading\n"
        "from vmatlas.cli import main\n"
        "try:\n"
        "    threading.Thread(target=print).start()\n"
        "except RuntimeError:\n"
        "    sys.exit(main())\n"
        "sys.exit(99)"
    )
    caps = [f"--{which}=-all,+dac_read_search" for which in ("bounding-set", "inh-caps", "ambient-caps")]
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *caps, "prlimit", "--nproc=1"]
    command += [sys.executable, "-c", program, "fleet", "record", "inventory.yaml", "--to", "atlas", "--select", "1"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert "defect" not in told.stderr and "OpenBLAS" not in told.stderr
    assert told.returncode in (0, 7), told.stderr
    assert len(rows_of(tmp_path / "atlas", "hosts")) == 2


@pytest.mark.parametrize("field", ["run", "began", "what", "select", "options", "hosts", "vmatlas", "schema"])
@pytest.mark.parametrize("value", [[1], {"a": 1}, 1.5, None, "../../etc"])
def test_what_a_recording_asked_has_the_types_that_it_should_have_or_is_malformed(tmp_path, run, child, field, value):
    data = DataSet.at(str(tmp_path / "atlas"))
    kept = new_run(what=("maps",), select=(f"pid:{child}",), options={}, hosts=1)
    data.begin(kept)
    path = tmp_path / "atlas" / "_runs" / f"{kept.run}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    (tmp_path / "inventory.yaml").write_text("hosts: {here: local}\n")
    arguments = ("--select", f"pid:{child}", "--what", "maps", "--resume")
    told = run("fleet", "record", tmp_path / "inventory.yaml", "--to", tmp_path / "atlas", *arguments)
    if (field, value) in (("vmatlas", "../../etc"), ("options", {"a": 1})):
        assert told.exit_code == 2 and "asks otherwise" in told.stderr  # those are what they should be
    else:
        assert told.exit_code == 6 and path.name in told.stderr


def planted_row(tmp_path: Path, fill: Callable[[Path], object]) -> tuple[DataSet, Run, Path]:
    """A data set in which somebody else has put a host's row."""
    data, run = DataSet.at(str(tmp_path / "atlas")), new_run(what=("maps",), select=("all",), options={}, hosts=1)
    path = tmp_path / "atlas" / "hosts" / f"day={run.day}" / "host=web-1" / f"{run.run}.parquet"
    path.parent.mkdir(parents=True)
    fill(path)
    return data, run, path


_BOMBS: dict[str, Callable[[Path], object]] = {
    "a list": lambda path: pq.write_table(
        pa.table(
            {"status": pa.ListArray.from_arrays(pa.array([0, 1 << 24], pa.int32()), pa.nulls(1 << 24, pa.int8()))}
        ),
        path,
        compression="zstd",
    ),
    "a long word": lambda path: pq.write_table(
        pa.table({"status": ["x" * (1 << 26)]}), path, compression="zstd", write_statistics=False
    ),
    "packed otherwise": lambda path: pq.write_table(
        pa.table({"status": ["x" * (1 << 24)]}), path, compression="brotli", write_statistics=False
    ),
    "a number": lambda path: pq.write_table(pa.table({"status": [1]}), path, compression="zstd"),
    "words in it": lambda path: pq.write_table(pa.table({"status": [{"a": "answered"}]}), path, compression="zstd"),
    "two": lambda path: pq.write_table(
        pa.table([pa.array(["answered"]), pa.array(["failed"])], names=["status", "status"]), path, compression="zstd"
    ),
    "columns": lambda path: pq.write_table(
        pa.table({"status": ["answered"]} | {f"c{number}": [1] for number in range(1000)}), path, compression="zstd"
    ),
    "none": lambda path: pq.write_table(pa.table({"state": ["answered"]}), path, compression="zstd"),
}


@pytest.mark.parametrize("bomb", _BOMBS)
def test_a_row_of_a_host_takes_no_more_memory_than_its_file_accounts_for(tmp_path, bomb):
    data, run, path = planted_row(tmp_path, _BOMBS[bomb])
    assert path.stat().st_size < 1 << 20
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    try:
        with pytest.raises(MalformedData, match=run.run):
            data.answered(run)
    finally:
        pa.set_memory_pool(usual)
    assert counted.max_memory() < 1 << 24


def test_rows_that_this_program_writes_are_believed_by_resume(recorded, tmp_path, child):
    outcome, folder = recorded(Host("here", "local"), Host("none", "ssh:-x"), select=(f"pid:{child}",))
    assert outcome.answered == 1
    data = DataSet.at(str(folder))
    assert data.answered(next(data.runs())) == {"here"}


def test_nobody_waits_for_a_lock_that_is_a_pipe(tmp_path):
    folder = Folder(str(tmp_path))
    os.mkfifo(tmp_path / "held")
    with pytest.raises(FileExistsError), folder.hold("held"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root: a link of somebody else's is laid")
@pytest.mark.parametrize("place", ["way", "atlas/_writing", "atlas/hosts", "atlas/_runs"])
def test_nothing_is_written_nor_taken_away_where_a_link_of_somebody_else_leads(tmp_path, place):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    old = elsewhere / "old"
    old.write_text("somebody's")
    os.utime(old, (0, 0))
    location = tmp_path / ("way/atlas" if place == "way" else "atlas")
    if place != "way":
        DataSet.at(str(location))
    link = tmp_path / place
    if link.is_dir():
        link.rmdir()
    link.symlink_to(elsewhere)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    with pytest.raises(OSError, match="somebody else"):
        data = DataSet.at(str(location))
        data.begin(new_run(what=("maps",), select=("all",), options={}, hosts=1))
        data.storage.write("hosts/day=2026-11-30/host=a/run.parquet", lambda file: file.write(b"x"))
    assert [each.name for each in elsewhere.iterdir()] == ["old"]


def test_folders_of_a_data_set_are_for_their_owner_alone(tmp_path):
    storage = Folder(str(tmp_path / "atlas"))
    storage.write("hosts/day=2026-11-30/host=a/run.parquet", lambda file: file.write(b"x"))
    with storage.hold("_runs/held.lock"):
        pass
    found = {path.relative_to(tmp_path): path.stat().st_mode & 0o777 for path in (tmp_path / "atlas").rglob("*")}
    assert len(found) == 7
    assert set(found.values()) == {0o700, 0o600}
    storage.remove("hosts/day=2026-11-30/host=a/run.parquet")
    storage.remove("hosts/day=2026-11-30/host=b/run.parquet")
    assert storage.names("hosts/day=2026-11-30/host=a") == []
