-- Processes that run an old version of a library, wherever in memory it is mapped
--
-- After a library was upgraded: a process goes on with the file that it has mapped until it is started again. The version
-- is that of the file's name; a file that has been unlinked or replaced is old whatever it is called.
--
-- $library = libssl: its name without the version
-- $before = 3: versions below this one are old
SELECT DISTINCT r.host, r.pid, p.name AS process, p.unit, r.path, version(r.path) AS version, r.deleted, r.build_id,
  r.day AS seen
FROM regions_now AS r LEFT JOIN processes_now AS p USING (host, run, pid, start_time)
WHERE r.path LIKE '%/' || $library || '%' AND library(r.path) = $library
  AND (r.deleted OR version_order(version(r.path)) < version_order($before))
ORDER BY r.host, r.pid, r.path
