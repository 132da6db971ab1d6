"""Builds of probes: requested, waited for, listed, followed, and the rows that come of them."""
