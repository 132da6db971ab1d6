"""Code that both programs share: settings, logs, PostgreSQL. It imports nothing else of the service."""
