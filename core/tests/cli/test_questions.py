"""`find`, `summary`, `diff`, `record`, `replay`, `audit`, `processes` against the API."""

from __future__ import annotations

import csv
import io
import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import vmatlas
from vmatlas.analysis import AuditReport, Use
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program
from vmatlas.conformance.patience import PATIENCE

# find


def test_find_tells_the_region_and_the_place_in_its_file(run, rows_of, child):
    address = child.at["plain"] + 0x123
    (row,) = rows_of(run("find", child.pid, f"{address:x}").stdout)
    region = vmatlas.find(child.pid, address)
    assert region is not None
    assert row["RANGE"] == f"{region.start:x}-{region.end:x}"
    assert int(row["FILE-OFFSET"], 16) == region.offset + 0x123
    assert row["NAME"].endswith("/plain file")


def test_find_answers_many_addresses_in_the_order_asked(run, rows_of, child):
    addresses = [child.at["wx"], 0x10, child.at["plain"]]
    result = run("find", child.pid, *(f"{address:x}" for address in addresses))
    found = vmatlas.find_many(child.pid, addresses)
    assert [row["RANGE"] for row in rows_of(result.stdout)] == [
        "-" if region is None else f"{region.start:x}-{region.end:x}" for region in found
    ]
    assert result.exit_code == 1
    assert "0x10" in result.stderr


def test_find_or_next_with_a_filter(run, child):
    told = json.loads(run("find", child.pid, "0", "--or-next", "--where", "wx", "--json").stdout)
    region = vmatlas.find(child.pid, 0, or_next=True, where="wx")
    assert region is not None
    assert told[0]["region"]["start"] == region.start
    assert told[0]["file_offset"] is None, "0 does not lie in that region"


def test_neighbours_tell_how_far_away_they_are(run, child, rows_of):
    address = child.at["wx"] - 1
    result = run("find", child.pid, f"{address:x}", "--neighbours", "--bytes")
    around = vmatlas.neighbours(child.pid, address)
    rows = {row["WHERE"]: row for row in rows_of(result.stdout)}
    for word, region in zip(("before", "at", "after"), around, strict=True):
        assert rows[word]["RANGE"] == ("-" if region is None else f"{region.start:x}-{region.end:x}")
    assert rows["after"]["DISTANCE"] == "1" if around.at is None else "0"


def test_find_asks_for_residency_when_the_filter_looks_at_it(run, child):
    touched = run("find", child.pid, "10", "--or-next", "--where", "resident>1K", "--json")
    assert touched.exit_code == 0
    assert "resident" in touched.stdout
    assert run("find", child.pid, "10", "--or-next", "--where", "resident>1T").exit_code == 1


# summary


def test_summary_adds_up_to_the_map(run, child):
    space = vmatlas.snapshot(child.pid, residency=True)
    told = json.loads(run("summary", child.pid, "--residency", "--json").stdout)
    assert told["total"]["size"] == space.total == sum(use["size"] for use in told["uses"].values())
    assert told["total"]["regions"] == len(space) == sum(kind["regions"] for kind in told["kinds"].values())
    code = space.where("x,!w").total - sum(r.size for r in space.where("stack"))
    assert told["uses"]["code"]["size"] in (code, space.where("x,!w").total)
    libc = next(file for file in told["files"] if re.search(r"/libc[.-]", file["path"]))
    assert libc["size"] == sum(region.size for region in space if region.path == libc["path"])
    assert libc["library"] is True


def test_summary_tables_hold_the_same_totals(run, rows_of, child):
    uses, kinds, files = run("summary", child.pid, "--bytes").stdout.split("\n\n")
    summary = vmatlas.summarize(vmatlas.snapshot(child.pid))
    assert {row["USE"]: int(row["SIZE"]) for row in _rows(uses)} == {
        **{use.value: total.size for use, total in summary.uses.items()},
        "total": summary.total.size,
    }
    assert [row["KIND"] for row in rows_of(kinds)] == [kind.label for kind in summary.kinds]
    assert [int(row["SIZE"]) for row in rows_of(files)] == [file.total.size for file in summary.files]


def _rows(text: str) -> list[dict[str, str]]:
    titles, *lines = (line.split() for line in text.splitlines())
    return [dict(zip(titles[:3], line[:3], strict=True)) for line in lines]


def test_summary_as_csv(run, child):
    rows = list(csv.DictReader(io.StringIO(run("summary", child.pid, "--csv").stdout)))
    summary = vmatlas.summarize(vmatlas.snapshot(child.pid))
    by_use = {row["of"]: int(row["size"]) for row in rows if row["by"] == "use"}
    assert by_use == {use.value: total.size for use, total in summary.uses.items()}


def test_summary_of_all_by_use_has_the_child_among_the_others(run, rows_of, child):
    result = run("summary", "--all", "--uses", "--bytes")
    assert result.exit_code in (0, 7), result.stderr
    row = next(row for row in rows_of(result.stdout) if row["PID"] == str(child.pid))
    summary = vmatlas.summarize(vmatlas.snapshot(child.pid))
    assert (int(row["SIZE"]), int(row["CODE"])) == (summary.total.size, summary.uses[Use.CODE].size)


@pytest.mark.parametrize("word", ["self", "pid:{pid}", "{pid}"])
def test_one_process_is_a_selection_of_one(run, word):
    chosen = word.format(pid=os.getpid())
    told = json.loads(run("summary", chosen, "--by", "program", "--json").stdout)
    assert [each["pids"] for each in told["groups"]] == [[os.getpid()]]
    (used,) = json.loads(run("summary", chosen, "--uses", "--json").stdout)["processes"]
    assert used["pid"] == os.getpid()


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["self", "--all"], ["a/file", "--all"], ["self", "--json", "--csv"], ["self", "--uses", "--by", "user"]),
        *(["a/file", "--uses"], ["a/file", "--by", "user"], ["--all", "--uses", "--by", "name"]),
        ["--all", "--by", "colour"],
    ],
)
def test_summary_of_nobody_or_of_one_and_all_is_refused(run, arguments):
    assert run("summary", *arguments).exit_code == 2


# a capture in the place of a process


def test_summary_of_a_capture_is_that_of_its_process(run, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    assert run("record", child.pid, "-o", file).exit_code == 0
    for form in ("--bytes", "--csv"):
        assert run("summary", file, form).stdout == run("summary", child.pid, form).stdout != ""
    told, known = (json.loads(run("summary", asked, "--json").stdout) for asked in (file, child.pid))
    assert told | {"time": None} == known | {"time": None}
    assert told["pid"] == child.pid


def test_summary_of_a_capture_tells_the_memory_in_use_when_it_was_recorded(run, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    run("record", child.pid, "-o", file, "--residency")
    resident = json.loads(run("summary", file, "--json").stdout)["total"]["resident"]
    assert resident == vmatlas.summarize(vmatlas.replay(file)).total.resident > 0
    assert run("summary", file, "--residency").stdout == run("summary", file).stdout
    assert run("summary", file).stdout.split("\n")[0].split()[3] == "RESIDENT"


def test_audit_of_a_capture_finds_what_the_map_tells(run, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    run("record", child.pid, "-o", file)
    result = run("audit", file, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    expected = vmatlas.audit(vmatlas.replay(file))
    assert [(each["pid"], each["finding"], each["explanation"]) for each in told["findings"]] == [
        (child.pid, each.id, each.explanation) for each in expected
    ]
    assert [each["finding"] for each in told["untold"]] == [each.rule.id for each in expected.untold]
    assert "replaced-file" not in {each["finding"] for each in told["findings"]}, "that is of another moment"


@pytest.mark.parametrize("command", [["summary"], ["audit"], ["diff", "self"]])
def test_what_is_neither_a_process_nor_a_file_is_told_as_both(run, command):
    result = run(*command, "bash")
    assert (result.exit_code, result.stdout) == (9, "")
    first, second = result.stderr.splitlines()
    assert first == "vmatlas: 'bash' is neither a process id nor a file that is there"
    assert "name:bash" in second
    assert "capture" in second


@pytest.mark.parametrize("option", [["--backend", "linux-procfs"], ["--target", "ssh:board"]])
@pytest.mark.parametrize("command", [["summary"], ["audit"], ["diff", "FILE"]])
def test_how_to_ask_is_refused_where_nobody_is_asked(run, tmp_path, command, option):
    file = tmp_path / "it.vmatlas"
    run("record", "self", "-o", file)
    result = run(*(str(file) if word == "FILE" else word for word in command), file, *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vmatlas: --backend and --target go with a process")


@pytest.mark.parametrize("command", [["summary", "FILE"], ["diff", "FILE", "FILE"], ["diff", "FILE", "self"]])
def test_the_memory_in_use_that_was_not_recorded_is_refused(run, tmp_path, command):
    file = tmp_path / "it.vmatlas"
    run("record", "self", "-o", file)
    result = run(*(str(file) if word == "FILE" else word for word in command), "--residency")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "record --residency" in result.stderr


@pytest.mark.parametrize("where", ["resident>1M", "private>0", "page_size=4K", "pss>0", "flag=lo"])
def test_a_filter_on_what_was_not_recorded_says_what_records_it(run, tmp_path, where):
    file = tmp_path / "it.vmatlas"
    assert run("record", "self", "-o", file, "--backend", "linux-procfs").exit_code == 0
    result = run("replay", file, "--where", where)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("hint: vmatlas record --residency keeps it\n")


def test_a_number_is_a_process_and_a_path_a_file(run, child, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("record", "self", "-o", str(child.pid))
    assert json.loads(run("summary", child.pid, "--json").stdout)["pid"] == child.pid
    assert json.loads(run("summary", f"./{child.pid}", "--json").stdout)["pid"] == os.getpid()


# record, replay


def test_replay_shows_the_map_in_the_capture(run, rows_of, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    recorded = run("record", child.pid, "-o", file, "--residency")
    assert recorded.exit_code == 0
    assert str(child.pid) in recorded.stdout
    space = vmatlas.replay(file)
    rows = rows_of(run("replay", file, "--bytes", "--flags").stdout)
    assert [(row["RANGE"], row["RESIDENT"], row["PRIVATE"], row["FLAGS"]) for row in rows] == [
        (
            f"{r.start:x}-{r.end:x}",
            str(r.resident),
            str(r.private_resident),
            "-" if r.flags is None else ",".join(r.flags.labels()),
        )
        for r in space
    ]
    told = json.loads(run("replay", file, "--json").stdout)
    assert told["regions"] == json.loads(space.to_json())
    assert (told["pid"], told["time"], told["backend"]) == (child.pid, space.time, space.backend)


def test_replay_prints_what_maps_printed(run, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    run("record", child.pid, "-o", file)
    assert run("replay", file, "--bytes").stdout == run("maps", child.pid, "--bytes").stdout
    assert run("replay", file, "--csv").stdout_bytes == run("maps", child.pid, "--csv").stdout_bytes


def test_replay_takes_the_options_of_maps(run, rows_of, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    run("record", child.pid, "-o", file)
    rows = rows_of(run("replay", file, "--where", "wx", "--sort", "size").stdout)
    assert [row["PERM"][:3] for row in rows] == ["rwx"] * len(rows) != []
    missed = run("replay", file, "--at", "10")
    assert (missed.exit_code, missed.stderr) == (1, "vmatlas: no region covers 0x10\n")


@pytest.mark.parametrize("option", [["--where", "resident>1"], ["--sort", "resident"]])
def test_replay_refuses_a_question_on_the_memory_in_use_that_was_not_recorded(run, tmp_path, option):
    without, with_it = tmp_path / "without", tmp_path / "with"
    run("record", "self", "-o", without)
    run("record", "self", "-o", with_it, "--residency")
    refused = run("replay", without, *option)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "record --residency" in refused.stderr
    assert len(run("replay", with_it, *option).stdout.splitlines()) > 10


def test_record_leaves_a_device_alone(run, tmp_path):
    os.mkfifo(tmp_path / "device")
    refused = run("record", "self", "-o", tmp_path / "device", "--force")
    assert refused.exit_code == 9
    assert "no regular file" in refused.stderr
    assert (tmp_path / "device").is_fifo()


def test_record_writes_to_standard_output_for_whoever_reads_it(start, in_terminal, child, tmp_path):
    written, said = start("record", child.pid, "-o", "-").communicate(timeout=PATIENCE)
    (tmp_path / "piped.vmatlas").write_bytes(written)
    assert said == b""
    assert vmatlas.replay(tmp_path / "piped.vmatlas").pid == child.pid
    told, code = in_terminal(80, "record", child.pid, "-o", "-")
    assert (code, "not for a terminal" in told) == (2, True)


def test_record_does_not_write_over_a_file_unless_forced(run, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    file.write_text("precious")
    refused = run("record", child.pid, "-o", file)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert "--force" in refused.stderr
    assert file.read_text() == "precious"
    assert run("record", child.pid, "-o", file, "--force").exit_code == 0
    assert vmatlas.replay(file).pid == child.pid


def test_record_does_not_write_over_what_came_while_the_map_was_read(run, child, tmp_path, monkeypatch):
    file, read = tmp_path / "it.vmatlas", vmatlas.Process.capture

    def slowly(process, **asked):
        file.write_text("somebody's only copy")
        return read(process, **asked)

    monkeypatch.setattr(vmatlas.Process, "capture", slowly)
    refused = run("record", child.pid, "-o", file)
    assert (refused.exit_code, file.read_text()) == (2, "somebody's only copy")
    assert "exists already" in refused.stderr
    assert "--force" in refused.stderr


# diff


def test_diff_of_a_process_that_stands_still_is_empty(run, child):
    result = run("diff", child.pid, "--after", "0.05")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)


def test_diff_of_a_capture_and_the_grown_process_shows_what_grew(run, rows_of, child, tmp_path):
    file = tmp_path / "before.vmatlas"
    run("record", child.pid, "-o", file)
    child.grow()
    result = run("diff", file, child.pid, "--bytes")
    assert result.exit_code == 1
    expected = vmatlas.diff(vmatlas.replay(file), vmatlas.snapshot(child.pid))
    rows = rows_of(result.stdout)
    assert [(row["CHANGE"], int(row["GROWTH"])) for row in rows] == [
        (change.kind.value, change.growth) for change in expected.changes
    ]
    assert sum(int(row["GROWTH"]) for row in rows) >= 32 << 20
    told = json.loads(run("diff", file, child.pid, "--json").stdout)
    assert told["growth"] == expected.growth
    assert len(told["changes"]) == len(expected.changes)


def test_diff_of_two_captures_and_of_one_with_itself(run, child, tmp_path):
    before, after = tmp_path / "a", tmp_path / "b"
    run("record", child.pid, "-o", before)
    child.grow()
    run("record", child.pid, "-o", after)
    assert run("diff", before, after).exit_code == 1
    assert run("diff", before, before).exit_code == 0


def test_diff_asks_the_process_as_the_capture_was_asked(run, child, tmp_path):
    file = tmp_path / "before.vmatlas"
    run("record", child.pid, "-o", file, "--residency")
    told = json.loads(run("diff", file, child.pid, "--json").stdout)
    assert told["before"]["backend"] == told["after"]["backend"]
    # What other processes share with it may change while the child stands still: Pss, and which pages are its own.
    assert {field for change in told["changes"] for field in change["fields"]} <= {"details", "private_resident"}
    refused = run("diff", file, child.pid, "--backend", "linux-ioctl")
    assert refused.exit_code == 5, "residency was asked for, which that backend cannot tell"


def test_diff_watches_a_process(start, until_asleep, child):
    watching = start("diff", child.pid, "--after", PATIENCE / 60, "--json")
    until_asleep(watching.pid)
    child.grow()
    out, err = watching.communicate(timeout=PATIENCE)
    assert watching.returncode == 1, err
    assert json.loads(out)["growth"] >= 32 << 20


@pytest.mark.parametrize(
    "arguments",
    [
        ["self"],
        ["self", "file", "--after", "1"],
        ["self", "self", "self"],
        ["file", "--after", "1"],
        ["self", "--after", "-1"],
        ["self", "--after", "nan"],
        ["self", "self", "--ignore", "colour"],
    ],
)
def test_diff_refuses_what_makes_no_sense(run, arguments):
    assert run("diff", *arguments).exit_code == 2


def test_diff_ignores_a_field_when_told_to(run, child, tmp_path):
    file = tmp_path / "before.vmatlas"
    run("record", child.pid, "-o", file)
    result = run("diff", file, file, "--ignore", "flags", "--ignore", "resident")
    assert result.exit_code == 0


# audit


def test_audit_finds_what_the_child_laid_out(run, rows_of, child):
    result = run("audit", child.pid)
    assert result.exit_code == 1
    found = {(row["FINDING"], int(row["RANGE"].split("-")[0], 16)) for row in _findings(result.stdout)}
    assert {
        ("writable-and-executable", child.at["wx"]),
        ("deleted-file", child.at["gone"]),
        ("replaced-file", child.at["replaced"]),
    } <= found


def _findings(text: str) -> list[dict[str, str]]:
    titles = ["PID", "SEVERITY", "FINDING", "RANGE"]
    return [dict(zip(titles, line.split()[:4], strict=True)) for line in text.splitlines()[1:]]


def test_audit_of_all_names_the_child(run, child):
    told = json.loads(run("audit", "--all", "--json").stdout)
    [ours] = [process for process in told["processes"] if process["pid"] == child.pid]
    assert {finding["finding"] for finding in ours["findings"]} >= {"writable-and-executable", "replaced-file"}
    assert all(finding["process"].startswith("python") for finding in ours["findings"])


def test_audit_of_a_clean_process_finds_nothing(run):
    import subprocess

    with subprocess.Popen(["sleep", "3600"]) as clean:
        try:
            result = run("audit", clean.pid)
        finally:
            clean.kill()
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 1


def test_audit_of_all_counts_those_that_cannot_be_read(run, child, monkeypatch):
    from vmatlas.target.local import LocalTargetProcess

    acquire = LocalTargetProcess.acquire

    def refuse(self, backend, query):
        if self.pid == child.pid:
            raise vmatlas.AccessDenied("no right to read", hint="try sudo")
        if self.pid == os.getpid():
            raise vmatlas.NoSuchProcess("it has ended")
        return acquire(self, backend, query)

    monkeypatch.setattr(LocalTargetProcess, "read", lambda self, backend, query, most: None)  # no short way
    monkeypatch.setattr(LocalTargetProcess, "acquire", refuse)
    monkeypatch.setattr("vmatlas.analysis.audit", lambda *_, **__: AuditReport(()))
    result = run("audit", "--all")
    assert result.exit_code == 7, "nothing was found, and somebody could not be looked at"
    assert re.search(r"vmatlas: (1 process|[\d,]+ processes) read, [\d,]+ not: ", result.stderr)
    assert "no right to read" in result.stderr
    assert "ended meanwhile" in result.stderr
    assert re.search(r"^hint: .*try sudo$", result.stderr, re.MULTILINE)


@pytest.mark.parametrize("command", [("summary", "--all", "--uses"), ("audit", "--all")])
def test_what_was_not_read_of_all_is_in_the_output(run, child, monkeypatch, command):
    snapshot = vmatlas.Process.snapshot

    def refuse(asked, **how):
        if asked.pid == child.pid:
            raise vmatlas.AccessDenied("no right to read", pid=child.pid, hint="try sudo")
        return snapshot(asked, **how)

    monkeypatch.setattr(vmatlas.Process, "snapshot", refuse)
    table = run(*command)
    assert table.exit_code in (1, 7)
    lines = [line for line in table.stdout.splitlines() if "not read: no right to read" in line]
    assert len(lines) == 1
    told = json.loads(run(*command, "--json").stdout)
    assert child.pid in told["unread"]["no right to read"]
    assert child.pid not in [process["pid"] for process in told["processes"]]
    assert told["unmatched"] == []
    if command[0] == "summary":
        rows = {row["pid"]: row for row in csv.DictReader(io.StringIO(run(*command, "--csv").stdout))}
        assert rows[str(child.pid)]["error"] == "no right to read" and not rows[str(child.pid)]["size"]


def test_those_that_were_not_read_for_want_of_something_are_one_entry(capsys):
    from vmatlas.cli.survey import Unread

    unread = Unread()
    for pid in range(1, 30):
        why = "Too many open files"
        error = vmatlas.OperationFailed(f"reading process {pid} failed: {why}", errno=24, errno_name="EMFILE", pid=pid)
        unread.miss(vmatlas.ProcessInfo(pid, None, "x", 1), error)
    assert unread.tell() == 7
    told = capsys.readouterr().err
    assert told.startswith("vmatlas: 0 processes read, 29 not: 29 for want of descriptors (1 x, 2 x, ")
    assert len(told) < 150


# processes


def test_processes_are_those_of_the_api(run, child, rows_of):
    result = run("processes")
    rows = {row["PID"]: row for row in rows_of(result.stdout)}
    assert rows[str(os.getpid())]["PARENT"] == str(os.getppid())
    assert rows[str(child.pid)]["KERNEL"] == "no"
    told = json.loads(run("processes", "--json").stdout)
    known = {process.pid: process.name for process in vmatlas.processes()}
    assert next(process["name"] for process in told if process["pid"] == child.pid) == known[child.pid]
    rows = list(csv.DictReader(io.StringIO(run("processes", "--csv").stdout)))
    assert str(child.pid) in {row["pid"] for row in rows}
    mine = next(row for row in rows if row["pid"] == str(os.getpid()))
    assert int(mine["user"]) == os.geteuid()
    entry = next(process for process in told if process["pid"] == os.getpid())
    try:
        assert entry["user_name"] == mine["user_name"] == pwd.getpwuid(entry["user"]).pw_name
    except KeyError:  # it has no name here
        assert entry["user_name"] is None and mine["user_name"] == ""
    assert int(mine["resident"]) > 1 << 20


ROWS = {
    "`maps`, `replay`": ("maps", "PID", "--gaps"),
    "`find`": ("find", "PID", "0"),
    "`find --neighbours`": ("find", "PID", "0", "--neighbours"),
    "`summary`": ("summary", "PID"),
    "`maps`, of several": ("maps", "PID", "self"),
    "`find`, of several": ("find", "PID", "self", "0"),
    "`summary --uses`, with `--all` or of several": ("summary", "--all", "--uses"),
    "`diff --after`, of several": ("diff", "PID", "self", "--after", "0"),
    "`audit --all`, or of several": ("audit", "PID", "self"),
    "`advise`, of several": ("advise", "PID", "self", "--cold", "--dry-run"),
    "`summary --all`, or of several": ("summary", "--all"),
    "`diff`; `watch`, in a line each": ("diff", "PID", "--after", "0"),
    "`audit`": ("audit", "PID"),
    "`advise`": ("advise", "self", "--cold", "--where", "stack"),
    "`doctor`": ("doctor",),
    "`processes`": ("processes",),
    "`working-set`": ("working-set", "PID", "--during", "0", "--force"),
}


@pytest.mark.parametrize("row", ROWS)
def test_json_holds_just_the_keys_that_the_documents_name(run, child, row):
    text = (Path(__file__).parents[3] / "docs" / "cli.md").read_text().partition("## What `--json` holds")[2]
    said = next(line for line in text.splitlines() if line.startswith(f"| {row} |")).removeprefix(f"| {row} |")
    origin = set(re.findall(r"`(\w+)`", text.partition("*Origin* stands for")[2].partition(". ")[0]))
    names = set(re.findall(r"`(\w+)`", said)) | (origin if "*Origin*, " in said else set())
    told = json.loads(run(*(child.pid if word == "PID" else word for word in ROWS[row]), "--json").stdout)
    for each in told if isinstance(told, list) else [told]:
        assert each.keys() <= names, said
    assert told


def test_processes_of_the_kernel_come_last(run, rows_of):
    kernel = [row["KERNEL"] for row in rows_of(run("processes").stdout)]
    assert kernel == sorted(kernel)


def test_what_changed_is_told_at_80_columns(in_terminal, child):
    from vmatlas.cli.render.diff import difference_table
    from vmatlas.cli.render.table import terminal_lines

    before = vmatlas.snapshot(child.pid).where(path="*/plain file")
    space = type(before).of([region._replace(protection=vmatlas.Protection(3)) for region in before], before.origin)
    for timed in (False, True):
        table = difference_table(vmatlas.diff(before, space), exact=False, timed=timed)
        lines = ["".join(cell.text for cell in line) for line in terminal_lines(table, 80)]
        assert any("protection=r--:rw-" in line for line in lines), lines
        assert max(map(len, lines)) <= 80
        assert not any("no room here" in line and "FIELDS" in line for line in lines)
    told, _ = in_terminal(80, "audit", child.pid)
    assert "nameless memory is rwxp" in told
    assert "WHY" not in told


def test_audit_and_diff_call_things_in_json_as_in_their_tables(run, rows_of, child, tmp_path):
    findings = {row["FINDING"] for row in rows_of(run("audit", child.pid).stdout)}
    assert {each["finding"] for each in json.loads(run("audit", child.pid, "--json").stdout)["findings"]} == findings
    run("record", child.pid, "-o", tmp_path / "c.vmatlas")
    child.grow()
    told = json.loads(run("diff", tmp_path / "c.vmatlas", child.pid, "--json").stdout)["changes"]
    shown = rows_of(run("diff", tmp_path / "c.vmatlas", child.pid).stdout)
    assert [change["change"] for change in told] == [row["CHANGE"] for row in shown]


def test_replay_takes_what_was_recorded_and_refuses_what_was_not(run, child, tmp_path):
    bare, rich = tmp_path / "bare.vmatlas", tmp_path / "rich.vmatlas"
    run("record", child.pid, "-o", bare)
    assert run("record", child.pid, "-o", rich, "--residency").exit_code == 0
    assert run("replay", rich, "--residency").stdout == run("replay", rich).stdout
    for option, word in (("--residency", "memory in use"), ("--build-ids", "build ids")):
        refused = run("replay", bare, option)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert word in refused.stderr
    assert run("replay", rich, "--at", "0").exit_code == 1


# what processes call themselves


@pytest.fixture(params=[rb"\[/]", b"\x1b[31m\x07\r\x9b", b"[link=x]a,b\rc"], ids=["markup", "escapes", "rows"])
def evil(request):
    """A process that chose its name, as any user can: the newest, so that it is the last of all."""
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, {request.param!r}, 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        yield request.param.decode("utf-8", "surrogateescape")
        process.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        ["processes"],
        ["processes", "--csv"],
        ["summary", "--all"],
        ["summary", "--all", "--csv"],
        ["audit", "--all"],
        ["metrics", "--all", "--top", "100000"],
    ],
    ids=" ".join,
)
def test_a_process_that_names_itself_does_nothing_to_a_terminal(in_terminal, evil, arguments):
    told, code = in_terminal(200, *arguments)  # which also holds what it writes to UTF-8: a bare byte would be none
    assert code in (0, 1, 7), told[-2000:]
    assert "Traceback" not in told
    assert evil.isprintable() or evil not in told
    assert not set(told) & set("\x07\x9b")
    if arguments == ["processes", "--csv"]:
        assert len(list(csv.reader(io.StringIO(told)))) == len(told.splitlines())


# ---- a capture on standard input ----


def fed(content: bytes, *words: object) -> Result:
    """A command whose standard input is a pipe that gives these bytes."""
    return CliRunner().invoke(program, [str(word) for word in words], input=content)


@pytest.fixture
def packed() -> bytes:
    """What `record -o -` writes."""
    written = io.BytesIO()
    vmatlas.capture().write(written)
    return written.getvalue()


@pytest.mark.parametrize(
    "words", [("replay", "-"), ("summary", "-"), ("audit", "-"), ("diff", "-", "FILE"), ("diff", "FILE", "-")]
)
def test_every_command_that_takes_a_capture_takes_one_on_standard_input(packed, tmp_path, words):
    file = tmp_path / "capture"
    file.write_bytes(packed)
    done = fed(packed, *[file if word == "FILE" else word for word in words])
    said = "vmatlas: warning: not everything can be told here: " if "audit" in words else ""
    assert done.exit_code in (0, 1)
    assert done.stderr[: len(said)] == said and len(done.stderr.splitlines()) == bool(said)
    assert done.stdout == fed(b"", *[file if word in ("FILE", "-") else word for word in words]).stdout


def test_standard_input_that_is_no_capture_is_told_so(packed):
    for content in (b"", b"no capture", packed[: len(packed) // 2]):
        done = fed(content, "replay", "-")
        assert (done.exit_code, done.stdout) == (6, "")
        assert "standard input" in done.stderr and len(done.stderr.splitlines()) <= 2


def test_no_more_is_taken_from_a_stream_than_a_capture_can_have(monkeypatch):
    monkeypatch.setattr(sys.modules["vmatlas.capture"], "LARGEST_FILE", 1000)
    endless = io.BytesIO(b"PK" * 10_000)
    with pytest.raises(vmatlas.MalformedData, match="at most 1,000 bytes"):
        vmatlas.Capture.read(endless)
    assert endless.tell() == 1001


@pytest.mark.parametrize("words", [("PID",), ("PID", "self"), ("FILE",)], ids=" ".join)
def test_an_audit_of_a_map_that_lacks_something_is_no_clean_bill(run, child, tmp_path, monkeypatch, words):
    file = tmp_path / "it.vmatlas"
    vmatlas.capture(child.pid).save(file)
    monkeypatch.setattr("vmatlas.analysis.audit", lambda *_, **__: AuditReport(()))
    asked = [{"PID": child.pid, "FILE": file}.get(word, word) for word in words]
    assert run("audit", *asked).exit_code == 0
    monkeypatch.setattr(vmatlas.AddressSpace, "incomplete", "the kernel tells no name longer than this")
    result = run("audit", *asked)
    assert result.exit_code == 7
    assert "may lack something" in result.stderr


@pytest.mark.parametrize("end", [KeyboardInterrupt, lambda: SystemExit(Exit.TERMINATED)])
def test_an_audit_that_is_interrupted_tells_what_it_has_found(run, child, monkeypatch, end):
    from vmatlas.cli.survey import Survey

    whole = Survey.__iter__

    def some(survey):
        yield from whole(survey)
        raise end()

    monkeypatch.setattr(Survey, "__iter__", some)
    result = run("audit", child.pid, child.process.pid)
    assert result.exit_code in (Exit.INTERRUPTED, Exit.TERMINATED)
    assert "writable-and-executable" in result.stdout
    assert "interrupted: this is what was found in 1 process" in result.stderr


def test_where_all_who_were_chosen_had_ended_there_was_no_such_process(run, child, monkeypatch):
    def ended(self, *_, **__):
        raise vmatlas.NoSuchProcess("it has ended")

    monkeypatch.setattr(vmatlas.Process, "snapshot", ended)
    for command in (("maps",), ("summary", "--uses")):
        result = run(*command, child.pid, os.getpid())
        assert result.exit_code == 3, result.stderr
        assert "0 processes read, 2 not: 2 ended meanwhile" in result.stderr
