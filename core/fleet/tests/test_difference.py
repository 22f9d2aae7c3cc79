"""What changed over a fleet between two days."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install duckdb")

from vmatlas.errors import UsageError
from vmatlas_fleet.difference import difference

from .made import NEW, OLD, make

FIRST, MIDDLE, LAST = date(2026, 11, 16), date(2026, 11, 23), date(2026, 11, 30)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "atlas"
    make(folder)
    return folder


def parts(data: Path, before: date, after: date, **how: int) -> dict[str, list[dict[str, object]]]:
    return {
        part.name: [dict(zip(part.result.columns, row, strict=True)) for row in part.result.rows]
        for part in difference(str(data), before, after, **how)
    }


def test_what_changed_is_told_by_host_program_file_memory_and_finding(data):
    told = parts(data, MIDDLE, LAST)
    assert told["hosts"] == [
        {"host": "web-3", "before": "answered", "after": "failed", "reason": "no connection: Connection refused"}
    ]
    assert told["programs"] == []
    files = {(row["path"], row["what"], row["build_id"], row["deleted"]): row["hosts"] for row in told["files"]}
    assert files == {
        ("/usr/sbin/nginx", "new", NEW.hex(), False): 1,
        ("/usr/sbin/nginx", "gone", OLD.hex(), False): 1,
        ("/usr/lib/libssl.so.3", "new", None, False): 1,
        ("/usr/lib/libssl.so.1.1", "gone", None, False): 2,
        ("/usr/lib/libssl.so.1.1", "new", None, True): 1,
    }
    assert told["findings"] == []


def test_a_host_that_answered_on_one_day_alone_is_in_no_other_part(data):
    told = parts(data, MIDDLE, LAST)
    assert all(row.get("for_example") != "web-3" for part in told.values() for row in part)
    assert parts(data, LAST, MIDDLE)["hosts"][0]["after"] == "answered"


def test_memory_that_changed_by_less_is_not_told(data):
    (row,) = parts(data, FIRST, MIDDLE)["memory"]
    assert (row["program"], row["growth"], row["most_on"]) == ("nginx", 10_000_000, "web-2")
    assert parts(data, FIRST, MIDDLE, least=10_000_001)["memory"] == []


def test_nothing_differs_from_the_day_itself(data, run):
    assert not any(parts(data, LAST, LAST).values())
    assert run("fleet", "diff", data, "--between", "2026-11-30", "2026-11-30").exit_code == 0


def test_the_command_shows_tables_and_json(data, run):
    result = run("fleet", "diff", data, "--between", "2026-11-23", "2026-11-30")
    assert result.exit_code == 1 and "web-3" in result.stdout
    result = run("fleet", "diff", data, "--between", "2026-11-23", "2026-11-30", "--json")
    assert set(json.loads(result.stdout)) == {"hosts", "programs", "files", "memory", "findings"}


@pytest.mark.parametrize(
    ("days", "words"),
    [(("2026-11-31", "2026-11-30"), "no day"), (("2026-11-29", "2026-11-30"), "nothing was recorded on 2026-11-29")],
)
def test_a_day_that_is_none_or_has_nothing_is_told(data, run, days, words):
    result = run("fleet", "diff", data, "--between", *days)
    assert result.exit_code == 2 and words in result.stderr
    with pytest.raises(UsageError):
        difference(str(data), date(2020, 1, 1), LAST)
