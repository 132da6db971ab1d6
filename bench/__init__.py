"""Measurements of the service against its bounds and against other software: `python -m bench`."""
