"""GLAM's own contract, in GLAM's own words: its data requests and its usage log."""
