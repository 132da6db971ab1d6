-- Clients by number: a narrower key than their ids for all that tells them apart. A number over all of them would be one
-- worker's work; these are within one of a hundred parts. They are ordered, because a query may be evaluated twice.
-- Movers, clients with more than one system or perhaps ping type, have negative numbers.
SELECT
  client_id,
  IF(moves, -1, 1) * (200 * ROW_NUMBER() OVER (PARTITION BY part ORDER BY client_id) + part) AS client
FROM (
  SELECT
    client_id,
    ARRAY_LENGTH(@any_ping) > 1 OR MIN(sent_os) < MAX(sent_os) AS moves,
    COALESCE(MOD(MIN(sample_id), 100), 0) AS part
  FROM
    received
  GROUP BY
    client_id
)
