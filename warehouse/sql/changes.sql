-- What a statement of DML does: the row that it is done to, what is done, and the values of the new row.
CREATE OR REPLACE TEMPORARY TABLE bq_changes AS SELECT * FROM ({{query}}) WHERE bq_action IS NOT NULL;
