"""History from files: read as events and posted to a running service."""
