-- The bytes of some leaf columns by day.
INSERT INTO about.leaf_bytes
SELECT $1, $2, $3, unnest({{paths}}), day, unnest(sizes)
FROM (
    SELECT CAST(submission_timestamp AS DATE) AS day, {{sums}} AS sizes
    FROM "{{schema}}"."{{table}}"
    GROUP BY 1
);
