-- What each build of each file takes in memory, over the fleet
--
-- Which build is worth the work of making it smaller, and how many builds of one library are there at once. Record with
-- --what maps,memory --build-ids.
SELECT build_id, min(path) AS path, count(DISTINCT host) AS hosts, count(DISTINCT (host, pid)) AS processes,
  sum(size)::BIGINT AS mapped, sum(resident)::BIGINT AS resident, sum(proportional)::BIGINT AS proportional
FROM regions_now
WHERE build_id IS NOT NULL
GROUP BY build_id
ORDER BY proportional DESC NULLS LAST, mapped DESC, build_id
