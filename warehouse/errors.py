"""BigQuery's errors: an HTTP status, a machine-readable reason and a message; and files that are not to be had."""

from __future__ import annotations

from usage_service.shared.errors import UserError

STATUS = {
    "invalid": 400,
    "invalidQuery": 400,
    "parseError": 400,
    "bytesBilledLimitExceeded": 400,
    "resourcesExceeded": 400,
    "resourceInUse": 400,
    "notFound": 404,
    "accessDenied": 403,
    "duplicate": 409,
    "rateLimitExceeded": 403,
    "stopped": 499,
    "internalError": 500,
    "backendError": 503,
}


class WarehouseFileError(UserError):
    """A file of the warehouse cannot be opened; the message says which, why, and what to do."""


class BigQueryError(Exception):
    """An error as BigQuery would answer it.

    `reason` is a key of STATUS; `location` names the part of the request that is at fault; `causes` are the errors that
    led to it, such as those of single rows of a file.
    """

    causes: tuple[BigQueryError, ...] = ()

    def __init__(self, reason: str, message: str, location: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.location = location

    @property
    def status(self) -> int:
        """Return the HTTP status of the reason."""
        return STATUS[self.reason]

    def items(self) -> list[dict[str, str]]:
        """Return the error and its causes as BigQuery's `errors` list."""
        return [self.item(), *(cause.item() for cause in self.causes)]

    def item(self) -> dict[str, str]:
        """Return the error as an entry of BigQuery's `errors` list."""
        entry = {"domain": "global", "reason": self.reason, "message": self.message}
        return entry | ({"location": self.location, "locationType": "other"} if self.location else {})

    def body(self) -> dict[str, object]:
        """Return the JSON body of the error's answer."""
        state = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}.get(self.status, "UNKNOWN")
        content = {"code": self.status, "message": self.message, "errors": self.items(), "status": state}
        return {"error": content}


def invalid_query(message: str) -> BigQueryError:
    """Return the error of a query that BigQuery would not accept either."""
    return BigQueryError("invalidQuery", message, "query")


def refused(construct: str) -> BigQueryError:
    """Return the error of a query that BigQuery may accept, but whose result here could be silently wrong."""
    return invalid_query(
        f"The embedded warehouse cannot translate {construct} faithfully; "
        "rewrite the query without it or run it on BigQuery"
    )
