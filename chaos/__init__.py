"""Faults under load, and what they cost: `python -m chaos [fault ...]`."""
