"""`python -m builder.warehouse` is `probe-builder warehouse`."""

from builder.warehouse.cli import app

app()
