"""Files that may be gzipped or come from a spreadsheet, and files that are written whole and outlive a power cut."""

from __future__ import annotations

import codecs
import fcntl
import gzip
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from usage_service.shared.errors import UserError

MOST_LINE_BYTES = 1 << 20
STDOUT = Path("-")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class BusyFileError(UserError):
    """Raised where another command writes a file just now."""


def is_stdout(path: Path) -> bool:
    """Return whether what is written to a path goes to the standard output: `-`, and whatever leads there."""
    return path == STDOUT or (path.exists() and os.path.samestat(path.stat(), os.fstat(1)))


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file that is at `path` once it is whole and on the disk; until then what was there stays.

    It takes the place of the file that a symbolic link leads to. What has no place that could be taken (a pipe, a
    device, the standard output) gets what is written as it comes. Raise BusyFileError where another command writes it.
    """
    if is_stdout(path):
        yield sys.stdout.buffer
        sys.stdout.flush()
    elif path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
    else:
        with _replacing(path, Path(os.path.realpath(path))) as file:
            yield file


@contextmanager
def _replacing(path: Path, target: Path) -> Iterator[BinaryIO]:
    """Give a new file beside `target` that takes its place in the end; errors name `path`, as the user does."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        with _locked(partial, path) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        sync_directory(target.parent)
    except OSError as error:
        if error.filename is not None and Path(error.filename) == partial:
            error.filename, error.filename2 = str(path), None
        raise


def _locked(partial: Path, path: Path) -> BinaryIO:
    """Open a file, empty, that nobody else has open so; what a killed command left of it is written over."""
    while True:
        file = partial.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            told = f"{path} is being written by another command; wait until that has ended, or name another file"
            raise BusyFileError(told) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), partial.stat()):
                file.seek(0)
                file.truncate()
                return file
        file.close()  # whoever had it has just put it in its place


def is_same(path: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, also one that is not there yet."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)


def decoded(content: bytes) -> str:
    """Return a text in UTF-8, or in UTF-16 where a byte order mark says so, without that mark.

    Raise UnicodeDecodeError.
    """
    return content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig")


def sync_directory(path: Path) -> None:
    """Write the names in a directory to the disk, such as that of a file just moved into it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class OpenFile(NamedTuple):
    """A file unpacked, its first line, its size in bytes on disk, and a function for how many of those were read."""

    unpacked: BinaryIO
    first_line: bytes
    size: int
    bytes_read: Callable[[], int]


@contextmanager
def open_file(path: Path) -> Iterator[OpenFile]:
    """Open a file to read, unpacked if it is gzipped."""
    with path.open("rb") as raw:
        size, packed = path.stat().st_size, raw.peek(2)[:2] == b"\x1f\x8b"
        with gzip.GzipFile(fileobj=raw) if packed else nullcontext(raw) as unpacked:
            first_line = unpacked.readline(MOST_LINE_BYTES)
            unpacked.seek(0)
            yield OpenFile(cast(BinaryIO, unpacked), first_line, size, raw.tell)
