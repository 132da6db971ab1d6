"""GoogleSQL translated to DuckDB, faithfully or not at all."""
