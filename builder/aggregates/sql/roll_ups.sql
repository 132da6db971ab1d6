  SELECT
    members.* EXCEPT (ping_type, os, build_hour),
    IF(any_ping, '*', ping_type) AS ping_type,
    IF(any_os, '*', os) AS os,
    IF(any_build, '*', build_hour) AS build_hour
  FROM
    members
    CROSS JOIN UNNEST(@any_ping) AS any_ping
    CROSS JOIN UNNEST([FALSE, TRUE]) AS any_os
    CROSS JOIN UNNEST([FALSE, TRUE]) AS any_build
  WHERE
    (any_os OR os IS NOT NULL)
    AND (any_build OR large_enough)
