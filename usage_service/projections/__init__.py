"""Projections: kept up with the log, rebuilt beside the live ones, and how fresh each is."""
