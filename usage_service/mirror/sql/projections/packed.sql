-- The rows of a table, many to a text of JSON: one by one they would take longer to fetch than to compute.
SELECT CONCAT('[', STRING_AGG(line, ','), ']') AS packed
FROM (
{{rows}}
)
GROUP BY MOD(CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5(line)), 1, 8)) AS INT64), @texts)
