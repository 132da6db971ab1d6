"""Items of a YAML document of two levels, such as metrics.yaml: every scalar is text, and nothing is constructed.

A bomb of aliases is refused, because an alias counts as much as what it stands for; so are deep nesting and too many
values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

MOST_VALUES = 500_000
MOST_DEPTH = 32
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
MERGE = "<<"


class Item(NamedTuple):
    """A value of the second level, or one of the first that has no second; else why it cannot be read."""

    line: int
    path: tuple[str, ...]
    value: object
    fault: str | None = None


class _YamlError(Exception):
    def __init__(self, line: int, fault: str) -> None:
        super().__init__(fault)
        self.line = line
        self.fault = fault


class _Node(NamedTuple):
    value: object
    weight: int  # values in it, aliases included


@dataclass
class _Open:
    """A mapping or sequence that has not ended yet, and the key whose value comes next."""

    value: dict[str, object] | list[object]
    anchor: str | None
    weight: int = 1
    key: str | None = None
    merged: list[object] = field(default_factory=list)


def read_items(text: str) -> Iterator[Item]:
    """Return the items in the order of the document; where it cannot be read on, an item says why, and is the last."""
    reading = _Reading()
    ending = None
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            reading.take(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        ending = Item(line, (), None, f"is not YAML: {error.problem}")
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        ending = Item(1, (), None, f"is not YAML: {str(error).splitlines()[0]}")
    except _YamlError as error:
        ending = Item(error.line, (), None, error.fault)
    yield from reading.items()
    if ending:
        yield ending


class _Reading:
    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, _Node] = {}
        self._lines: dict[tuple[str, ...], int] = {}
        self._faults: dict[tuple[str, ...], str] = {}
        self._values = 0
        self._root: dict[str, object] = {}

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.ScalarEvent):
            is_plain = event.implicit[0] and event.style is None
            value = None if is_plain and event.value in NULLS else event.value
            self._add(_Node(value, 1), event.anchor, line)
        elif isinstance(event, yaml.AliasEvent):
            anchor = event.anchor or ""
            if anchor not in self._anchors:
                raise _YamlError(line, f"names *{anchor[:50]}, which is not above it")
            self._add(self._anchors[anchor], None, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(line)
        elif isinstance(event, yaml.DocumentStartEvent) and self._root:
            raise _YamlError(line, "begins a second document; only the first is read")

    def items(self) -> Iterator[Item]:
        """Return what has ended, and the faults."""
        found = []
        for key, value in self._root.items():
            inner = value if isinstance(value, dict) else {}
            found += [self._item((key, name), each) for name, each in inner.items()] or [self._item((key,), value)]
        known = {item.path for item in found}
        found += [self._item(path, None) for path in self._faults if path not in known]
        return iter(sorted(found, key=lambda item: item.line))

    def _item(self, path: tuple[str, ...], value: object) -> Item:
        line = self._lines.get(path) or self._lines.get(path[:1], 1)
        return Item(line, path, value, self._faults.get(path) or self._faults.get(path[:1]))

    def _path(self) -> tuple[str, ...]:
        return tuple(each.key for each in self._open[:2] if each.key is not None)

    def _begin(self, value: dict[str, object] | list[object], anchor: str | None, line: int) -> None:
        if len(self._open) >= MOST_DEPTH:
            raise _YamlError(line, f"is nested more than {MOST_DEPTH} deep")
        if not self._open:
            if not isinstance(value, dict):
                raise _YamlError(line, "must be a mapping of categories")
            self._root = value
        elif isinstance(self._open[-1].value, dict) and self._open[-1].key is None:
            raise _YamlError(line, "has a key that is no text")
        elif len(self._open) == 1 and self._open[0].key not in (None, MERGE):
            self._root[str(self._open[0].key)] = value  # at once, so that what cannot be read on is read up to there
        self._open.append(_Open(value, anchor))

    def _end(self, line: int) -> None:
        ended = self._open.pop()
        if isinstance(ended.value, dict):
            for merged in ended.merged:
                ended.value.update({key: each for key, each in _entries(merged, line) if key not in ended.value})
        if self._open:
            self._add(_Node(ended.value, ended.weight), ended.anchor, line)

    def _add(self, node: _Node, anchor: str | None, line: int) -> None:
        self._values += node.weight
        if self._values > MOST_VALUES:
            raise _YamlError(line, f"holds more than {MOST_VALUES:,} values, aliases counted as what they stand for")
        if anchor:
            self._anchors[anchor] = node
        if not self._open:
            raise _YamlError(line, "must be a mapping of categories")
        parent = self._open[-1]
        parent.weight += node.weight
        if isinstance(parent.value, list):
            parent.value.append(node.value)
        elif parent.key is None:
            self._name(parent, node.value, line)
        else:
            if parent.key == MERGE:
                parent.merged += node.value if isinstance(node.value, list) else [node.value]
            else:
                parent.value[parent.key] = node.value
            parent.key = None

    def _name(self, parent: _Open, key: object, line: int) -> None:
        if not isinstance(key, str):
            raise _YamlError(line, "has a key that is no text")
        is_known = isinstance(parent.value, dict) and key in parent.value
        parent.key = key
        path = self._path()
        if is_known:
            self._faults[path] = f"line {line}: has {key[:50]!r} twice"
        if len(self._open) <= 2:
            self._lines[path] = line


def _entries(merged: object, line: int) -> Iterator[tuple[str, object]]:
    if not isinstance(merged, dict):
        raise _YamlError(line, "merges (<<) what is no mapping")
    return iter(merged.items())
