"""Nights: lists of probes built in as few warehouse jobs as possible."""
