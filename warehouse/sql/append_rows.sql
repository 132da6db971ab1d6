-- Rows for a table of a client's, by the names of their columns.
INSERT INTO {{table}} BY NAME SELECT {{columns}} FROM {{rows}};
