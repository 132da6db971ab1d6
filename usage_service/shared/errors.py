"""What goes wrong by no fault of ours."""


class UserError(Exception):
    """What whoever runs a command can mend: its message, which is one line, says how."""
