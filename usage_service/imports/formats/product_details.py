"""Files of Mozilla's product-details (https://product-details.mozilla.org/1.0/) as events of releases.

Read are histories (from version to day: `firefox_history_major_releases.json` and the like), lists of releases
(`firefox.json`, `all.json`: with product and category), and the current versions (`firefox_versions.json`). The
version says the channel; the file's name or the release says the product. A release is the first day of any version of
a channel and major number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from usage_service.events import Name
from usage_service.imports.lines import Example, Format, JsonObject, Line, Options
from usage_service.imports.refusals import Refusal, UnreadableFileError, checked, printable, refusal_of
from usage_service.imports.source import Source

HISTORY = re.compile(rb'\s*\{\s*"[0-9]+\.[^"\n]{0,30}"\s*:\s*"')
RELEASES = re.compile(rb'\s*\{\s*"releases"\s*:')
VERSIONS = re.compile(rb'\s*\{\s*"(FIREFOX|LATEST_FIREFOX|LAST|NEXT)_[A-Z_]+"\s*:')
# What else is there, by how it begins or by its name.
OTHERS = {
    "names versions without their days; firefox_versions.json, mobile_android.json and the histories have them": (
        re.compile(
            rb'\s*\{\s*"(alpha_version|beta_version|ios_beta_version|nightly_version|version|LATEST_THUNDERBIRD_[A-Z_]+)"\s*:'
        ),
        re.compile(r"(mobile|thunderbird)_(versions|details)"),
    ),
    "names locales, and no releases": (
        re.compile(rb'\s*\{\s*"locales"\s*:|\s*\{\s*"[A-Za-z-]{2,10}"\s*:\s*\{\s*"English"\s*:'),
        re.compile(r"languages|firefox_history_locales"),
    ),
    "names builds, and no releases": (
        re.compile(rb'\s*\{\s*"[A-Za-z-]{2,10}"\s*:\s*\{\s*"[0-9.]+[0-9a-z.]*"\s*:\s*\{'),
        re.compile(r"(firefox|thunderbird)_(primary|beta)_builds"),
    ),
    "names regions, and no releases": (re.compile(rb'\s*\{\s*"[a-z]{2}"\s*:\s*"'), re.compile(r"regions")),
}
VERSION = re.compile(
    r"(?P<major>[0-9]{1,5})(\.(?P<minor>[0-9]{1,5}))?(\.[0-9]{1,5}){0,3}"
    r"(-?(?P<stage>a|b|rc|alpha|beta)\.?(?P<number>[0-9]{0,5}))?(?P<esr>esr)?"
)
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# GLAM's products, the channel of all that an app publishes, and other names of the product that are right, too.
FIREFOX, FENIX, DEVELOPER_EDITION = ("fog", None, "firefox"), ("fenix", None, None), ("fog", "aurora", "firefox")
APPS = {"firefox": FIREFOX, "devedition": DEVELOPER_EDITION, "fenix": FENIX, "firefox-android": FENIX}
NAMED = re.compile(r"(?P<app>firefox|mobile|thunderbird)_history_(?P<kind>major|stability|development)_releases")
KINDS = {"major": "release", "stability": "release", "development": "beta"}
FIRST_FENIX = 79
ESR = frozenset({10, 17, 24, 31, 38, 45, 52, 60, 68, 78, 91, 102, 115, 128, 140})
CATEGORIES = {"major": "release", "stability": "release", "dev": "beta", "esr": "esr"}
# The key of a channel's version and the key of the day since when it has been.
CURRENT = {
    "nightly": (("FIREFOX_NIGHTLY",), "LAST_MERGE_DATE"),
    "beta": (("LATEST_FIREFOX_DEVEL_VERSION", "FIREFOX_DEVEDITION"), "LAST_MERGE_DATE"),
    "release": (("LATEST_FIREFOX_VERSION",), "LAST_RELEASE_DATE"),
}
MOST_REASONS = 3
LATER = "another version of its major number came first"


class Release(msgspec.Struct, frozen=True):
    """One of the list of `firefox.json`, `devedition.json`, `mobile_android.json` or `all.json`.

    What else it has is passed over. Histories have versions and days alone, `firefox_versions.json` those of today.
    """

    product: Annotated[Name, Meta(description="firefox and devedition are fog, fenix is fenix")]
    version: Annotated[Name, Meta(description="such as 100.0, 100.0b1 or 102.1.0esr; it says the channel")]
    date: Annotated[str, Meta(description="such as 2022-05-03")]
    category: Annotated[str | None, Meta(description="major, stability, dev or esr")] = None


class Found(NamedTuple):
    """A version of an app and its day, as a file has them, and the channel that the file says by other words."""

    number: int
    name: str
    app: str | None
    version: str
    day: object
    said: str | None = None


class Published(NamedTuple):
    """The release of a major version."""

    product: str
    channel: str
    major: int
    day: str


class _LeftOutError(Exception):
    """A version is good and nothing to record; the message says why."""


class _RefusedError(Exception):
    """A version cannot be recorded; the message says why."""


def recognizes(head: bytes, name: str) -> bool:
    """Return whether a file that begins so, or is named so, is of product-details."""
    return any(shape.match(head) for shape in (HISTORY, RELEASES, VERSIONS)) or bool(_other(head, name))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the releases: the first day of each major version on each channel; every other entry says what it is."""
    document = source.document()
    if not isinstance(document, dict):
        raise UnreadableFileError(f"{source.name}: must be a JSON object")
    is_history = bool(HISTORY.match(source.head))
    if RELEASES.match(source.head):
        found = _listed(document, source.name)
    elif VERSIONS.match(source.head):
        found = _current(document)
    elif is_history:
        found = _history(document, source.name)
    else:
        raise UnreadableFileError(f"{source.name}: {_other(source.head, source.name) or 'names no releases'}")
    judged = [_judged(each, options, is_history=is_history) if isinstance(each, Found) else each for each in found]
    read = _firsts(judged)
    _require_some(read, source.name)
    return iter(read)


def _other(head: bytes, name: str) -> str | None:
    for what, (shape, named) in OTHERS.items():
        if shape.match(head) or (named.match(name) and ".json" in name and head.lstrip().startswith(b"{")):
            return what
    return None


def _listed(document: JsonObject, file: str) -> Iterator[Found | Line]:
    releases = document["releases"]
    if not isinstance(releases, dict):
        raise UnreadableFileError(f"{file}: releases must be an object of releases by their names")
    for number, (name, value) in enumerate(releases.items(), 1):
        try:
            release = checked(value, Release)
        except msgspec.ValidationError as error:
            wrong = refusal_of(error)
            yield Line(number, [], Refusal(wrong.field, wrong.reason, name))
            continue
        said = CATEGORIES.get(release.category or "")
        yield Found(number, name, printable(release.product), release.version, release.date, said)


def _history(document: JsonObject, name: str) -> Iterator[Found]:
    named = NAMED.search(name)
    app = ("fenix" if named["app"] == "mobile" else named["app"]) if named else None
    said = KINDS[named["kind"]] if named else None
    for number, (version, day) in enumerate(document.items(), 1):
        yield Found(number, version, app, version, day, said)


def _current(document: JsonObject) -> Iterator[Found | Line]:
    nightly = VERSION.fullmatch(str(document.get("FIREFOX_NIGHTLY")))
    for number, (channel, (keys, since)) in enumerate(CURRENT.items(), 1):
        key = next((key for key in keys if document.get(key)), None)
        if key is None or not document.get(since):
            yield Line(number, [], left_out=f"the file has no {since if key else ' or '.join(keys)}")
            continue
        version = str(document[key])
        major = VERSION.fullmatch(version)
        if channel == "beta" and nightly and major and int(major["major"]) != int(nightly["major"]) - 1:
            # Just after a merge: the day is that of the next beta, which is not out yet.
            yield Line(number, [], left_out=f"the file does not say since when {version} has been {channel}")
            continue
        yield Found(number, key, "firefox", version, document[since], channel)
    for number, key in enumerate(("FIREFOX_ESR", "FIREFOX_ESR_NEXT"), len(CURRENT) + 1):
        if document.get(key):
            yield Line(number, [], left_out="the file does not say since when there has been that ESR")


def _judged(found: Found, options: Options, *, is_history: bool) -> Line | tuple[Found, Published]:
    """Judge a version. In a history one that contradicts what was asked for is refused; other files hold several."""
    try:
        return found, _published(found, options, is_history=is_history)
    except _LeftOutError as why:
        return Line(found.number, [], left_out=str(why))
    except _RefusedError as why:
        return Line(found.number, [], Refusal(None, str(why), found.name))


def _published(found: Found, options: Options, *, is_history: bool) -> Published:
    version = VERSION.fullmatch(found.version)
    if version is None:
        raise _RefusedError("has no version, such as 100.0, 100.0b1 or 102.1.0esr")
    if not isinstance(found.day, str) or not _is_day(found.day):
        raise _RefusedError("has no day, such as 2022-05-03")
    product, of_app = _product(found, int(version["major"]), options, is_history=is_history)
    channel = of_app or _channel(found, version, is_of_firefox=is_history and product in ("fog", "firefox"))
    if options.channel not in (None, channel):
        raise _contradiction(f"is of the channel {channel} and not {options.channel}, as --channel says", is_history)
    return Published(product, channel, int(version["major"]), found.day)


def _is_day(text: str) -> bool:
    try:
        return bool(DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _product(found: Found, major: int, options: Options, *, is_history: bool) -> tuple[str, str | None]:
    if found.app is None:
        if options.product is None:
            raise _RefusedError("the file does not say of which product it is; say it, such as --product fog")
        return options.product, None
    if found.app == "fennec" or (found.app == "fenix" and major < FIRST_FENIX):
        raise _LeftOutError(f"is of Fennec, Firefox for Android before Fenix ({FIRST_FENIX})")
    if found.app not in APPS:
        if options.product != found.app:
            why = f"is of {found.app}, which GLAM does not show; --product {found.app} records it"
            raise _contradiction(why, is_history)
        return found.app, None
    product, channel, other = APPS[found.app]
    if options.product not in (None, product, other):
        raise _contradiction(f"is of {found.app}, which is {product} and not {options.product}", is_history)
    return options.product or product, channel


def _channel(found: Found, version: re.Match[str], *, is_of_firefox: bool) -> str:
    """Return the channel that the version says, else the release's category or the file's name.

    Histories of Firefox leave out `esr`: there N.M.P of a version with extended support is of that, because its
    releases are N.0 and N.0.P. 33.1.1 and 50.1.0 were releases; of versions to come the same is taken as of these.
    """
    by_stage = {"a": "nightly", "alpha": "nightly", "b": "beta", "beta": "beta", "rc": "beta"}
    if version["stage"] in ("a", "alpha") and version["number"] == "2":
        return "aurora"
    told = by_stage.get(version["stage"] or "") or ("esr" if version["esr"] else None)
    if told is None and found.said == "beta":
        raise _RefusedError("is said to be a beta, and is none by its version")
    if told in ("beta", "nightly") and found.said not in (None, told):
        raise _RefusedError(f"is said to be {found.said}, and is {told} by its version")
    if told:
        return told
    major, minor = int(version["major"]), int(version["minor"] or 0)
    if is_of_firefox and minor and version[0].count(".") > 1 and (major in ESR or major > max(ESR)):
        return "esr"
    return found.said or "release"


def _contradiction(why: str, is_history: bool) -> Exception:
    return _RefusedError(why) if is_history else _LeftOutError(why)


def _firsts(judged: Iterable[Line | tuple[Found, Published]]) -> list[Line]:
    """Return an event for the first day of each major version; the others are left out."""
    judged = list(judged)
    first: dict[tuple[str, str, int], tuple[str, int]] = {}
    for each in judged:
        if not isinstance(each, Line):
            found, release = each
            key, day = release[:3], (release.day, found.number)
            first[key] = min(first.get(key, day), day)
    return [each if isinstance(each, Line) else _line(*each, first[each[1][:3]][1]) for each in judged]


def _line(found: Found, release: Published, first: int) -> Line:
    if found.number != first:
        return Line(found.number, [], left_out=LATER)
    event = {
        "type": "release_published",
        "occurred_at": f"{release.day}T00:00:00+00:00",
        "product": release.product,
        "channel": release.channel,
        "data": {"version": release.major},
    }
    return Line(found.number, [event])


def _require_some(read: list[Line], name: str) -> None:
    """Raise UnreadableFileError where nothing can be recorded, for few reasons."""
    reasons = dict.fromkeys(line.refusal.reason if line.refusal else line.left_out or "" for line in read)
    if not any(line.events for line in read) and len(reasons) <= MOST_REASONS:
        raise UnreadableFileError(f"{name}: {'; '.join(reasons) or 'names no releases'}")


EXAMPLE = Example(
    """\
{
  "99.0": "2022-04-05",
  "100.0": "2022-05-03",
  "100.0.1": "2022-05-16",
  "101.0": "soon"
}
""",
    "firefox_history_stability_releases.json",
)
FORMAT = Format("product-details", "releases of Mozilla's product-details", recognizes, lines, (Release,), EXAMPLE)
