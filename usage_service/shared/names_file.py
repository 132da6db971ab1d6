"""Files of names of probes, a line each, as people write them: in a spreadsheet, too, which adds a byte order mark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.shared.errors import UserError
from usage_service.shared.files import decoded
from usage_service.shared.patterns import PROBE_NAME, in_words
from usage_service.shared.tables import visible

STDIN = Path("-")
MOST_SHOWN = 60  # characters of a line that is no name


class NamesFileError(UserError):
    """A file holds no names of probes; the message says why, and in which line."""


def read_names(path: Path) -> list[str]:
    """Return the names in a file, or in the standard input as `-`, each once; what follows a # is left out.

    Raise NamesFileError where there are none, or a line is no name.
    """
    where = "the standard input" if path == STDIN else str(path)
    try:
        text = decoded(sys.stdin.buffer.read() if path == STDIN else path.read_bytes())
    except OSError as error:
        raise NamesFileError(f"{where} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise NamesFileError(f"{where} has no names in UTF-8: {error}") from None
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        if name := line.partition("#")[0].strip():
            try:
                names.append(msgspec.convert(name, Annotated[str, Meta(pattern=PROBE_NAME)]))
            except msgspec.ValidationError as error:
                told = f"{where}, line {number}: {visible(name[:MOST_SHOWN])!r} {in_words(str(error))}"
                raise NamesFileError(f"{told}; give a name a line, without other columns") from None
    if not names:
        raise NamesFileError(f"{where} has no names of probes")
    return list(dict.fromkeys(names))
