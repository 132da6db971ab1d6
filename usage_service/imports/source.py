"""A file as its formats read it: lines, rows, JSON values, or one document; what cannot be read is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedReader
from itertools import chain, pairwise
from pathlib import Path
from stat import S_ISREG
from typing import Literal, NamedTuple, NoReturn, cast

import msgspec

from usage_service.imports.json_items import items
from usage_service.imports.refusals import HALF_A_CHARACTER, Refusal, UnreadableFileError, broken_field
from usage_service.imports.unpacking import Unpacked
from usage_service.problems import NOT_JSON, not_json

HEAD_BYTES = 1 << 16
MOST_LINE_BYTES = 1 << 20
MOST_DOCUMENT_BYTES = 64 << 20
MOST_ROW_LINES = 100  # physical lines of one row, whose cells have line ends in them
MOST_SHAPE_LINES = 20
KEPT_BYTES = 4_096  # of a refused line
TOO_LONG = f"is longer than {MOST_LINE_BYTES:,} bytes"
STDIN = Path("-")
EMPTY_ARRAYS = ([b"[]"], [b"[", b"]"])
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half of a character, as JSON escapes it
EXCELS_LINE = re.compile(r'"?sep=([,;|\t])"?\s*', re.IGNORECASE)
OPEN_QUOTE = "unexpected end of data"  # as the csv module says it

Shape = Literal["lines", "array", "document"]
Kept = bytes | str | None


class Text(NamedTuple):
    """A physical line, or the reason why it cannot be read."""

    number: int
    text: str | None
    refusal: Refusal | None = None


class Row(NamedTuple):
    """A row of a table by the names of its header, or the reason why it cannot be read."""

    number: int
    values: dict[str, str] | None
    refusal: Refusal | None = None


class Value(NamedTuple):
    """A JSON value, or the reason why it cannot be read."""

    number: int
    value: object
    refusal: Refusal | None = None


class _Physical(NamedTuple):
    number: int
    content: bytes
    fault: str | None = None


class Source:
    """One file, which is read once, in one of four ways.

    `position` is the number of the line (or item of an array) that was read last, `current` is its text; a document
    has neither.
    """

    def __init__(self, raw: BufferedReader, name: str, status: os.stat_result | None) -> None:
        self.name = name
        self.size = status and status.st_size
        self.modified = status and status.st_mtime_ns
        self.position = 0
        self._current: Kept = None
        self.raw = raw
        self._skip = 0
        self._unpacked = Unpacked(raw, raw.peek(4)[:4])
        blocks = self._unpacked.blocks()
        begin = b""
        while len(begin) < _head_bytes(begin) and (block := next(blocks, None)) is not None:
            begin += block
        self.head = begin[: _head_bytes(begin)]
        self._blocks = chain([begin], blocks)

    @property
    def fault(self) -> str | None:
        """Return why the file could not be read on, so far."""
        return self._unpacked.fault

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing in the file, such as an answer without records."""
        return not self._unpacked.fault and (not self.head.strip() or self.head.split() in EMPTY_ARRAYS)

    @property
    def current(self) -> Kept:
        """Return the text read last, of which a refusal would tell, as far as it is kept."""
        return self._current and self._current[:KEPT_BYTES]

    def bytes_read(self) -> int:
        """Return how many bytes of the file as it is on disk were read."""
        return self.raw.tell() if self.size is not None else 0

    def skip_to(self, position: int) -> None:
        """Leave out what was read up to a `position` before."""
        self._skip = position

    def lines(self) -> Iterator[Text]:
        """Read the physical lines, which end in LF, CRLF or CR."""
        for line in self._physical():
            self.position, self._current = line.number, line.content
            yield _text(line)

    def rows(self) -> Iterator[Row]:
        """Read the rows of a table, whose header says by what they are separated."""
        skip, self._skip = self._skip, 0
        physical = self._physical()
        texts = map(_text, physical)
        filled = (text for text in texts if text.text is None or text.text.strip())
        header = next(filled, None)
        delimiter = told_delimiter(header.text) if header and header.text else None
        if delimiter:
            header = next(filled, None)
        if header is None:
            return
        if header.text is None:
            raise UnreadableFileError(f"{self.name}: the first line {header.refusal}")
        table = _Table(header.text, delimiter or likely_delimiter(header.text), self.name, texts)
        self._skip = skip
        for row, last, text in table.rows():
            self.position, self._current = last, text
            yield row

    def values(self) -> Iterator[Value]:
        """Read JSON: a value on each line, the items of one array, or one document."""
        shape = json_shape(self.head)
        if shape == "document":
            yield Value(1, self.document())
            return
        found = self._physical() if shape == "lines" else self._items()
        for line in found:
            self.position, self._current = line.number, line.content
            if line.content.strip() or line.fault:
                yield _value(line)

    def document(self) -> object:
        """Read the file as one JSON document. Raise UnreadableFileError where it is none, or is too large."""
        content = bytearray()
        for block in self._blocks:
            content += block
            if len(content) > MOST_DOCUMENT_BYTES:
                raise UnreadableFileError(
                    f"{self.name}: is a JSON document of more than {MOST_DOCUMENT_BYTES >> 20} MiB; write a value on"
                    " each line instead"
                )
        if self._unpacked.fault:
            raise UnreadableFileError(f"{self.name}: {self._unpacked.fault}")
        try:
            return _decoded(bytes(content))
        except NOT_JSON as error:
            raise UnreadableFileError(f"{self.name}: is {not_json(error)}") from None

    def _items(self) -> Iterator[_Physical]:
        number = 0
        for number, (content, fault) in enumerate(items(self._blocks, MOST_LINE_BYTES), 1):
            if number > self._skip:
                yield _Physical(number, content, fault)
        if self._unpacked.fault:
            yield _Physical(number + 1, b"", self._unpacked.fault)

    def _physical(self) -> Iterator[_Physical]:
        end = b"\r" if b"\n" not in self.head and b"\r" in self.head else b"\n"
        number, rest, dropping = 0, b"", False
        for block in self._blocks:
            *whole, rest = (rest + block).split(end)
            for line in whole:
                number += 1
                if number > self._skip:
                    fault = TOO_LONG if dropping or len(line) > MOST_LINE_BYTES else None
                    yield _Physical(number, line.removesuffix(b"\r"), fault)
                dropping = False
            if len(rest) > MOST_LINE_BYTES:  # its beginning is enough to tell of it
                dropping, rest = True, rest[:MOST_LINE_BYTES]
        yield from self._last_lines(number, rest, dropping)

    def _last_lines(self, number: int, rest: bytes, dropping: bool) -> Iterator[_Physical]:
        fault = self._unpacked.fault
        if rest:
            number += 1
            own = fault if self._unpacked.is_cut else TOO_LONG if dropping else None
            if number > self._skip:
                yield _Physical(number, rest.removesuffix(b"\r"), own)
        if fault and not (rest and self._unpacked.is_cut):
            yield _Physical(number + 1, b"", fault)


class _Table:
    """Rows of a table with a header, in which an unclosed quote spoils one line and not those after it."""

    def __init__(self, header: str, delimiter: str, name: str, texts: Iterator[Text]) -> None:
        self._delimiter = delimiter
        self._names = [column_name(cell) for cell in self._cells([header]) or []]
        if len(set(self._names)) < len(self._names) or not all(self._names):
            raise UnreadableFileError(f"{name}: the first line must name each column, and each of them once")
        self._texts = texts
        self._ahead: deque[Text] = deque()

    def rows(self) -> Iterator[tuple[Row, int, str]]:
        """Read rows, each with the number of its last physical line and its text."""
        while text := self._ahead.popleft() if self._ahead else next(self._texts, None):
            if text.text is None:
                yield Row(text.number, None, text.refusal), text.number, ""
            elif text.text.strip():
                yield self._row(text.number, text.text)

    def _row(self, number: int, text: str) -> tuple[Row, int, str]:
        try:
            cells = self._cells([text])
            if cells is not None:
                return Row(number, *self._named(cells)), number, text
            return self._row_of_lines(number, text)
        except csv.Error as error:
            return Row(number, None, Refusal(None, str(error))), number, text

    def _row_of_lines(self, number: int, text: str) -> tuple[Row, int, str]:
        """Read a row whose quote is not closed on its first line, if the lines after it are of the same row."""
        try:
            found = self._over_lines(number, text)
        except csv.Error:
            found = None
        return found or (Row(number, None, Refusal(None, "has a quote that is not closed")), number, text)

    def _over_lines(self, number: int, text: str) -> tuple[Row, int, str] | None:
        lines = [f"{text}\n"]
        while len(lines) < MOST_ROW_LINES and (more := self._look_ahead(len(lines) - 1)) is not None:
            lines.append(f"{more}\n")
            if '"' in more and (cells := self._cells(lines)) is not None:
                named, refusal = self._named(cells)
                if refusal is None:
                    last = [self._ahead.popleft().number for _ in lines[1:]][-1]
                    return Row(number, named), last, "".join(lines)
                break
        return None

    def _look_ahead(self, index: int) -> str | None:
        while len(self._ahead) <= index:
            text = next(self._texts, None)
            if text is None:
                return None
            self._ahead.append(text)
        return self._ahead[index].text

    def _named(self, cells: list[str]) -> tuple[dict[str, str] | None, Refusal | None]:
        if len(cells) != len(self._names):
            return None, Refusal(None, f"has {len(cells)} cells where the first line has {len(self._names)}")
        return dict(zip(self._names, cells, strict=True)), None

    def _cells(self, lines: list[str]) -> list[str] | None:
        """Return the cells of a row, None while a quote is open. Raise csv.Error."""
        try:
            return next(csv.reader(lines, delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            if str(error) == OPEN_QUOTE:
                return None
            raise


def told_delimiter(line: str) -> str | None:
    """Return what the line that Excel puts before a table says cells are separated by, None of any other line."""
    told = EXCELS_LINE.fullmatch(line)
    return told and told[1]


def likely_delimiter(header: str) -> str:
    """Return what the cells of the first line of a table are separated by."""
    return max(",;\t", key=header.count)


def column_name(cell: str) -> str:
    """Return the name of a column as formats know it: all of theirs are in small letters."""
    return cell.strip().lower()


def _head_bytes(begin: bytes) -> int:
    """Return how long the head of a file is: 64 KiB, and further where its first line is longer than that."""
    line_ends = [end for end in (begin.find(b"\n"), begin.find(b"\r")) if end >= 0]
    return HEAD_BYTES + min(min(line_ends, default=len(begin)), MOST_LINE_BYTES)


def json_shape(head: bytes) -> Shape:
    """Return how a file of JSON that begins with `head` is laid out, also where its first line is damaged."""
    begin = head.lstrip()
    first, *others = [line for line in begin.splitlines() if line.strip()][:MOST_SHAPE_LINES] or [b""]
    are_objects = [_is_object(line) for line in others]
    if first.startswith(b"["):
        # Between two items there is a comma, and after the end of an array there is nothing.
        are_lines = any(map(all, pairwise(are_objects))) or (any(are_objects) and _is_json(first))
        return "lines" if are_lines else "array"
    is_open = first.startswith(b"{") and first.rstrip().endswith((b"{", b"[", b",", b":"))
    # A document is indented, or it is a single line.
    are_lines = any(is_object and line.startswith(b"{") for line, is_object in zip(others, are_objects, strict=True))
    return "document" if is_open and others and not are_lines else "lines"


def _is_object(line: bytes) -> bool:
    return line.lstrip().startswith(b"{") and _is_json(line)


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except NOT_JSON:
        return False
    return True


def _decoded(content: bytes) -> object:
    """Decode JSON; half a character in it (a lone surrogate) spoils the field that has it, and not all."""
    try:
        return msgspec.json.decode(content)
    except NOT_JSON as error:
        if b"\\u" not in content:
            raise
        try:
            return json.loads(content, parse_constant=_no_number)
        except ValueError:
            raise error from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _text(line: _Physical) -> Text:
    if line.fault:
        return Text(line.number, None, Refusal(None, line.fault))
    try:
        text = line.content.decode()
    except UnicodeDecodeError as error:
        return Text(line.number, None, Refusal(None, f"is not UTF-8: {error}"))
    if "\0" in text:
        return Text(line.number, None, Refusal(None, "holds a NUL character"))
    return Text(line.number, text)


def _value(line: _Physical) -> Value:
    if line.fault:
        return Value(line.number, None, Refusal(None, line.fault))
    try:
        value = _decoded(line.content)
        if SURROGATE.search(line.content) and (broken := broken_field(value)):
            return Value(line.number, None, Refusal(broken, HALF_A_CHARACTER))
        return Value(line.number, value)
    except NOT_JSON as error:
        return Value(line.number, None, Refusal(None, f"is {not_json(error)}"))


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a file, or the standard input as `-`."""
    is_stdin = path == STDIN
    try:
        raw = sys.stdin.buffer if is_stdin else path.open("rb")
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror or error}; name another file") from None
    with nullcontext(raw) if is_stdin else raw:
        # A pipe, such as that of <(...) in a shell, has no size, and nothing by which it would be known again.
        stat = None if is_stdin else os.fstat(raw.fileno())
        is_file = stat is not None and S_ISREG(stat.st_mode)
        yield Source(cast(BufferedReader, raw), path.name, stat if is_file else None)
