-- The bytes of each leaf column of a client's table, by day.
SELECT {{day}} AS day, {{sizes}} FROM {{table}} GROUP BY 1;
