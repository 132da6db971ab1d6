-- ambiguous: a row that more than one row of the source changes
SELECT bq_row FROM bq_changes WHERE bq_action <> 'insert' GROUP BY bq_row HAVING count(*) > 1 LIMIT 1;

-- counts: the rows that are inserted, updated and deleted
SELECT
    count(*) FILTER (bq_action = 'insert'),
    count(*) FILTER (bq_action = 'update'),
    count(*) FILTER (bq_action = 'delete')
FROM bq_changes;

-- drop_changes: the changes, once they are made
DROP TABLE bq_changes;
