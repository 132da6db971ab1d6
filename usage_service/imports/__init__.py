"""Imports of files: their lines are read as events and posted to a running service."""
