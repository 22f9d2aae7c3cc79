-- How a program grows by week, and by the version that runs: what a process of it uses, at the middle and at the most
--
-- A leak is a line that rises from week to week within one version; a heavier version is a step. The version is the build
-- id of the program's own file (record with --build-ids), where it was recorded.
--
-- $program = %: the program's name, as LIKE takes it
WITH versions AS (
  SELECT host, run, pid, start_time, any_value(r.build_id) AS version
  FROM regions AS r JOIN processes AS p USING (host, run, pid, start_time)
  WHERE r.path = p.program AND r.build_id IS NOT NULL
  GROUP BY ALL
)
SELECT p.name AS program, v.version, date_trunc('week', p.day)::DATE AS week, count(DISTINCT p.host) AS hosts,
  count(*) AS processes, median(coalesce(p.proportional, p.resident))::BIGINT AS middle,
  max(coalesce(p.proportional, p.resident)) AS most
FROM processes AS p LEFT JOIN versions AS v USING (host, run, pid, start_time)
WHERE p.name LIKE $program AND coalesce(p.proportional, p.resident) IS NOT NULL
GROUP BY ALL
ORDER BY program, version NULLS FIRST, week
