"""Bytes of files as they were before they were packed by gzip (of any number of members) or zstd; UTF-16 as UTF-8."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader, IOBase
from typing import Protocol, cast

import pyarrow as pa

BLOCK = 1 << 18
STEP = 1 << 10
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
DAMAGED = (EOFError, zlib.error, OSError, pa.ArrowException)


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class Unpacked:
    """The unpacked bytes of a file, block by block; `fault` says in the end why they are not whole, if they are not."""

    def __init__(self, raw: BufferedReader, magic: bytes) -> None:
        """Unpack a file that begins with the bytes `magic`, which are still to be read."""
        self.fault: str | None = None
        self.is_cut = False  # whether the last line is not whole either
        self._raw = raw
        self._magic = magic
        self._stream: pa.NativeFile | None = None  # kept, as it closes the file when it goes

    def blocks(self) -> Iterator[bytes]:
        """Read the blocks, in UTF-8 and without a byte order mark."""
        found = self._unpacked()
        first = next(found, b"")
        while 0 < len(first) < 4 and (more := next(found, b"")):
            first += more
        if encoding := UTF16.get(first[:2]):
            yield from _transcoded(first[2:], found, encoding)
            return
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from found

    def _unpacked(self) -> Iterator[bytes]:
        try:
            if self._magic.startswith(GZIP):
                yield from _read(cast(_Readable, gzip.GzipFile(fileobj=self._raw)))
            elif self._magic.startswith(ZSTD):
                self._stream = pa.CompressedInputStream(pa.PythonFile(cast(IOBase, self._raw), "r"), "zstd")
                yield from _read_in_steps(self._stream)
            else:
                yield from _read(cast(_Readable, self._raw))
        except DAMAGED as error:
            self.fault = "the file ends too early" if isinstance(error, EOFError) else f"the file is damaged: {error}"
            # What follows a member of gzip is not of that member, whose lines are whole.
            self.is_cut = not isinstance(error, gzip.BadGzipFile)


def _read(file: _Readable) -> Iterator[bytes]:
    while block := file.read1(BLOCK):
        yield block


def _read_in_steps(stream: pa.NativeFile) -> Iterator[bytes]:
    """Read a stream that gives nothing of the step in which it finds a fault."""
    pieces: list[bytes] = []
    try:
        while piece := stream.read(STEP):
            pieces.append(piece)
            if len(pieces) == BLOCK // STEP:
                yield b"".join(pieces)
                pieces.clear()
    except DAMAGED:
        if pieces:
            yield b"".join(pieces)
        raise
    if pieces:
        yield b"".join(pieces)


def _transcoded(first: bytes, rest: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    yield decoder.decode(first).encode("utf-8", "surrogatepass")
    for block in rest:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
