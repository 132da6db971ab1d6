"""Two questions of a notebook: SQL with DuckDB, data frames with Polars."""

import duckdb
import polars as pl

from usage_service.log import read

views = read(types=["probe_viewed"]).arrow()
print(
    duckdb.sql("""
        SELECT probe, count(*) AS views, count(DISTINCT visitor) AS visitors,
               count(*) FILTER (data->>'found' = 'false') AS missing
        FROM views GROUP BY probe ORDER BY views DESC, probe
    """)
)

events = pl.from_arrow(read(since="2026-11-08", until="2026-11-15").table())
print(events.group_by("type").agg(pl.len(), pl.col("visitor").n_unique().alias("visitors")).sort("type"))
