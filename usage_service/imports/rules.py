"""Rules, as a TOML file: which request is which event, and which is nothing to record.

Patterns are those of RE2, whose time grows with the length of a path and with nothing else: no pattern can stand still.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import parse_qs

import msgspec
import re2
from msgspec import Meta

from usage_service.events import Channel, Name, ProbeName, Product
from usage_service.imports.refusals import UnreadableFileError, checked, refusal_of

GLAM = "glam_rules.toml"
MOST_FILE_BYTES = 1 << 20
MOST_QUERY_FIELDS = 100

EventType = Literal["page_viewed", "probe_viewed"]
FieldName = Literal["product", "channel", "probe", "ping_type", "os", "aggregation_level"]
Pattern = Annotated[str, Meta(min_length=1, max_length=2_000)]
Parameters = Annotated[list[str], Meta(min_length=1, max_length=10)]


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields that a rule may tell of a view; the last three are its filters."""

    product: Product | None = None
    channel: Channel | None = None
    probe: ProbeName | None = None
    ping_type: Name | None = None
    os: Name | None = None
    aggregation_level: Name | None = None


NO_FIELDS = Fields()
FIELD_NAMES = Fields.__struct_fields__


class Rule(Fields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule. It holds for requests of one of its `methods` whose whole path, unquoted, matches `path`.

    A field comes from a named group of `path`, else from the first of its parameters of the `query` that is there, else
    it is what the rule says it is.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100, description="tells the rule in messages")]
    path: Annotated[Pattern, Meta(description="a regular expression of RE2, such as `/(?P<product>fog)/.*`")]
    methods: Annotated[tuple[str, ...], Meta(min_length=1, max_length=20)] = ("GET",)
    statuses: Annotated[list[int] | None, Meta(description="where the rule holds for some only")] = None
    events: Annotated[tuple[EventType, ...], Meta(description="what such a request is")] = ()
    leave_out: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200)] | None,
        Meta(description="why such a request is nothing to record, instead of `events`"),
    ] = None
    query: Annotated[dict[FieldName, Parameters], Meta(description="parameters that hold a field")] = {}


class RulesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules in their order, of which the first that holds counts, and the hosts of the app itself."""

    rule: Annotated[list[Rule], Meta(min_length=1, max_length=1_000)]
    hosts: Annotated[list[str], Meta(description="links from them are within the app: they are no referrers")] = []


class Matched(NamedTuple):
    """What a rule makes of a request."""

    events: tuple[EventType, ...] = ()
    fields: Fields = NO_FIELDS
    left_out: str | None = None


class _Compiled(NamedTuple):
    rule: Rule
    path: re2._Regexp[str]


class Rules:
    """Rules that were read and checked."""

    def __init__(self, file: RulesFile, compiled: list[_Compiled]) -> None:
        self.hosts = frozenset(host.lower() for host in file.hosts)
        self._compiled = compiled

    def match(self, method: str, path: str, query: str, status: int) -> Matched | None:
        """Return what the first rule that holds makes of a request, None if no rule does."""
        for rule, pattern in self._compiled:
            holds = method in rule.methods and (rule.statuses is None or status in rule.statuses)
            if holds and (match := pattern.fullmatch(path)):
                groups = match.groupdict() if pattern.groups else {}
                return _matched(rule, {name: value for name, value in groups.items() if value}, query)
        return None


def read_rules(path: Path | None) -> Rules:
    """Read rules, GLAM's own without a file of others. Raise UnreadableFileError for the first that is wrong."""
    if path is None:
        return _glam_rules()
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror or error}; name another file") from None
    if len(content) > MOST_FILE_BYTES:
        raise UnreadableFileError(f"{path}: is longer than {MOST_FILE_BYTES:,} bytes")
    return _rules(path.name, content)


@lru_cache(1)
def _glam_rules() -> Rules:
    return _rules(GLAM, (files(__package__) / GLAM).read_bytes())


def _rules(name: str, content: bytes) -> Rules:
    try:
        file = msgspec.convert(given := tomllib.loads(content.decode()), RulesFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableFileError(f"{name}: is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise UnreadableFileError(f"{name}: {_told(error, given)}") from None
    compiled = []
    for number, rule in enumerate(file.rule, 1):
        try:
            compiled.append(_Compiled(rule, _pattern(rule)))
        except ValueError as error:
            raise UnreadableFileError(f"{name}: rule {number} ({rule.name}): {error}") from None
    return Rules(file, compiled)


def _pattern(rule: Rule) -> re2._Regexp[str]:
    """Return the pattern of a rule. Raise ValueError naming the key that is wrong, and what would be right."""
    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(rule.path, options)
    except re2.error as error:
        said = error.args[0]
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(
            f"path: is no regular expression of RE2 ({text}); there are no look-arounds and back-references in it"
        ) from None
    if unknown := sorted(set(pattern.groupindex) - set(FIELD_NAMES)):
        raise ValueError(f"path: names the group {unknown[0]}; name groups {', '.join(FIELD_NAMES)}, or use (?:...)")
    if bool(rule.events) == bool(rule.leave_out):
        raise ValueError("events: say what such a request is, or with leave_out why it is nothing, and not both")
    told = set(pattern.groupindex) | set(rule.query) | {name for name in FIELD_NAMES if getattr(rule, name)}
    if "probe_viewed" in rule.events and "probe" not in told:
        raise ValueError("probe: is needed by probe_viewed; name a group of path so, or a parameter in query")
    return pattern


def _told(error: msgspec.ValidationError, given: dict[str, object]) -> str:
    """Return what is wrong with a file of rules, and what would be right; the rule by its number and name."""
    wrong = refusal_of(error, RulesFile)
    place = (wrong.field or "").split("/")
    rules = given.get("rule")
    if place[0] != "rule" or not isinstance(rules, list) or not place[1:2]:
        return f"{wrong}; each rule begins with [[rule]]" if place[0] == "rule" else str(wrong)
    rule = rules[int(place[1])]
    name = rule.get("name") if isinstance(rule, dict) else None
    return f"rule {int(place[1]) + 1}{f' ({name})' if name else ''}: {'/'.join(place[2:])}: {wrong.reason}"


def _matched(rule: Rule, groups: dict[str, str], query: str) -> Matched:
    if rule.leave_out:
        return Matched(left_out=rule.leave_out)
    values = {name: value for name in FIELD_NAMES if (value := getattr(rule, name))}
    if query and rule.query:
        values |= _parameters(rule, query)
    values |= groups
    try:
        return Matched(rule.events, checked(values, Fields))
    except msgspec.ValidationError as error:
        return Matched(left_out=f"no valid {refusal_of(error).field} in its address")


def _parameters(rule: Rule, query: str) -> dict[str, str]:
    try:
        given = parse_qs(query, max_num_fields=MOST_QUERY_FIELDS)
    except ValueError:  # more of them than any page has
        return {}
    found: dict[str, str] = {}
    for field, names in rule.query.items():
        value = next((given[name][0] for name in names if name in given), None)
        if value:
            found[field] = value
    return found
