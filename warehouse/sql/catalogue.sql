-- tables: the tables that can be queried
SELECT project, dataset, name, partition_column FROM store.about.tables;

-- leaf_bytes: the bytes of a table by leaf column and day
SELECT leaf, day, bytes FROM store.about.leaf_bytes WHERE project = ? AND dataset = ? AND name = ?;
