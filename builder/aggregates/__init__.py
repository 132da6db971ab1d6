"""The rows of a probe: the statements that read its pings, and the statistics that make rows of their answers."""
