"""Errors that are not bugs of the program."""


class UserError(Exception):
    """An error that the person who runs a command can mend; its message, which is one line, says how."""
