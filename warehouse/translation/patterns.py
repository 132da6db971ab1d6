"""Regular expressions: both systems use RE2, but differ where a capturing group takes no part in the match."""

from __future__ import annotations

import re

from warehouse.errors import invalid_query, refused

TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[^:)]*[:)]|\(|\)|\||[?*]|\{|.", re.DOTALL)


class Group:
    """A group inside `parent`, or the pattern itself: whether it can be skipped, and whether it has alternatives."""

    def __init__(self, parent: Group | None, *, capturing: bool) -> None:
        self.parent = parent
        self.capturing = capturing
        self.optional = False
        self.alternatives = False

    def always_takes_part(self) -> bool:
        """Return whether every match of the pattern goes through this group."""
        outer = self.parent
        return not self.optional and (outer is None or (not outer.alternatives and outer.always_takes_part()))


def capturing_groups(pattern: str) -> int:
    """Return the number of capturing groups, 0 or 1; refuse a pattern whose group may take no part in a match."""
    groups = [group for group in _groups(pattern) if group.capturing]
    if len(groups) > 1:
        raise invalid_query(
            "Regular expressions passed into extraction functions must not have more than 1 capturing group"
        )
    if groups and not groups[0].always_takes_part():
        raise refused("REGEXP_EXTRACT with a capturing group that may take no part in the match")
    return len(groups)


def _groups(pattern: str) -> list[Group]:
    if "\\Q" in pattern or re.search(r"\(\?P?<", pattern):
        raise refused("a regular expression with \\Q or a named group")
    current = Group(None, capturing=False)
    found, closed = [current], None
    for token in TOKENS.findall(pattern):
        if token.startswith("(") and not token.endswith(")"):
            current = Group(current, capturing=token == "(")
            found.append(current)
        elif token == ")" and current.parent:
            current, closed = current.parent, current
            continue
        elif token == "|":
            current.alternatives = True
        elif token in ("?", "*", "{") and closed:
            closed.optional = True
        closed = None
    return found
