-- What each service uses, added up over the fleet
--
-- By PSS, which adds up; where a host does not tell it, resident, and then shared pages count more than once ('exact' says
-- whether any did). A service is a unit of systemd, else a container, else the name of the process (record with --services).
SELECT coalesce(unit, container, name) AS service, count(DISTINCT host) AS hosts, count(*) AS processes,
  sum(coalesce(proportional, resident))::BIGINT AS bytes, size_text(sum(coalesce(proportional, resident))::BIGINT) AS size,
  sum(private)::BIGINT AS private, sum(swapped)::BIGINT AS swapped, bool_and(proportional IS NOT NULL) AS exact
FROM memory_now
WHERE status = 'answered' AND coalesce(proportional, resident) IS NOT NULL
GROUP BY ALL
ORDER BY bytes DESC, service
