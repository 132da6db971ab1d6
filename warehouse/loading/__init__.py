"""Files that are loaded into tables: Parquet and lines of JSON, read and checked as BigQuery does."""
