"""Items of a JSON array that may be too large to hold, each as its bytes; what is not JSON spoils no other item.

A streaming parser such as ijson ends at the first fault. Here items are only delimited, and each is decoded on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

# A string up to its end or that of its line, a quote whose string goes on, and what encloses or separates.
TOKEN = re.compile(rb'"(?:[^"\\\r\n]|\\[^\r\n])*+["\r\n]|["\[\]{},]')
MOST_RECOVERIES = 1_000


class Item(NamedTuple):
    """The bytes of an item, and the reason why it is none, if it is none."""

    content: bytes
    fault: str | None = None


def items(blocks: Iterator[bytes], most_bytes: int) -> Iterator[Item]:
    """Split an array into its items; where one is not closed, its first line has a fault and the next line goes on."""
    return _Scanner(blocks, most_bytes).items()


class _Scanner:
    def __init__(self, blocks: Iterator[bytes], most_bytes: int) -> None:
        self._blocks = blocks
        self._most = most_bytes
        self._buffer = b""
        self._begin = self._at = 0  # of the item, of the next token
        self._depth = self._recoveries = 0
        self._dropped: bytes | None = None  # the beginning of an item that is too large, up to whose end all is dropped
        self._is_closed = self._is_read = False

    def items(self) -> Iterator[Item]:
        for block in chain(self._blocks, [None]):
            self._fill(block)
            yield from self._whole()
            while self._is_read or len(self._buffer) - self._begin > self._most:
                unclosed = self._unclosed()
                if unclosed is None:
                    break
                yield unclosed
                yield from self._whole()

    def _fill(self, block: bytes | None) -> None:
        self._is_read = block is None
        self._buffer = self._buffer[self._begin :] + (block or b"")
        self._at = max(0, self._at - self._begin)
        self._begin = 0

    def _whole(self) -> Iterator[Item]:
        for token in TOKEN.finditer(self._buffer, self._at):
            kind = token[0]
            if kind == b'"' and self._goes_on(token.end()):
                break
            self._at = token.end()
            if kind in (b"{", b"["):
                self._depth += 1
                self._begin = self._at if self._depth == 1 else self._begin
            elif kind in (b"}", b"]") and self._depth > 1:
                self._depth -= 1
            elif kind in (b"}", b"]", b",") and self._depth == 1:
                if found := self._item(token.start()):
                    yield found
                self._is_closed = kind == b"]"

    def _goes_on(self, after_quote: int) -> bool:
        """Return whether the string of this quote may end in a later block."""
        return not self._is_read and self._buffer.find(b"\n", after_quote) < 0

    def _item(self, end: int) -> Item | None:
        content, self._begin = self._buffer[self._begin : end].strip(), self._at
        dropped, self._dropped = self._dropped, None
        if dropped is not None:
            return Item(dropped, f"is longer than {self._most:,} bytes")
        return Item(content) if content else None

    def _unclosed(self) -> Item | None:
        """Return the first line of an item of which no end was found, to go on after it; None where nothing is told."""
        rest = self._buffer[self._begin :].lstrip()
        begin = len(self._buffer) - len(rest)
        line, line_end, _ = rest.partition(b"\n")
        if not rest or (not line_end and not self._is_read):
            return self._drop(rest)
        self._recoveries += 1
        self._begin = self._at = begin + len(line) + 1
        self._depth, self._is_closed = 1, not line_end
        if self._recoveries < MOST_RECOVERIES:
            return Item(line, "is not closed")
        self._buffer, self._is_read, self._is_closed = b"", True, True
        self._begin = self._at = 0
        return Item(line, "is not closed, like so many before it that the rest is not read")

    def _drop(self, rest: bytes) -> Item | None:
        if self._is_read:
            told, self._is_closed = self._is_closed, True
            return None if told else Item(self._dropped or b"", "the array is not closed")
        if rest:
            self._dropped = self._dropped or rest[:4_096]
            in_string = TOKEN.search(self._buffer, self._at)
            escaping = (len(rest) - len(rest.rstrip(b"\\"))) % 2
            self._buffer = b'"' + b"\\" * escaping if in_string else b""
            self._begin = self._at = 0
        return None
