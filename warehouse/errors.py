"""BigQuery's errors: an HTTP status, a machine-readable reason and its own words."""

from __future__ import annotations

STATUS = {
    "invalid": 400,
    "invalidQuery": 400,
    "parseError": 400,
    "bytesBilledLimitExceeded": 400,
    "resourcesExceeded": 400,
    "notFound": 404,
    "duplicate": 409,
    "rateLimitExceeded": 403,
    "stopped": 499,
    "internalError": 500,
    "backendError": 503,
}


class BigQueryError(Exception):
    """An error as BigQuery would answer it; `reason` is a key of STATUS."""

    def __init__(self, reason: str, message: str, location: str | None = None) -> None:
        """Keep the parts; `location` names the part of the request that is at fault."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.location = location

    @property
    def status(self) -> int:
        """The HTTP status that goes with the reason."""
        return STATUS[self.reason]

    def item(self) -> dict[str, str]:
        """One entry of BigQuery's `errors` list."""
        entry = {"domain": "global", "reason": self.reason, "message": self.message}
        return entry | ({"location": self.location, "locationType": "other"} if self.location else {})

    def body(self) -> dict[str, object]:
        """The JSON body of an error answer."""
        state = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}.get(self.status, "UNKNOWN")
        content = {"code": self.status, "message": self.message, "errors": [self.item()], "status": state}
        return {"error": content}


def invalid_query(message: str) -> BigQueryError:
    """The query itself is wrong."""
    return BigQueryError("invalidQuery", message, "query")


def refused(construct: str) -> BigQueryError:
    """The query may be right for BigQuery, but would be silently wrong here."""
    return invalid_query(
        f"The embedded warehouse cannot translate {construct} faithfully; "
        "rewrite the query without it or run it on BigQuery"
    )
