"""Checks of an installation: whether each part is reachable, writable, current and set right, and how to mend it."""
