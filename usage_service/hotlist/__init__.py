"""The hot list: which probes are worth building for the next day, and why."""
