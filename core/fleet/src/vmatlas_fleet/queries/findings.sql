-- What vmatlas audit found over the fleet, by rule and thing, the weightiest and the rarest first
--
-- A finding that all hosts share is how a program is; one that a single host has is worth a look. Record with --what audit.
--
-- $severity = low: from this one on: note, low, medium, high
SELECT severity, rule, coalesce(thing, process, '') AS thing, count(DISTINCT host) AS hosts,
  count(DISTINCT (host, pid)) AS processes, min(host) AS for_example, min(explanation) AS explanation
FROM findings_now
WHERE verdict = 'found'
  AND list_position(['note', 'low', 'medium', 'high'], severity) >= list_position(['note', 'low', 'medium', 'high'], $severity)
GROUP BY severity, rule, coalesce(thing, process, '')
ORDER BY list_position(['note', 'low', 'medium', 'high'], severity) DESC, hosts, rule, thing
