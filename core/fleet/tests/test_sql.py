"""A data set asked by SQL: the tables as they are documented, the functions, and the queries that ship."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install duckdb")

import pyarrow as pa
import pyarrow.parquet as pq

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import MalformedData, UsageError, VmatlasError
from vmatlas_fleet import queries, sql
from vmatlas_fleet.schema import TABLES
from vmatlas_fleet.sql import FUNCTIONS, VIEWS, ask, opened

from .made import NEW, OLD, make

Rows = list[dict[str, object]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "atlas"
    make(folder)
    return folder


def asked(data: Path | str, name: str, **given: str) -> Rows:
    """What a query that ships gives."""
    found = queries.query(name)
    with opened(str(data)) as connection:
        result = ask(connection, found.sql, found.values(given))
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def test_ten_queries_ship_each_with_a_purpose_and_a_test():
    assert len(queries.names()) == 10
    tested = Path(__file__).read_text()
    for name in queries.names():
        found = queries.query(name)
        assert len(found.purpose) > 50 and found.title and not found.title.endswith(".")
        assert f'"{name}"' in tested
        assert all(f"${each.name}" in found.sql for each in found.parameters)


def test_the_queries_stand_in_the_document():
    text = (Path(__file__).parents[3] / "docs" / "fleet.md").read_text()
    for name in queries.names():
        assert f"| `{name}` | {queries.query(name).title} |" in text


def test_old_libraries_are_those_below_a_version_and_those_that_were_deleted(data):
    found = asked(data, "old-libraries")
    told = [(row["host"], row["pid"], row["version"], row["deleted"], str(row["seen"])) for row in found]
    assert told == [("web-2", 20, "1.1", True, "2026-11-30"), ("web-3", 30, "1.1", False, "2026-11-23")]
    assert found[0]["unit"] == "nginx.service"
    newer = asked(data, "old-libraries", before="3.0.8", library="libcrypto")
    assert [(row["host"], row["pid"]) for row in newer] == [("web-1", 10), ("web-2", 20), ("web-2", 21), ("web-3", 30)]
    assert asked(data, "old-libraries", before="3.0.7", library="libcrypto") == []


def test_deleted_files_that_are_run_are_told_by_process(data):
    (row,) = asked(data, "deleted-files")
    assert (row["host"], row["pid"], row["files"]) == ("web-2", 20, ["/usr/lib/libssl.so.1.1"])


def test_writable_code_and_nameless_code_are_those_of_one_program(data):
    (row,) = asked(data, "writable-code")
    assert (row["program"], row["hosts"], row["bytes"], row["for_example"]) == ("nginx", 1, 0x10000, "web-2")
    (row,) = asked(data, "nameless-code")
    assert (row["host"], row["pid"], row["first"]) == ("web-2", 21, "0x7f0003000000")


def test_growth_is_told_by_week_and_by_version(data):
    found = asked(data, "growth", program="nginx")
    told = [(row["version"], str(row["week"]), row["processes"], row["most"]) for row in found]
    assert told == [
        (OLD.hex(), "2026-11-16", 3, 10_000_000),
        (OLD.hex(), "2026-11-23", 3, 20_000_000),
        (OLD.hex(), "2026-11-30", 1, 30_000_000),
        (NEW.hex(), "2026-11-30", 1, 5_000_000),
    ]
    assert found[0]["middle"] == 5_000_000


def test_memory_is_told_by_service_and_by_build_id(data):
    found = {row["service"]: row for row in asked(data, "memory-by-service")}
    assert (found["nginx.service"]["bytes"], found["nginx.service"]["hosts"]) == (39_000_000, 3)
    assert found["redis.service"]["bytes"] == 3_000_000 and found["redis.service"]["exact"] is True
    builds = {row["build_id"]: row for row in asked(data, "memory-by-build-id")}
    assert (builds[NEW.hex()]["processes"], builds[OLD.hex()]["processes"]) == (2, 2)
    assert builds[NEW.hex()]["resident"] == 0x2000


def test_versions_of_a_library_are_counted_by_host(data):
    found = {row["version"]: (row["hosts"], row["deleted"]) for row in asked(data, "versions", library="libssl")}
    assert found == {"3": (2, False), "1.1": (2, True)}


def test_silent_hosts_are_told_with_why_and_since_when(data):
    (row,) = asked(data, "silent-hosts")
    assert (row["host"], row["reason"]) == ("web-3", "no connection: Connection refused")
    assert row["last_answered"] is not None


def test_findings_are_told_by_rule_from_a_severity_on(data):
    (row,) = asked(data, "findings", severity="medium")
    assert (row["rule"], row["hosts"], row["for_example"]) == ("writable-and-executable", 1, "web-2")


@pytest.mark.parametrize(
    ("call", "gives"),
    [
        ("address(139638282147448)", "0x7f0012345678"),
        ("address(18446744073709551615::UBIGINT)", "0xffffffffffffffff"),
        ("address_of('0xFFFFFFFFFF600000')", 0xFFFFFFFFFF600000),
        ("address_of('7f0012345678')", 0x7F0012345678),
        ("size_text(0)", "0"),
        ("size_text(1023)", "1023"),
        ("size_text(1024)", "1.0K"),
        ("size_text(1048576)", "1.0M"),
        ("size_text(-1536)", "-1.5K"),
        ("size_text(NULL)", None),
        ("bytes('1.5M')", 1572864),
        ("bytes('4096')", 4096),
        ("bytes('2g')", 2 << 30),
        ("readable('r-x') AND executable('r-x') AND NOT writable('r-x')", True),
        ("file_name('/a/b')", "b"),
        ("library('/usr/lib/libssl.so.1.1')", "libssl"),
        ("library('/usr/lib/libc-2.31.so')", "libc"),
        ("library('/usr/lib/libstdc++.so.6.0.30')", "libstdc++"),
        ("version('/usr/lib/libstdc++.so.6.0.30')", "6.0.30"),
        ("version('/usr/lib/libc-2.31.so')", "2.31"),
        ("version('/usr/bin/x')", None),
        ("version_order('1.10') > version_order('1.9')", True),
        ("version_order('3') < version_order('3.0.1')", True),
    ],
)
def test_functions_are_for_addresses_sizes_and_versions(data, call, gives):
    with opened(str(data)) as connection:
        assert ask(connection, f"SELECT {call}").rows == [(gives,)]


def test_every_function_and_view_that_is_listed_is_there(data, run):
    result = run("sql", "--tables")
    for name in (*FUNCTIONS, *VIEWS, *(table.name for table in TABLES)):
        assert name in result.stdout or not FUNCTIONS[name][0]
    with opened(str(data)) as connection:
        for view in VIEWS:
            assert ask(connection, f"SELECT count(*) FROM {view}").rows[0][0] > 0 or view == "pages_now"


def test_a_file_of_an_older_schema_lacks_columns_and_one_of_a_newer_has_more(data, tmp_path):
    """So they are read together: what is lacking is null, what is new is there."""
    both = tmp_path / "both"
    shutil.copytree(data, both)
    (older,) = both.glob("processes/day=2026-11-16/host=web-1/*.parquet")
    pq.write_table(pq.read_table(older).drop_columns(["unit", "container", "proportional"]), older)
    (newer,) = both.glob("processes/day=2026-11-30/host=web-1/*.parquet")
    table = pq.read_table(newer)
    pq.write_table(table.append_column("mood", [["good"] * table.num_rows]), newer)
    with opened(str(both)) as connection:
        rows = ask(connection, "SELECT day, unit, mood FROM processes WHERE host = 'web-1' ORDER BY day").rows
    assert [row[1:] for row in rows] == [(None, None), ("nginx.service", None), ("nginx.service", "good")]
    for file in both.glob("processes/*/*/*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.select([name for name in table.column_names if name != "unit"]), file)
    assert {row["service"] for row in asked(both, "memory-by-service")} == {"nginx", "redis"}


def test_hosts_that_are_called_by_numbers_keep_their_names(tmp_path, run, child):
    result = run("fleet", "record", "-", "--to", tmp_path / "n", "--select", child, input="007 local\n1/2 local\n")
    assert result.exit_code == 0, result.stderr
    result = run("sql", "select host, count(*) > 0 as told from regions_now group by all order by 1", "--data",
                 tmp_path / "n", "--json")  # fmt: skip
    assert json.loads(result.stdout) == [{"host": "007", "told": True}, {"host": "1/2", "told": True}]


def test_a_data_set_without_rows_and_one_with_signs_in_its_name_can_be_asked(tmp_path, run):
    odd = tmp_path / "it's [odd]*?"
    result = run("fleet", "record", "-", "--to", odd, "--retries", 0, input="x tcp:127.0.0.1:1\n")
    assert result.exit_code == 8
    result = run("sql", "--query", "silent-hosts", "--data", odd, "--json")
    assert [row["host"] for row in json.loads(result.stdout)] == ["x"]
    assert run("sql", "select * from regions", "--data", odd).exit_code == 0


def test_a_data_set_is_asked_where_fsspec_reaches_it(run, child):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install fsspec")
    result = run("fleet", "record", "-", "--to", "memory://sql-atlas", "--select", child, input="local\n")
    assert result.exit_code == 0, result.stderr
    result = run("sql", "select count(*) > 0 as told from regions", "--data", "memory://sql-atlas", "--json")
    assert json.loads(result.stdout) == [{"told": True}], result.stderr
    fsspec.filesystem("memory").rm("/sql-atlas", recursive=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["selec 1"], "syntax error"),
        (["select nothing from regions"], "nothing"),
        ([], "give SQL or --query"),
        (["select 1", "--query", "findings"], "give SQL or --query"),
        (["--query", "x"], "there is no query 'x'"),
        (["--query", "findings", "--set", "x=1"], "no parameter 'x'"),
        (["--query", "findings", "--set", "x"], "no NAME=VALUE"),
        (["select 1", "--set", "x=1"], "--set goes with --query"),
        (["select 1", "--json", "--csv"], "exclude each other"),
    ],
)
def test_what_is_wrong_with_a_question_is_told_in_a_line(run, data, arguments, words):
    result = run("sql", *arguments, "--data", data)
    assert result.exit_code == 2 and words in result.stderr
    assert len(result.stderr.splitlines()) <= 2


def test_what_is_no_data_set_is_told(run, tmp_path):
    result = run("sql", "select 1", "--data", tmp_path)
    assert result.exit_code == 2 and "no data set" in result.stderr
    assert run("sql", "select 1").exit_code == 2
    with pytest.raises(UsageError, match="there is no query"):
        queries.query("../x")


def test_answers_are_tables_json_and_csv(run, data):
    question = (
        'select host, pid, labels, "groups" from processes_now join hosts_now using (host, run) order by pid limit 1'
    )
    assert run("sql", question, "--data", data).stdout.splitlines()[1].split() == ["web-1", "10", "site=graz", "web"]
    (row,) = json.loads(run("sql", question, "--data", data, "--json").stdout)
    assert row == {"host": "web-1", "pid": 10, "labels": {"site": "graz"}, "groups": ["web"]}
    assert run("sql", "select 1 as a, null as b", "--data", data, "--csv").stdout == "a,b\n1,\n"
    listed = run("sql", "--queries").stdout
    assert all(name in listed for name in queries.names())
    assert "$library" in run("sql", "--queries", "--query", "versions").stdout


# ---- data sets of somebody else ----


def test_the_name_of_a_column_is_a_name_whatever_stands_in_it(tmp_path):
    make(tmp_path / "atlas")
    file = next((tmp_path / "atlas" / "regions").glob("day=*/host=*/*.parquet"))
    table = pq.ParquetFile(file).read()
    made = tmp_path / "made"
    name = f"x\" FROM (SELECT 1); COPY (SELECT 1) TO '{made}'; CREATE VIEW zzz AS SELECT 1 AS \"y"
    pq.write_table(table.append_column(name, table.column("start")), file)
    with opened(str(tmp_path / "atlas")) as connection:
        assert name in ask(connection, "SELECT * FROM regions LIMIT 1").columns
        with pytest.raises(UsageError):
            ask(connection, "SELECT * FROM zzz")
    assert not made.exists()


@pytest.mark.parametrize("place", ["vmatlas-fleet.json", "regions/day=2026-11-30/host=web-1/a.parquet"])
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, place, kind):
    make(tmp_path / "atlas")
    path = tmp_path / "atlas" / place
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path) if kind == "a pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(MalformedData, match="a regular file"), opened(str(tmp_path / "atlas")):
        pass


def hosts_of(folder: Path, table: pa.Table, **options: object) -> Path:
    """A data set with one file more, of a host of somebody else."""
    make(folder)
    file = folder / "hosts" / "day=2026-12-01" / "host=web-9" / "20261201T080000Z-000009.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(table, file, compression="zstd", **options)
    return file


def many(rows: int, text: str = "answered") -> pa.Table:
    index = pa.array([0] * rows, pa.int32())
    told = {"run": "20261201T080000Z-000009", "name": "a", "status": "answered", "what": "maps", "reason": text}
    return pa.table({name: pa.array([value]).take(index) for name, value in told.items()})


def test_an_answer_is_written_as_it_comes_and_is_held_as_a_whole_up_to_a_limit(tmp_path, run, monkeypatch):
    file = hosts_of(tmp_path / "atlas", many(30_000))
    assert file.stat().st_size < 1 << 16
    monkeypatch.setattr(sql, "MOST_OF_ANSWER", 1 << 20)
    arguments = ("sql", "select name, reason from hosts_now where host = 'web-9'", "--data", tmp_path / "atlas")
    for form in ((), ("--json",), ("--csv", "--reverse")):
        told = run(*arguments, *form)
        assert told.exit_code == 2 and "takes more than 1 MiB" in told.stderr and "--csv" in told.stderr
        assert not told.stdout
    told = run(*arguments, "--csv")
    assert told.exit_code == 0 and told.stdout == "name,reason\n" + "a,answered\n" * 30_000
    assert run(*arguments, "--csv", "--limit", 70, "--columns", "reason").stdout == "reason\n" + "answered\n" * 70
    assert run(*arguments[:-3], "select 1 as a where false", *arguments[-2:], "--csv").stdout == "a\n"


_HELD = """
import resource, sys
from pathlib import Path
from vmatlas_fleet.sql import ask_by_rows, opened
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with opened(sys.argv[1]) as connection:
    before = most()
    columns, rows = ask_by_rows(connection, "SELECT * FROM hosts WHERE host = 'web-9'")
    print(sum(1 for _ in rows), most() - before)
"""


def test_rows_cost_no_memory_once_they_are_written(tmp_path):
    hosts_of(tmp_path / "atlas", many(1_000_000))
    told = subprocess.run(
        [sys.executable, "-c", _HELD, tmp_path / "atlas"], capture_output=True, text=True, timeout=PATIENCE
    )
    rows, more = map(int, told.stdout.split())
    assert rows == 1_000_000 and more < 300 << 10, told.stderr  # KiB; held as a whole they take more than 1 GiB


def test_the_engine_has_a_limit_of_memory_and_a_folder_of_its_own_for_what_goes_beyond(data):
    with opened(str(data)) as connection:
        named = ("memory_limit", "temp_directory", "max_temp_directory_size", "threads")
        settings = ", ".join(f"current_setting('{name}')" for name in named)
        ((memory, spilled, most, threads),) = ask(connection, f"SELECT {settings}").rows
        assert (memory, most) == ("2.0 GiB", "16.0 GiB") and 1 <= threads <= sql.MOST_THREADS
        assert Path(spilled).stat().st_mode & 0o777 == 0o700
        ask(connection, "SET memory_limit = '20MiB'")
        with pytest.raises(VmatlasError, match="Out of Memory") as told:
            ask(connection, "SELECT length(string_agg(repeat('x', 1000), '')) FROM range(100000)")
        assert told.value.hint is not None and "SET memory_limit" in told.value.hint
    assert not Path(spilled).exists()


@pytest.mark.parametrize("kind", ["no end", "nothing", "a torn page", "a list", "a number", "a text for a number"])
def test_a_file_of_a_data_set_that_is_none_is_named(tmp_path, run, kind):
    file = hosts_of(tmp_path / "atlas", many(1000))
    question = "select host, status, what from hosts where host = 'web-9'"
    if kind == "no end":
        file.write_bytes(file.read_bytes()[:-20])
    elif kind == "nothing":
        file.write_bytes(b"")
    elif kind == "a torn page":
        content = bytearray(file.read_bytes())
        place = pq.ParquetFile(file).metadata.row_group(0).column(2)
        start = place.dictionary_page_offset or place.data_page_offset
        content[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
        file.write_bytes(content)
    elif kind == "a list":
        pq.write_table(pa.table({"run": ["x"], "status": [["answered"]], "what": [["maps"]]}), file)
    elif kind == "a number":
        pq.write_table(pa.table({"run": ["x"], "status": ["answered"], "what": [1.5]}), file)
    else:
        file.unlink()
        file = tmp_path / "atlas" / "processes" / "day=2026-11-30" / "host=web-1" / "20261130T080000Z-000009.parquet"
        pq.write_table(pa.table({"run": ["x"], "pid": ["x"], "proportional": [["x"]]}), file)
        question = "select sum(proportional) + sum(pid) from processes"
    told = run("sql", question, "--data", tmp_path / "atlas")
    if kind == "a number":  # it has a text, too
        assert told.exit_code == 0
        return
    assert told.exit_code == 6 and file.name in told.stderr, told.stderr


def test_nothing_is_odd_in_what_this_program_writes(data):
    with opened(str(data)) as connection:
        for table in TABLES:
            source, _ = sql._source(connection, table, str(data))
            types = {each.name: sql._TYPES[each.type] for each in table.columns}
            assert not source or sql._odd(connection, source, types) is None


def test_a_question_that_lasts_for_ever_is_ended_by_ctrl_c(data):
    endless = "select count(*) from range(100000) a, range(1000000000000) b where a.range * b.range % 7 = 3"
    program = (
        "import sys, signal, threading, os; from vmatlas_fleet import sql; from vmatlas.cli import main\n"
        "asked = sql.ask\n"
        "def ask(*given):\n"
        "    threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    return asked(*given)\n"
        "sql.ask = ask\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "sql", endless, "--data", data]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert told.returncode == 130 and "Traceback" not in told.stderr, told.stderr
    assert not told.stdout
