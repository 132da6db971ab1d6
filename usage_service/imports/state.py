"""State of an import on the disk: how often each event was read, and up to where everything was sent.

It makes an import go on where it was after a kill, and its memory the same for any size of file.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs
import structlog

from usage_service.shared.errors import UserError
from usage_service.shared.queries import SqlFolder

CACHED_KIB = 16_384
FILTER_BITS = 1 << 27  # 16 MiB
KEPT_SECONDS = 30 * 86_400  # of an import that nobody went on with
SUFFIX = ".import"
TEMPORARY = ""  # to SQLite a database that goes to the disk only where it does not fit into the cache

log = structlog.get_logger(__name__)
_query = SqlFolder(Path(__file__).parent / "sql").statement


class StateError(UserError):
    """The state of an import cannot be used; the message says why."""


class Reached(NamedTuple):
    """Up to which line everything was sent, with what became of it, and an event that the log must have."""

    position: int
    stats: bytes
    sample: bytes | None


class ImportState:
    """How often each event was read, and up to where everything was sent, in a file of SQLite."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._ahead: dict[bytes, int] = {}  # how often events were read of which it is not known that they were sent
        database.execute(f"PRAGMA cache_size = -{CACHED_KIB}")
        self._seen = _query("state", "seen")  # found once, as it is asked for each event
        database.executescript(_query("state", "make"))
        # Most events are new: a Bloom filter says so without a look-up. It knows nothing of what was kept before.
        self._filter = bytearray(b"\xff" if self.reached() else b"\0") * (FILTER_BITS // 8)

    def reached(self) -> Reached | None:
        """Return up to where an interrupted import came, None for one that begins."""
        row = self._database.execute(_query("state", "reached")).fetchone()
        return Reached(*row) if row else None

    def begin_anew(self) -> None:
        """Forget what was kept of an interrupted import."""
        self._filter = bytearray(FILTER_BITS // 8)
        self._database.executescript(_query("state", "begin_anew"))

    def count(self, key: bytes) -> int:
        """Count an event that was read, and return the how-many-eth equal one it is, from 0."""
        number = self._ahead.get(key)
        if number is None:
            number = self._kept(key) if self._may_be_kept(key) else 0
        self._ahead[key] = number + 1
        return number

    def _may_be_kept(self, key: bytes) -> bool:
        """Return whether an event may have been read before, and remember that it was read now."""
        bit = int.from_bytes(key[-4:], "little") % FILTER_BITS
        known, mask = self._filter[bit >> 3], 1 << (bit & 7)
        self._filter[bit >> 3] = known | mask
        return bool(known & mask)

    def _kept(self, key: bytes) -> int:
        row = self._database.execute(self._seen, (key,)).fetchone()
        return row[0] if row else 0

    def keep(self, keys: dict[bytes, int], refused: Sequence[bytes], reached: Reached | None) -> None:
        """Keep what was sent: how often its events were read by then, its refused lines, and up to where it goes."""
        with self._database:
            self._database.executemany(_query("state", "set_seen"), keys.items())
            self._database.executemany(_query("state", "add_refused"), [(line,) for line in refused])
            if reached:
                self._database.execute(_query("state", "set_reached"), reached)
        for key, number in keys.items():
            if self._ahead.get(key) == number:  # else it was read again since, which is still to be kept
                del self._ahead[key]

    def refused(self) -> Iterator[bytes]:
        """Return the refused lines that were kept."""
        return (line for (line,) in self._database.execute(_query("state", "refused")))


@contextmanager
def open_state(name: str | None) -> Iterator[ImportState]:
    """Open the state of an import; it is kept under a name where the import does not come to its end."""
    folder = _folder() if name else None
    if folder is None:
        with closing(sqlite3.connect(TEMPORARY, check_same_thread=False)) as database, _errors():
            yield ImportState(database)
        return
    path = folder / f"{name}{SUFFIX}"
    with closing(_connect(path)) as database, _errors():
        yield ImportState(database)
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(
            f"the state of the import cannot be kept ({error}); make room, and run the import again"
        ) from None


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.OperationalError as error:
        database.close()
        raise StateError(f"another import of the same file is running ({error}); wait for it to end") from None
    except sqlite3.DatabaseError as error:
        database.close()
        raise StateError(f"{path} is damaged ({error}); remove it to import the file from its beginning") from None
    return database


def _folder() -> Path | None:
    """Return the folder of states, without those that nobody went on with; None where it cannot be written."""
    folder = platformdirs.user_state_path("glam-usage") / "imports"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = [path for path in folder.glob(f"*{SUFFIX}*") if path.stat().st_mtime < time.time() - KEPT_SECONDS]
        for path in old:
            path.unlink(missing_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        why = "it may not be written to"
    except OSError as error:
        why = str(error)
    log.warning("import_not_resumable", folder=str(folder), why=why)
    return None
