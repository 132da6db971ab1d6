"""`python -m builder` is the `probe-builder` command."""

from builder.cli import main

main()
