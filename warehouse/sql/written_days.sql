-- How many days the last rows of a table are of, and all of them.
SELECT (SELECT count(DISTINCT CAST("{{column}}" AS DATE)) FROM (SELECT "{{column}}" FROM {{table}} OFFSET {{before}})),
       count(DISTINCT CAST("{{column}}" AS DATE))
FROM {{table}};
