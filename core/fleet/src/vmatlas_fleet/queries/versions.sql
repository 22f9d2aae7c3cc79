-- Which builds of a library are in memory, and on how many hosts each
--
-- Drift: a build that one host alone runs was not upgraded, or was never meant to be there. By build id where it was
-- recorded (--build-ids), else by path and inode.
--
-- $library = libc: its name without the version
SELECT version(path) AS version, build_id, path, CASE WHEN build_id IS NULL THEN inode END AS inode, bool_or(deleted) AS deleted,
  count(DISTINCT host) AS hosts, count(DISTINCT (host, pid)) AS processes, min(host) AS for_example
FROM regions_now
WHERE library(path) = $library
GROUP BY ALL
ORDER BY hosts DESC, processes DESC, path, build_id
