"""The local stack, all services on one machine: embedded PostgreSQL, owned child processes, sample traffic."""
