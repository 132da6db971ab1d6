  WITH steps AS (
    SELECT
      visitor, occurred_at, event_id, product,
      IF(JSON_VALUE(data, '$.bot') = 'true', JSON_QUERY(data, '$.bot') = 'true', FALSE) AS bot,
      IF(type = 'probe_viewed', probe, NULL) AS probe,
      IF(type = 'control_changed', JSON_VALUE(data, '$.control'), NULL) AS control,
      IF(type = 'link_followed', JSON_VALUE(data, '$.tool'), NULL) AS tool,
      type = 'page_viewed' AS is_page,
      JSON_VALUE(data, '$.page') AS page,
      JSON_VALUE(data, '$.referrer') AS referrer
    FROM {{events}}
    WHERE visitor IS NOT NULL AND (
      type IN ('page_viewed', 'probe_searched', 'probe_viewed', 'control_changed', 'link_followed')
      OR STARTS_WITH(type, 'x_')
    )
  ), placed AS (
    SELECT
      *,
      UNIX_MICROS(occurred_at)
        - UNIX_MICROS(LAG(occurred_at) OVER (PARTITION BY visitor ORDER BY occurred_at, event_id))
        >= {{gap_minutes}} * 60000000 AS after_pause
    FROM steps
  ), numbered AS (
    SELECT
      *,
      COUNTIF(after_pause) OVER (
        PARTITION BY visitor ORDER BY occurred_at, event_id ROWS UNBOUNDED PRECEDING
      ) AS session
    FROM placed
  ), merged AS (
    SELECT
      visitor, MIN(occurred_at) AS started_at, MAX(occurred_at) AS ended_at, COUNT(*) AS events, LOGICAL_OR(bot) AS bot,
      ARRAY_AGG(IF(is_page, STRUCT(occurred_at, event_id, page, referrer), NULL) IGNORE NULLS
                ORDER BY occurred_at, event_id LIMIT 1)[SAFE_OFFSET(0)] AS first_view,
      ARRAY_AGG(IF(is_page, STRUCT(occurred_at, event_id, page, referrer), NULL) IGNORE NULLS
                ORDER BY occurred_at DESC, event_id DESC LIMIT 1)[SAFE_OFFSET(0)] AS last_view,
      ARRAY_AGG(DISTINCT product IGNORE NULLS) AS products,
      ARRAY_AGG(DISTINCT probe IGNORE NULLS) AS probes,
      ARRAY_AGG(DISTINCT control IGNORE NULLS) AS controls,
      ARRAY_AGG(DISTINCT tool IGNORE NULLS) AS tools_left
    FROM numbered
    GROUP BY visitor, session
  ), named AS (
    -- Of each kind the hundred and one names whose hashes are least: a fair sample, always the same.
    SELECT
      visitor, started_at, ended_at, events, bot, first_view, last_view,
      ARRAY(SELECT name FROM UNNEST(products) AS name ORDER BY SUBSTR(TO_HEX(MD5(name)), 1, 8), name LIMIT 101) AS products,
      ARRAY(SELECT name FROM UNNEST(probes) AS name ORDER BY SUBSTR(TO_HEX(MD5(name)), 1, 8), name LIMIT 101) AS probes,
      ARRAY(SELECT name FROM UNNEST(controls) AS name ORDER BY SUBSTR(TO_HEX(MD5(name)), 1, 8), name LIMIT 101) AS controls,
      ARRAY(SELECT name FROM UNNEST(tools_left) AS name ORDER BY SUBSTR(TO_HEX(MD5(name)), 1, 8), name LIMIT 101) AS tools_left,
      -- The host of a referrer that is a URL or a host, with or without a port; without www.
      NULLIF(REGEXP_EXTRACT(LOWER(REGEXP_EXTRACT(
        first_view.referrer,
        r'''^(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?:[^/?#@\x{9}-\x{d}\x{85}\pZ]*@)?([^\][/?#:@()<>"'%,;_.\x{9}-\x{d}\x{85}\pZ-][^\][/?#:@()<>"'%,;\x{9}-\x{d}\x{85}\pZ]*)(?::[0-9]+)?(?:[/?#]|$)'''
      )), r'^(?:www\.)?(.*?)\.?$'), '') AS origin
    FROM merged
  ), origins AS (
    SELECT
      *,
      IF(origin IN UNNEST({{own_hosts}}), NULL, COALESCE(ARRAY(
        SELECT tool FROM UNNEST({{tools}})
        WHERE origin = host OR ENDS_WITH(origin, CONCAT('.', host))
        ORDER BY LENGTH(host) DESC LIMIT 1
      )[SAFE_OFFSET(0)], origin)) AS came_from
    FROM named
  )
  SELECT
    visitor, started_at, ended_at, events, bot, first_view, last_view, products, probes, controls, tools_left, came_from,
    CASE WHEN came_from IS NULL THEN IF(ARRAY_LENGTH(tools_left) = 0, 'whole', 'starting_point')
         WHEN ARRAY_LENGTH(tools_left) = 0 THEN 'endpoint' ELSE 'in_between' END AS role
  FROM origins
