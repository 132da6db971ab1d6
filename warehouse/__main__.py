"""`python -m warehouse` is `probe-builder warehouse`."""

from usage_service.shared.launch import launch

if __name__ == "__main__":
    launch("python -m warehouse", "warehouse.cli", "local", {})
