"""The `probe-builder` command; `python -m builder` is the same."""

from usage_service.shared.launch import launch


def main() -> None:
    """Run the command."""
    launch("probe-builder", "builder.cli", "builder", {"etl-demo": "local", "warehouse": "local"})


if __name__ == "__main__":
    main()
