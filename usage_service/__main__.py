"""The `usage-service` command; `python -m usage_service` is the same."""

from usage_service.shared.launch import launch


def main() -> None:
    """Run the command."""
    launch("usage-service", "usage_service.cli", "server", {"up": "local", "mirror": "mirror"})


if __name__ == "__main__":
    main()
