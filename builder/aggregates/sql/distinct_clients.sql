-- The distinct clients of each cell. `in_buckets` has the clients in each unit, label and bucket, with the aggregates that
-- have them there as the bits of `kinds`; `by_unit` counts those that are settled, with the samples of all. Settled
-- clients have one system and one ping type: their counts add up while systems and ping types are rolled up. Of movers,
-- those that were seen in the same places are counted together, and count once in each combination of any of these.
{{combinations}}
in_any_build AS (  -- each client once, whatever its builds
  SELECT
    client, place, version, label, bucket,
    BIT_OR(kinds) AS kinds
  FROM
    in_buckets
  GROUP BY
    client, place, version, label, bucket
),
patterns AS (  -- in whatever order the places are: another order is another pattern, and the counts add up
  SELECT
    build, label, bucket, pattern,
    COUNT(*) AS clients
  FROM (
    SELECT
      client, build, label, bucket,
      STRING_AGG(CAST(32 * place + kinds AS STRING)) AS pattern
    FROM (
      SELECT
        client, build, label, bucket, place, kinds
      FROM
        in_buckets
        INNER JOIN (SELECT unit, build FROM units) USING (unit)
      UNION ALL
      SELECT
        client, -version AS build, label, bucket, place, kinds
      FROM
        in_any_build
    )
    WHERE
      client < 0
    GROUP BY
      client, build, label, bucket
  )
  GROUP BY
    build, label, bucket, pattern
),
counts AS (  -- of any build, samples add up, and clients are those of all builds together
  SELECT
    place, build, label, bucket, kinds, samples,
    CAST(NULL AS STRING) AS pattern,
    settled AS clients
  FROM
    by_unit
    INNER JOIN units USING (unit)
  UNION ALL
  SELECT
    place, -version AS build, label, bucket, kinds, samples,
    CAST(NULL AS STRING) AS pattern,
    0 AS clients
  FROM
    by_unit
    INNER JOIN units USING (unit)
  UNION ALL
  SELECT
    place, -version AS build, label, bucket, kinds,
    0 AS samples,
    CAST(NULL AS STRING) AS pattern,
    COUNTIF(client > 0) AS clients
  FROM
    in_any_build
  GROUP BY
    place, version, label, bucket, kinds
  UNION ALL
  SELECT
    DIV(CAST(seen AS INT64), 32) AS place,
    build, label, bucket,
    MOD(CAST(seen AS INT64), 32) AS kinds,
    0 AS samples,
    IF(seen = pattern, NULL, pattern) AS pattern,  -- seen in one place, they are as good as settled
    clients
  FROM
    patterns
    CROSS JOIN UNNEST(SPLIT(pattern, ',')) AS seen
),
deduplicated AS (
  SELECT
    combination, label, kind, bucket,
    IF(pattern IS NULL, SUM(clients), MAX(clients)) AS clients,
    IF(
      pattern IS NULL,
      SUM(IF(client_weight > 1, clients, 0)),
      MAX(IF(client_weight > 1, clients, 0))
    ) AS weighted_clients,
    SUM(samples) AS samples,
    LOGICAL_OR(client_weight > 1) AS weighted
  FROM
    counts
    INNER JOIN kinds_of ON kinds & kind != 0
    INNER JOIN combinations USING (place, build)
  GROUP BY
    pattern, combination, label, kind, bucket
),
cells AS (
  SELECT
    probe, version, ping_type, os, build_hour, metric_key, client_agg_type, bucket, amount, users, samples, weighted
  FROM (
    SELECT
      combination, label, kind, bucket,
      SUM(clients) AS amount,
      SUM(clients + (@windows_weight - 1) * weighted_clients) AS users,
      SUM(samples) AS samples,
      LOGICAL_OR(weighted) AS weighted
    FROM
      deduplicated
    GROUP BY
      combination, label, kind, bucket
  )
    INNER JOIN names USING (combination)
    INNER JOIN labels USING (label)
    INNER JOIN kinds_of USING (kind)
),
