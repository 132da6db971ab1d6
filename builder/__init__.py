"""The builder: aggregates missing probes on BigQuery, one at a time, and stores their rows."""
