"""Everything on one machine: embedded PostgreSQL, owned child processes, sample traffic."""
