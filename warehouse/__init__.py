"""A loopback server of the BigQuery REST API on DuckDB, to develop and test against."""
