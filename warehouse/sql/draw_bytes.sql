-- The bytes of the leaf columns of one metric type by day: those of each draw, times the pings that take it.
INSERT INTO about.leaf_bytes
SELECT $1, $2, $3, unnest({{paths}}), day, unnest(sums)
FROM (
    SELECT day, {{sums}} AS sums
    FROM taken JOIN (SELECT place, {{sizes}} AS sizes FROM draws) USING (place)
    WHERE kind = '{{kind}}'
    GROUP BY day
);
