"""Errors that are not bugs of the program."""

from __future__ import annotations

from typing import ClassVar

from usage_service.shared.exit_codes import ExitCode


class UserError(Exception):
    """An error that the person who runs a command can mend; its message, which is one line, says how."""

    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class AwayError(UserError):
    """Raised where what a command needs does not answer now; the same command may do better later."""

    exit_code = ExitCode.AWAY
