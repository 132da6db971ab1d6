"""Builds of probes: requesting, waiting, listing, events, and the resulting rows."""
