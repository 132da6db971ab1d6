"""The layout of a table in a terminal: which columns there is room for, and their widths, without a broken word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

GAP, LEAST_GAP = 2, 1
# What is not broken: a run of letters, and a time with its day.
_WORDS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(?::[0-9]{2})?|\S+")


class Column(NamedTuple):
    """Column of a table: its name, its cells, and whether they are numbers, which end below each other."""

    name: str
    cells: Sequence[str]
    is_number: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """Return its name and its cells."""
        return self.name, *self.cells

    @property
    def longest_word(self) -> int:
        """Return the width below which a word would be broken."""
        return max((cell_len(word) for text in self.texts for word in words(text)), default=1)

    @property
    def longest_text(self) -> int:
        """Return the width at which each cell is one line."""
        return max(1, *(cell_len(text) for text in self.texts))


def words(text: str) -> list[str]:
    """Return the words of a text, which are never broken; a time and its day are one."""
    return _WORDS.findall(text)


def fitting(columns: Sequence[Column], room: int | None) -> list[Column]:
    """Return the columns for which there is room, the first ones; all of them without a limit."""
    kept = list(columns)
    while room is not None and len(kept) > 1 and _sum([one.longest_word for one in kept], LEAST_GAP) > room:
        kept.pop()
    return kept


def widths(columns: Sequence[Column], room: int | None, gap: int = GAP) -> list[int]:
    """Return the widths of columns that fit: each has its longest word, and what is left goes to the longer texts."""
    wanted = [one.longest_text for one in columns]
    if room is None or _sum(wanted, gap) <= room:
        return wanted
    given = [min(one.longest_word, room) for one in columns]
    while _sum(given, gap) < room:
        short = [index for index, width in enumerate(given) if width < wanted[index]]
        given[min(short, key=lambda index: given[index])] += 1
    return given


def lines(columns: Sequence[Column], room: int | None) -> Iterator[str]:
    """Yield the lines of a table, that with the names first."""
    least = _sum([one.longest_word for one in columns], GAP)
    gap = GAP if room is None or least <= room else LEAST_GAP
    sizes = widths(columns, room, gap)
    for texts in zip(*(one.texts for one in columns), strict=True):
        cells = [wrapped(text, size) for text, size in zip(texts, sizes, strict=True)]
        for line in range(max(map(len, cells))):
            parts = (cell[line] if line < len(cell) else "" for cell in cells)
            placed = map(_placed, parts, sizes, (one.is_number for one in columns))
            yield (" " * gap).join(placed).rstrip()


def blocks(columns: Sequence[Column], room: int) -> Iterator[str]:
    """Yield each row as lines of its own, a name and its value in each: for what no table has room for."""
    names = max(cell_len(one.name) for one in columns)
    for row in zip(*(one.cells for one in columns), strict=True):
        for column, text in zip(columns, row, strict=True):
            first, *rest = wrapped(text, max(1, room - names - GAP))
            yield f"{_placed(column.name, names, False)}{' ' * GAP}{first}".rstrip()
            yield from (" " * (names + GAP) + more for more in rest)
        yield ""


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of a width; a word is broken only where it is wider than that alone."""
    if cell_len(text) <= width:
        return [text]
    done: list[str] = []
    line = ""
    for word in words(text):
        if line and cell_len(line) + 1 + cell_len(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            done.append(line)
        line = word
        while cell_len(line) > width:
            head = set_cell_size(line, width).rstrip() or line[:1]
            done.append(head)
            line = line[len(head) :]
    return [*done, line] if line or not done else done


def _placed(text: str, width: int, is_number: bool) -> str:
    space = " " * max(0, width - cell_len(text))
    return space + text if is_number else text + space


def _sum(sizes: Sequence[int], gap: int) -> int:
    return sum(sizes) + gap * (len(sizes) - 1)
