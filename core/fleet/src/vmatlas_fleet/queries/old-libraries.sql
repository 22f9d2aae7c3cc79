-- Processes that run an old version of a library, wherever in memory it is mapped
--
-- After a library was upgraded: a process goes on with the file that it has mapped until it is started again. The version
-- is that of the file's name; a file that has been unlinked or replaced is old whatever it is called.
--
-- $library = libssl: its name without the version
-- $before = 3: versions below this one are old
WITH mapped AS MATERIALIZED (
  SELECT DISTINCT host, run, pid, start_time, path, deleted, build_id, day
  FROM regions_now
  WHERE path LIKE '%/' || $library || '%' AND library(path) = $library
), old AS MATERIALIZED (  -- asked of each path once
  SELECT path, version(path) AS version, version_order(version(path)) < version_order($before) AS is_old
  FROM (SELECT DISTINCT path FROM mapped)
)
SELECT m.host, m.pid, p.name AS process, p.unit, m.path, o.version, m.deleted, m.build_id, m.day AS seen
FROM mapped AS m JOIN old AS o USING (path) LEFT JOIN processes_now AS p USING (host, run, pid, start_time)
WHERE m.deleted OR o.is_old
ORDER BY m.host, m.pid, m.path
