"""Errors that keep a log from being read."""

from __future__ import annotations

from usage_service.shared.errors import AwayError, UserError


class LogReadError(UserError):
    """A log cannot be read, or not to its end; the message names it and says why, and what to do."""


class LogAwayError(LogReadError, AwayError):
    """Raised where the log is kept by something that does not answer now."""

    exit_code = AwayError.exit_code
