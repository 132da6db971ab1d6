"""Errors that end a build without a result, beside those of the warehouse."""

from usage_service.shared.bigquery.errors import PermanentWorkError


class UnsupportedMetricError(PermanentWorkError):
    """A probe of a kind that is not aggregated."""

    def __init__(self, message: str) -> None:
        """Set the code to `unsupported`."""
        super().__init__("unsupported", message)
