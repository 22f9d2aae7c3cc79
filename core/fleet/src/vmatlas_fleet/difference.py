"""Two days of a data set, held to each other: hosts, programs, libraries, memory, findings. The engine does it.

Of each host it is the newest recording of each of the two days that counts.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from vmatlas.errors import UsageError
from vmatlas_fleet.sql import Result, ask, opened

if TYPE_CHECKING:
    import duckdb


class Part(NamedTuple):
    """One question, and what differs."""

    name: str
    title: str
    result: Result


_HOSTS = """
SELECT coalesce(a.host, b.host) AS host, coalesce(a.status, 'not asked') AS before, coalesce(b.status, 'not asked') AS
  after, b.reason
FROM before_hosts AS a FULL JOIN after_hosts AS b USING (host)
WHERE a.status IS DISTINCT FROM b.status
ORDER BY host
"""

_PROGRAMS = """
WITH a AS (SELECT host, name, count(*) AS n FROM before_processes WHERE status = 'answered' GROUP BY ALL),
  b AS (SELECT host, name, count(*) AS n FROM after_processes WHERE status = 'answered' GROUP BY ALL)
SELECT coalesce(a.name, b.name) AS program, count(*) AS hosts, coalesce(sum(a.n), 0)::BIGINT AS before,
  coalesce(sum(b.n), 0)::BIGINT AS after, min(coalesce(a.host, b.host)) AS for_example
FROM a FULL JOIN b ON a.host = b.host AND a.name IS NOT DISTINCT FROM b.name
WHERE coalesce(a.host, b.host) IN (SELECT host FROM both_hosts) AND (a.n IS NULL OR b.n IS NULL)
GROUP BY ALL
ORDER BY program NULLS FIRST
"""

_FILES = """
WITH a AS (SELECT DISTINCT host, path, build_id, deleted FROM before_regions WHERE executable(protection)
    AND path IS NOT NULL),
  b AS (SELECT DISTINCT host, path, build_id, deleted FROM after_regions WHERE executable(protection)
    AND path IS NOT NULL)
SELECT coalesce(a.path, b.path) AS path, CASE WHEN a.path IS NULL THEN 'new' ELSE 'gone' END AS what,
  coalesce(a.build_id, b.build_id) AS build_id, coalesce(a.deleted, b.deleted) AS deleted, count(*) AS hosts,
  min(coalesce(a.host, b.host)) AS for_example
FROM a FULL JOIN b ON a.host = b.host AND a.path = b.path AND a.build_id IS NOT DISTINCT FROM b.build_id
  AND a.deleted IS NOT DISTINCT FROM b.deleted
WHERE coalesce(a.host, b.host) IN (SELECT host FROM both_mapped) AND (a.path IS NULL OR b.path IS NULL)
GROUP BY ALL
ORDER BY path, what DESC, build_id
"""

_MEMORY = """
WITH a AS (SELECT host, name, sum(coalesce(proportional, resident))::BIGINT AS n FROM before_processes GROUP BY ALL),
  b AS (SELECT host, name, sum(coalesce(proportional, resident))::BIGINT AS n FROM after_processes GROUP BY ALL)
SELECT name AS program, count(*) AS hosts, sum(a.n)::BIGINT AS before, sum(b.n)::BIGINT AS after,
  sum(b.n - a.n)::BIGINT AS growth, arg_max(host, abs(b.n - a.n)) AS most_on
FROM a JOIN b USING (host, name)
WHERE a.n IS NOT NULL AND b.n IS NOT NULL
GROUP BY name
HAVING abs(sum(b.n - a.n)) >= $least::BIGINT
ORDER BY abs(growth) DESC, program
"""

_FINDINGS = """
WITH a AS (SELECT DISTINCT host, rule, severity, coalesce(thing, process, '') AS thing FROM before_findings
    WHERE verdict = 'found'),
  b AS (SELECT DISTINCT host, rule, severity, coalesce(thing, process, '') AS thing FROM after_findings
    WHERE verdict = 'found')
SELECT coalesce(a.severity, b.severity) AS severity, coalesce(a.rule, b.rule) AS rule, coalesce(a.thing, b.thing) AS
  thing, CASE WHEN a.rule IS NULL THEN 'new' ELSE 'gone' END AS what, count(*) AS hosts,
  min(coalesce(a.host, b.host)) AS for_example
FROM a FULL JOIN b USING (host, rule, severity, thing)
WHERE coalesce(a.host, b.host) IN (SELECT host FROM both_audited) AND (a.rule IS NULL OR b.rule IS NULL)
GROUP BY ALL
ORDER BY what DESC, rule, thing
"""

_PARTS = (
    ("hosts", "hosts that answer otherwise", _HOSTS),
    ("programs", "programs that run anew, or no more", _PROGRAMS),
    ("files", "files that are run anew, or no more", _FILES),
    ("memory", "programs that use more, or less", _MEMORY),
    ("findings", "findings that are new, or gone", _FINDINGS),
)

LEAST = 1 << 20
"""Bytes by which a program must have changed over the fleet to be told of."""


def day_of(text: str) -> date:
    """A day as it is written. Raises UsageError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is no day", hint="as 2026-11-30") from None


def difference(location: str, before: date, after: date, *, least: int = LEAST) -> list[Part]:
    """What differs between two days, part by part; a part in which nothing does has no rows.

    Hosts that answered on one of the two days alone are told in the part `hosts` and in no other: what was not seen is
    neither new nor gone. Raises UsageError (a day with no recording, too), OSError, Unsupported.
    """
    with opened(location) as connection:
        for name, day in (("before", before), ("after", after)):
            _choose(connection, name, day)
        _both(connection)
        return [
            Part(name, title, ask(connection, query, {"least": least} if "$least" in query else None))
            for name, title, query in _PARTS
        ]


def _choose(connection: duckdb.DuckDBPyConnection, name: str, day: date) -> None:
    """What was recorded on a day, by the names `NAME_TABLE`."""
    told = f"'{day.isoformat()}'::DATE"
    if not ask(connection, f"SELECT 1 FROM hosts WHERE day = {told} LIMIT 1").rows:
        days = ask(connection, "SELECT DISTINCT day FROM hosts ORDER BY day DESC LIMIT 5").rows
        there = ", ".join(str(row[0]) for row in days) or "none"
        raise UsageError(f"nothing was recorded on {day}", hint=f"the days of this data set, the newest first: {there}")
    ask(
        connection,
        f"CREATE TABLE {name}_newest AS SELECT host, word, max(run) AS run FROM (SELECT host, run, "
        f"unnest(string_split(what, ',')) AS word FROM hosts WHERE day = {told} AND status <> 'failed') GROUP BY ALL",
    )
    ask(
        connection,
        f"CREATE VIEW {name}_hosts AS SELECT * FROM hosts WHERE day = {told} AND (host, run) IN "
        f"(SELECT host, max(run) FROM hosts WHERE day = {told} GROUP BY host)",
    )
    ask(
        connection,
        f"CREATE VIEW {name}_processes AS SELECT * FROM processes WHERE day = {told} AND (host, run) IN "
        f"(SELECT host, max(run) FROM {name}_newest GROUP BY host)",
    )
    for table, word in (("regions", "maps"), ("findings", "audit")):
        ask(
            connection,
            f"CREATE VIEW {name}_{table} AS SELECT * FROM {table} WHERE day = {told} AND (host, run) IN "
            f"(SELECT host, run FROM {name}_newest WHERE word = '{word}')",
        )


def _both(connection: duckdb.DuckDBPyConnection) -> None:
    """Hosts that answered on both days, and what they were asked on both."""
    ask(connection, "CREATE VIEW both_hosts AS SELECT host FROM before_newest INTERSECT SELECT host FROM after_newest")
    for name, word in (("both_mapped", "maps"), ("both_audited", "audit")):
        ask(
            connection,
            f"CREATE VIEW {name} AS SELECT host FROM before_newest WHERE word = '{word}' "
            f"INTERSECT SELECT host FROM after_newest WHERE word = '{word}'",
        )
