"""Why a build ends without a result: for good, for now, or because it is stopped."""

from usage_service.shared.errors import UserError


class BuildError(UserError):
    """A build that failed: a machine-readable `code` (BigQuery's reason where it has one) and a message."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code beside the message."""
        super().__init__(message)
        self.code = code
        self.message = message


class PermanentBuildError(BuildError):
    """Trying again would fail again: an invalid query, a column that is not there, a byte limit, no access."""


class TransientBuildError(BuildError):
    """Trying again may help: the warehouse was busy, out of reach, or too slow."""


class UnsupportedMetricError(PermanentBuildError):
    """The probe is of a kind that is never aggregated, or not yet."""

    def __init__(self, message: str) -> None:
        """The code is always `unsupported`."""
        super().__init__("unsupported", message)


class BuildCancelledError(Exception):
    """Raised in a computation's thread to stop it: nobody wants the build any more. Its warehouse job is cancelled."""


class BuildAbandonedError(Exception):
    """Raised in a computation's thread to stop it: another attempt goes on. Its warehouse job is left to that one."""
