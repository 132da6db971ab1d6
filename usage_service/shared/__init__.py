"""The ground that both programs stand on: settings, logs, PostgreSQL. Imports nothing else of the service."""
