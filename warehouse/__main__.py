"""`python -m warehouse` is `probe-builder warehouse`."""

from warehouse.cli import app

app()
