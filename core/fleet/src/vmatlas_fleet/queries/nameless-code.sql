-- Code that no file on a disk vouches for: executable memory without a file, or of a file in memory alone
--
-- What injected code looks like, beside just-in-time compilers. 'vmatlas audit' tells more of one process.
SELECT r.host, r.pid, any_value(p.name) AS process, coalesce(r.path, r.name, '') AS thing, count(*) AS regions,
  sum(r.size)::BIGINT AS bytes, address(min(r.start)) AS first, any_value(r.day) AS seen
FROM regions_now AS r LEFT JOIN processes_now AS p USING (host, run, pid, start_time)
WHERE executable(r.protection) AND r.kind NOT IN ('file', 'vdso', 'vvar', 'vsyscall', 'other')
GROUP BY r.host, r.pid, r.start_time, thing
ORDER BY bytes DESC, r.host, r.pid
