"""Sinks: where rows go besides PostgreSQL, a batch of builds at a time."""
