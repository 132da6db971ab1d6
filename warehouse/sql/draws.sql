-- The values that pings take: $draws of them for each situation, whose number is
-- 4 * the system's number + 2 if regressed + 1 if rare.
CREATE OR REPLACE TABLE draws AS
SELECT place, {{columns}}
FROM (
    SELECT place,
           ($systems::VARCHAR[])[place // ($draws * 4) + 1] AS os,
           place // ($draws * 2) % 2 = 1 AS regressed,
           place // $draws % 2 = 1 AS rare
    FROM range(len($systems::VARCHAR[]) * 4 * $draws) AS every(place)
);
