-- Memory that may be written and executed, by program across the fleet
--
-- What an exploit needs, and what a just-in-time compiler makes: a program that has it on some hosts alone is worth a look.
SELECT coalesce(file_name(p.program), p.name) AS program, count(DISTINCT r.host) AS hosts,
  count(DISTINCT (r.host, r.pid)) AS processes, count(*) AS regions, sum(r.size)::BIGINT AS bytes,
  min(r.host) AS for_example
FROM regions_now AS r LEFT JOIN processes_now AS p USING (host, run, pid, start_time)
WHERE writable(r.protection) AND executable(r.protection)
GROUP BY ALL
ORDER BY hosts, bytes DESC, program
