-- settings: pings keep the order of their senders, which are on the side of the joins that is streamed
SET TimeZone = 'UTC';
SET memory_limit = '1GB';
SET disabled_optimizers = 'join_order,build_side_probe_side';

-- create_clients: the clients, numbered from 0; `place` is the number of their system
CREATE OR REPLACE TABLE clients AS
SELECT *, list_position($6::VARCHAR[], os) - 1 AS place
FROM (
    SELECT generate_subscripts($1::VARCHAR[], 1) - 1 AS client, unnest($1::VARCHAR[]) AS client_id,
           unnest($2::BIGINT[]) AS sample_id, unnest($3::VARCHAR[]) AS os, unnest($4::VARCHAR[]) AS app_channel,
           unnest($5::VARCHAR[]) AS provider
);

-- create_builds: the builds, numbered from 0, each with the seconds until the next one
CREATE OR REPLACE TABLE builds (
    build BIGINT, made TIMESTAMPTZ, app_build VARCHAR, versions MAP(VARCHAR, VARCHAR), seconds BIGINT,
    regressed BOOLEAN
);

-- add_build: a build, its id and its version on each channel
INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?);

-- create_taken: how many pings of each day take a draw
CREATE OR REPLACE TABLE taken (kind VARCHAR, day DATE, place BIGINT, n BIGINT);

-- create_senders: the clients that send a ping of some builds, when and in which situation: a third of all, some twice
CREATE OR REPLACE TABLE senders AS
SELECT
    made + to_seconds(CAST((ping >> 20) % seconds AS BIGINT)) AS submitted,
    client, client_id, sample_id, os, app_build, app_channel, versions[app_channel] AS version, provider, ping,
    4 * place + 2 * CAST(regressed AS INTEGER) + CAST(client < $rare AS INTEGER) AS situation
FROM (
    SELECT *, hash(client, build, $seed, $ping) % 100 AS chance, hash(client, build, nth, $seed, $ping) AS ping
    FROM clients CROSS JOIN builds CROSS JOIN range(2) AS pings(nth)
    WHERE build BETWEEN $first AND $last AND list_contains($channels::VARCHAR[], app_channel)
)
WHERE chance < if(nth = 0, 33, 8) OR (client < $rare AND nth = 0)
ORDER BY submitted, client, nth;

-- drop_working_tables: the tables that only the making of pings reads
DROP TABLE clients;
DROP TABLE builds;
DROP TABLE draws;
DROP TABLE senders;
DROP TABLE taken;

-- add_table: a table of pings that is complete, its sizes too
INSERT INTO about.tables VALUES (?, ?, ?, 'submission_timestamp');

-- add_whole_table: a table without partitions that is complete, its sizes too
INSERT INTO about.tables VALUES (?, ?, ?, NULL);

-- add_whole_leaf: the bytes of a leaf column of a table without partitions; one day stands for all
INSERT INTO about.leaf_bytes VALUES (?, ?, ?, [?], DATE '1970-01-01', ?);

-- set_description: the options that the pings were made with
INSERT INTO about.seeded VALUES (?);

-- description: the options that the pings were made with, to tell whether they have to be made again
SELECT description FROM about.seeded;

-- checkpoint: all pings are in the file itself, which is renamed without its write-ahead log
CHECKPOINT;
