"""Exit codes of all commands, and their meanings."""

from __future__ import annotations

from enum import IntEnum

from usage_service.shared import interrupts


class ExitCode(IntEnum):
    """Exit codes of both programs, and of the embedded warehouse."""

    DONE = 0
    WRONG = 1
    REFUSED = 2
    AWAY = 3
    INTERRUPTED = interrupts.INTERRUPTED
    UNREAD = 141


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.WRONG: "done, but something is wrong, which the output names; or a bug, with a traceback",
    ExitCode.REFUSED: "nothing done: an option, a name or a setting is wrong, or refused; one line says the mend",
    ExitCode.AWAY: "the service, the database or the warehouse does not answer: try again later",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C before it was done",
    ExitCode.UNREAD: "nobody reads the output any more, as in a pipe to `head`; nothing is wrong",
}
# Typer begins a new line where there is an empty one.
EPILOGUE = "\n\n".join(["Exit codes:", *(f"{code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())])
PAGE = """# Exit codes

This page is made by `usage-service reference exit-codes`; a test checks that it is up to date. The codes are those of
all commands of `usage-service`, `probe-builder` and `python -m warehouse`. `--help` of each program has them, too.

{}
What runs until it is stopped (`up`, `serve`, `run`, `warehouse serve`) ends with 0 by Ctrl-C or SIGTERM, as it should.
What was not done is said on the standard error, in one line that begins with the program's name. A script does well to
try again after 3, and after nothing else.
"""


def exit_codes_page() -> str:
    """Return docs/exit-codes.md."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return PAGE.format("\n".join(["| exit code | meaning |", "|---|---|", *rows, ""]))
