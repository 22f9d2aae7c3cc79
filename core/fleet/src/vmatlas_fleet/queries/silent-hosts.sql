-- Hosts that did not answer when they were last asked: why, and since when
--
-- What the answers of all other queries do not tell of.
SELECT h.host, h.status, h.error, h.reason, h.attempts, h.began AS asked,
  (SELECT max(began) FROM hosts AS before WHERE before.host = h.host AND before.status = 'answered') AS last_answered
FROM hosts_now AS h
WHERE h.status <> 'answered'
ORDER BY last_answered NULLS FIRST, h.host
