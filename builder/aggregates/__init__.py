"""What a probe's rows are: the statements that read its pings, and the statistics that make rows of their answers."""
