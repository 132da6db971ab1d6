"""`python -m usage_service` is the `usage-service` command."""

from usage_service.cli import main

main()
