"""Many hosts at once: what they tell is rows, and so is what they do not."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas_fleet import recording
from vmatlas_fleet.asking import Told
from vmatlas_fleet.dataset import DataSet, folder_of, host_of
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.recording import Pace
from vmatlas_fleet.schema import TABLES, arrow_schema, document

from .conftest import QUICK, rows_of

HERE = Host("here", "local", ("web",), {"site": "graz"})


def test_what_a_host_tells_is_what_is_told_without_a_fleet(recorded, child):
    outcome, data = recorded(HERE, select=(f"pid:{child}",), what=("maps", "memory"), build_ids=True)
    assert (outcome.answered, outcome.is_whole) == (1, True)
    space = vmatlas.snapshot(child, residency=True)
    ids = {region.start: region.build_id for region in vmatlas.snapshot(child, build_ids=True)}
    rows = rows_of(data, "regions")
    assert [
        (row["start"], row["start"] + row["size"], row["protection"], row["path"], row["kind"]) for row in rows
    ] == [(each.start, each.end, each.protection.letters, each.path, each.kind.label) for each in space]
    for row, region in zip(rows, space, strict=True):
        assert (row["pid"], row["start_time"]) == (child, space.start_time)
        assert (row["shared"], row["deleted"], row["name"]) == (region.shared, region.deleted, region.name)
        assert (row["offset"], row["inode"]) == (region.offset, region.inode)
        assert row["device"] == (None if region.device is None else str(region.device))
        build_id = ids.get(region.start)  # the vsyscall page is not told by every source
        assert row["build_id"] == (None if build_id is None else build_id.hex())
        assert row["flags"] == " ".join(region.flags.labels())
        assert row["anonymous"] == region.memory.anonymous
    (process,) = rows_of(data, "processes")
    assert (process["pid"], process["regions"], process["mapped"]) == (child, len(space), space.total)
    assert process["program"] == os.path.realpath(sys.executable)
    assert process["private"] is not None
    (host,) = rows_of(data, "hosts")
    assert (host["name"], host["status"], host["groups"]) == ("here", "answered", ["web"])
    assert (dict(host["labels"]), host["system"]) == ({"site": "graz"}, vmatlas.snapshot(child).system.system)
    assert (host["processes"], host["regions"]) == (1, len(space))


def test_an_agent_tells_the_same_and_services_when_asked(recorded, child, binary):
    outcome, data = recorded(Host("far", f"agent:{binary}"), HERE, select=(f"pid:{child}",), services=True)
    assert outcome.answered == 2
    by_host = {host: [row | {"host": ""} for row in rows_of(data, "regions") if row["host"] == host]
               for host in ("far", "here")}  # fmt: skip
    assert by_host["far"] == by_host["here"]
    assert len({row["program"] for row in rows_of(data, "processes")}) == 1


def test_findings_pages_and_captures_are_kept_when_asked_for(recorded, child):
    outcome, data = recorded(HERE, select=(f"pid:{child}",), what=("audit", "pages"), captures=True)
    assert outcome.answered == 1 and not rows_of(data, "regions")
    assert {row["verdict"] for row in rows_of(data, "findings")} <= {"found", "allowed", "untold"}
    (process,) = rows_of(data, "processes")
    (capture,) = data.glob("captures/*/*.vmatlas")
    assert capture.stem == process["capture"] and capture.parent.name == process["capture"][:2]
    assert len(vmatlas.replay(capture)) == process["regions"]
    pages = rows_of(data, "pages")
    with vmatlas.open(child) as opened:
        told = opened.pages()
    assert {row["states"] for row in pages} == {" ".join(run.state.words) for run in told}


def test_every_file_has_the_columns_that_are_documented(recorded, child):
    import pyarrow.parquet as pq

    _, data = recorded(HERE, select=(f"pid:{child}",), what=("maps", "memory", "audit", "pages"))
    for table in TABLES:
        for file in data.glob(f"{table.name}/*/*/*.parquet"):
            found = pq.read_schema(file)
            assert [(each.name, each.type) for each in found] == [
                (each.name, each.type) for each in arrow_schema(table)
            ], table.name


def test_the_schemas_stand_in_the_document():
    text = (Path(__file__).parents[3] / "docs" / "fleet.md").read_text()
    assert document() in text, "python -m vmatlas_fleet.schema"


def test_hosts_that_fail_are_rows_with_their_reasons(recorded, tmp_path):
    garbage = tmp_path / "garbage.py"
    garbage.write_text(
        "import sys, time\nsys.stdout.write('hello, I am no agent\\n'); sys.stdout.flush(); time.sleep(600)"
    )
    dies = tmp_path / "dies.py"
    dies.write_text("import sys; sys.exit('cannot: token hunter2secret')")
    outcome, data = recorded(
        Host("refuses", "tcp:127.0.0.1:1"),
        Host("no-name", "tcp:a..b:1"),
        Host("garbage", f"agent:{sys.executable} {garbage}"),
        Host("dies", f"agent:{sys.executable} {dies} hunter2secret"),
        Host("no-target", "", problem="Ansible reaches it by 'docker'"),
        patience=0.5,
    )
    assert (outcome.failed, outcome.answered) == (5, 0)
    told = {row["name"]: row for row in rows_of(data, "hosts")}
    assert {row["status"] for row in told.values()} == {"failed"}
    assert "Connection refused" in told["refuses"]["reason"]
    assert "no name of a host" in told["no-name"]["reason"]
    assert "hello, I am no agent" in told["garbage"]["reason"]
    assert "exit code 1" in told["dies"]["reason"] and "cannot" in told["dies"]["reason"]
    assert told["no-target"]["reason"] == "Ansible reaches it by 'docker'"
    assert not [file for file in data.rglob("*") if file.is_file() and b"hunter2secret" in file.read_bytes()]


def test_a_host_that_never_answers_is_given_up_at_its_deadline_and_others_are_not_held_up(recorded, tmp_path, child):
    silent = tmp_path / "silent.py"
    silent.write_text("import time; time.sleep(3600)")
    hang = f"agent:{sys.executable} {silent}"
    began = time.monotonic()
    outcome, data = recorded(
        Host("hangs", hang), HERE, select=(f"pid:{child}",), pace=Pace(concurrency=1, host=0.5, retries=5)
    )
    assert time.monotonic() - began < PATIENCE
    told = {row["name"]: row for row in rows_of(data, "hosts")}
    assert (outcome.answered, outcome.failed) == (1, 1)
    assert "0.5 s that it may take in all are over" in told["hangs"]["reason"]
    assert told["hangs"]["attempts"] == 1


def test_a_host_that_speaks_slowly_for_ever_is_given_up_at_its_deadline(recorded, binary, tmp_path):
    """Frames keep coming, so no silence ends it."""
    drip = tmp_path / "drip.py"
    drip.write_text(
        "import os, subprocess, sys, time\n"
        "agent = subprocess.Popen([sys.argv[1]], stdin=0, stdout=subprocess.PIPE)\n"
        "while True:\n"
        "    piece = os.read(agent.stdout.fileno(), 1)\n"
        "    if not piece: break\n"
        "    os.write(1, piece); time.sleep(0.02)\n"
    )
    outcome, data = recorded(Host("drips", f"agent:{sys.executable} {drip} {binary}"), pace=Pace(host=1.5, retries=0))
    (host,) = rows_of(data, "hosts")
    assert outcome.answered == 0 and "in all are over" in host["reason"]


def test_a_lost_host_is_asked_again_after_a_while_and_its_attempts_are_counted(recorded, monkeypatch, child):
    asked: list[float] = []
    real = recording.ask_host

    def flaky(host, order, deadline, keep):
        asked.append(time.monotonic())
        if len(asked) < 3:
            return Told("failed", "lost", "TargetLost", may_pass=True)
        return real(host, order, deadline, keep)

    monkeypatch.setattr(recording, "ask_host", flaky)
    outcome, data = recorded(HERE, select=(f"pid:{child}",), pace=Pace(retries=2, back_off=0.05))
    (host,) = rows_of(data, "hosts")
    assert (outcome.answered, host["attempts"], host["status"]) == (1, 3, "answered")
    assert asked[1] - asked[0] >= 0.05 and asked[2] - asked[1] >= 0.1


def test_what_is_no_better_next_time_is_not_asked_again(recorded):
    _, data = recorded(Host("x", "tcp:a..b:1"), pace=Pace(retries=9))
    assert [row["attempts"] for row in rows_of(data, "hosts")] == [1]


def test_of_attempts_that_were_lost_the_one_that_told_most_is_kept(recorded, monkeypatch):
    attempts = [Told("partly", "a", "TargetLost", True, processes=3), Told("failed", "b", "TargetLost", True)]
    monkeypatch.setattr(recording, "ask_host", lambda *_: attempts.pop(0))
    outcome, data = recorded(HERE, pace=Pace(retries=1, back_off=0.01))
    (host,) = rows_of(data, "hosts")
    assert (outcome.partly, host["status"], host["processes"], host["attempts"]) == (1, "partly", 3, 2)


def test_no_more_hosts_are_asked_at_once_than_wanted_and_no_faster(recorded, monkeypatch):
    inside, most, begun = 0, 0, []
    lock = threading.Lock()

    def counting(*_):
        nonlocal inside, most
        with lock:
            inside, begun[len(begun) :] = inside + 1, [time.monotonic()]
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1
        return Told("answered")

    monkeypatch.setattr(recording, "ask_host", counting)
    outcome, _ = recorded(*(Host(f"h{n}", "local") for n in range(12)), pace=Pace(concurrency=3, rate=100.0))
    assert (outcome.answered, most) == (12, most) and most <= 3
    assert begun[-1] - begun[0] >= 0.1


def test_when_the_time_for_all_is_over_those_that_were_not_asked_are_rows_too(recorded, monkeypatch):
    def slow(host, order, deadline, keep):
        while deadline.left:
            time.sleep(0.01)
        return Told("failed", deadline.why, "TargetLost")

    monkeypatch.setattr(recording, "ask_host", slow)
    outcome, data = recorded(*(Host(f"h{n}", "local") for n in range(5)), pace=Pace(concurrency=2, all=0.2, retries=0))
    reasons = [row["reason"] for row in rows_of(data, "hosts")]
    assert (outcome.failed, len(reasons)) == (5, 5)
    assert sum(reason.startswith("not asked: ") for reason in reasons) == 3


def test_what_waits_where_no_limit_reaches_is_given_up_all_the_same(recorded, monkeypatch):
    """As the system's resolver does: its thread is left, and another one goes on."""
    held = threading.Event()
    monkeypatch.setattr(recording, "_GRACE", 0.1)
    real = recording.ask_host

    def resolver(host, *rest):
        return real(host, *rest) if host.name == "here" else held.wait(PATIENCE)

    monkeypatch.setattr(recording, "ask_host", resolver)
    outcome, data = recorded(
        Host("stuck", "tcp:x:1"), Host("here", "", problem="none"), pace=Pace(1, host=0.1, retries=0)
    )
    held.set()
    told = {row["name"]: row["reason"] for row in rows_of(data, "hosts")}
    assert outcome.failed == 2 and "still waits" in told["stuck"] and told["here"] == "none"


@pytest.mark.parametrize(
    "name", ["web-1", "a b", "x/../../y", "..", "%2F", "täst", "*?[", "a=b", "2026", "~", "'; drop"]
)
def test_a_hosts_folder_tells_its_name_and_leads_nowhere_else(name, recorded):
    folder = folder_of(name)
    assert "/" not in folder and host_of(folder) == name
    outcome, data = recorded(Host(name, "", problem="none"))
    assert outcome.failed == 1
    assert [file.parent.name for file in data.glob("hosts/*/*/*.parquet")] == [folder]


def test_a_folder_of_something_else_is_no_data_set(run, tmp_path):
    (tmp_path / "mine").write_text("x")
    result = run("fleet", "record", "-", "--to", tmp_path, input="local\n")
    assert result.exit_code == 2 and "something else" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_the_command_tells_what_came_of_it_and_its_code_says_so(run, tmp_path, child):
    result = run("fleet", "record", "-", "--to", tmp_path / "a", "--select", child, input="local\n")
    assert (result.exit_code, result.stdout) == (0, "") and "1 host answered, 0 failed" in result.stderr
    result = run(
        "fleet",
        "record",
        "-",
        "--to",
        tmp_path / "a",
        "--select",
        child,
        input="local\nx tcp:127.0.0.1:1\n",
    )
    assert result.exit_code == 7 and "1 host (x): no connection: cannot connect to x" in result.stderr
    result = run("fleet", "record", "-", "--to", tmp_path / "a", "--retries", 0, input="x tcp:127.0.0.1:1\n")
    assert result.exit_code == 8
    for wrong in (["--what", "maps,x"], ["--what", ","], ["--select", "x"], ["--hosts", "z"], ["--deadline", "x"]):
        result = run("fleet", "record", "-", "--to", tmp_path / "a", *wrong, input="local\n")
        assert result.exit_code == 2, wrong


def test_a_capture_that_two_hosts_give_is_kept_once(tmp_path):
    data = DataSet.at(str(tmp_path / "a"))
    assert data.keep_capture(b"x") == data.keep_capture(b"x")
    assert len(list((tmp_path / "a" / "captures").rglob("*.vmatlas"))) == 1


def test_data_sets_lie_on_what_fsspec_reaches(run, child):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install fsspec")
    files = fsspec.filesystem("memory")
    result = run("fleet", "record", "-", "--to", "memory://atlas", "--select", child, input="local\n")
    assert result.exit_code == 0, result.stderr
    found = [name for name in files.find("/atlas") if name.endswith(".parquet")]
    assert sorted(name.split("/")[2] for name in found) == ["hosts", "processes", "regions"]
    result = run("fleet", "record", "-", "--to", "memory://atlas", "--select", child, "--resume", input="local\n")
    assert result.exit_code == 0 and "1 more had before" in result.stderr
    files.rm("/atlas", recursive=True)
    assert run("fleet", "record", "-", "--to", "nosuch://x", input="local\n").exit_code == 2


def test_files_are_for_their_owner_alone_and_nothing_half_written_is_left(recorded, child):
    _, data = recorded(HERE, select=(f"pid:{child}",))
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    assert not list((data / "_writing").iterdir())
    assert json.loads((data / "vmatlas-fleet.json").read_text()) == {"schema": 1}
    assert QUICK.retries == 0


@pytest.mark.parametrize("words", [("fleet",), ("fleet", "record"), ("fleet", "hosts"), ("fleet", "diff"), ("sql",)])
def test_each_command_has_help_with_examples_that_fits_a_terminal(run, words):
    shown = run(*words, "--help")
    assert shown.exit_code == 0 and "Examples:" in shown.stdout
    assert f"vmatlas {words[0]}" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 120


def test_the_program_lists_the_commands_of_other_distributions_and_names_where_a_missing_one_is(run, monkeypatch):
    from vmatlas import registry
    from vmatlas.cli import program

    assert "fleet" in run("--help").stdout
    assert "record  Ask the hosts of an inventory" in run("fleet").stdout
    assert run("fleet", "x").exit_code == 2
    monkeypatch.setattr(program, "_others", dict)
    result = run("fleet", "record")
    assert result.exit_code == 2 and "it comes with vmatlas-fleet" in result.stderr
    assert registry.COMMANDS == "vmatlas.commands"
