"""OpenAPI description of the HTTP API, made from its handlers and types."""
