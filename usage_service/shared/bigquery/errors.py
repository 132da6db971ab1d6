"""Errors that end work in the warehouse without a result: permanent ones, transient ones, and those that stop it."""

from usage_service.shared.errors import AwayError, UserError


class WorkError(UserError):
    """A failure, with a machine-readable `code` (BigQuery's reason where it has one) and a message."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code beside the message."""
        super().__init__(message)
        self.code = code
        self.message = message


class PermanentWorkError(WorkError):
    """A failure that would come again: an invalid query, a column that is not there, a byte limit, no access."""


class TransientWorkError(WorkError, AwayError):
    """A failure that may pass: the warehouse was busy, out of reach, or too slow."""

    exit_code = AwayError.exit_code


WAITING_FOR_QUOTA, WAITING_FOR_WAREHOUSE = WAITING_STAGES = ("waiting_for_warehouse_quota", "waiting_for_warehouse")


class WarehouseBusyError(TransientWorkError):
    """A failure that is waited for within the attempt: a quota is used up, or the warehouse is out of order or reach.

    `stage` is what the work waits for meanwhile.
    """

    def __init__(self, code: str, message: str, stage: str = WAITING_FOR_WAREHOUSE) -> None:
        """Keep the stage beside code and message."""
        super().__init__(code, message)
        self.stage = stage


class WorkCancelledError(Exception):
    """Raised in a computation thread to stop it: nobody wants the work any more. Its warehouse job is cancelled."""


class WorkAbandonedError(Exception):
    """Raised in a computation thread to stop it: another attempt goes on. Its warehouse job is left to that one."""
