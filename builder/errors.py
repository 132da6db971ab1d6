"""Errors that end a build without a result: permanent ones, transient ones, and those that stop it."""

from usage_service.shared.errors import UserError


class BuildError(UserError):
    """A failed build, with a machine-readable `code` (BigQuery's reason where it has one) and a message."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code beside the message."""
        super().__init__(message)
        self.code = code
        self.message = message


class PermanentBuildError(BuildError):
    """A failure that would come again: an invalid query, a column that is not there, a byte limit, no access."""


class TransientBuildError(BuildError):
    """A failure that may pass: the warehouse was busy, out of reach, or too slow."""


WAITING_FOR_QUOTA, WAITING_FOR_WAREHOUSE = WAITING_STAGES = ("waiting_for_warehouse_quota", "waiting_for_warehouse")


class WarehouseBusyError(TransientBuildError):
    """A failure that is waited for within the attempt: a quota is used up, or the warehouse is out of order or reach.

    `stage` is the stage of the build meanwhile.
    """

    def __init__(self, code: str, message: str, stage: str = WAITING_FOR_WAREHOUSE) -> None:
        """Keep the stage beside code and message."""
        super().__init__(code, message)
        self.stage = stage


class UnsupportedMetricError(PermanentBuildError):
    """A probe of a kind that is not aggregated."""

    def __init__(self, message: str) -> None:
        """Set the code to `unsupported`."""
        super().__init__("unsupported", message)


class BuildCancelledError(Exception):
    """Raised in a computation thread to stop it: nobody wants the build any more. Its warehouse job is cancelled."""


class BuildAbandonedError(Exception):
    """Raised in a computation thread to stop it: another attempt goes on. Its warehouse job is left to that one."""
