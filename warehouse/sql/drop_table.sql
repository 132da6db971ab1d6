-- A table of a client's; it is gone already where only its time was over.
DROP TABLE IF EXISTS {{table}};
