"""Measurements of the event log against what bounds it and against what others use: `python -m bench`."""
