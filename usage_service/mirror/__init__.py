"""The mirror of the log: every event in a table of BigQuery, a range of positions a load job."""
