-- How often each draw was taken.
CREATE OR REPLACE TABLE taken (kind VARCHAR, day DATE, place BIGINT, n BIGINT);
-- The values that pings take, $draws for each situation: 4 * the system's number + 2 if regressed + 1 if rare.
CREATE OR REPLACE TABLE draws AS
SELECT place, {columns}
FROM (
    SELECT place,
           ($systems::VARCHAR[])[place // ($draws * 4) + 1] AS os,
           place // ($draws * 2) % 2 = 1 AS regressed,
           place // $draws % 2 = 1 AS rare
    FROM range(len($systems::VARCHAR[]) * 4 * $draws) AS every(place)
);
