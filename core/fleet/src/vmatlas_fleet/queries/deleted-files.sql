-- Code that is run from files which have been unlinked or replaced, by host and process
--
-- What has to be started again after an upgrade, as needrestart tells it of one machine. What lies in memory alone
-- (memfd) is left out: the query nameless-code has it.
SELECT r.host, r.pid, any_value(p.name) AS process, any_value(p.unit) AS unit, 
  list(DISTINCT r.path ORDER BY r.path) AS files, any_value(r.day) AS seen
FROM regions_now AS r LEFT JOIN processes_now AS p USING (host, run, pid, start_time)
WHERE r.deleted AND executable(r.protection) AND r.kind = 'file'
GROUP BY r.host, r.pid, r.start_time
ORDER BY r.host, r.pid
