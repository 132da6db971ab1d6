"""GET /feeds/{token}: news of probes as an Atom feed, for readers that can send nothing but an address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid5

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.cursors import CursorText
from usage_service.events import ProbeName, Product
from usage_service.problems import FieldError, invalid
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.feed import (
    KINDS,
    NAMES,
    UNVIEWED_DAYS,
    News,
    NewsCursor,
    NewsFilter,
    NewsKind,
    news_revision,
    read_news,
)
from usage_service.web.addresses import address, path_of
from usage_service.web.answering import ListingQuestion, answer
from usage_service.web.answers import Body
from usage_service.web.api.atom import ATOM, Entry, Feed, atom
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import Content, described, listed, problem
from usage_service.web.parameters import cursor_of, query_parameters

OTHERS = "Probes"


class FeedPath(Struct):
    """Token of the feed, which opens nothing else."""

    token: Annotated[str, Meta(max_length=200, description="a token of scope feed: it is all that a reader needs")]


class FeedParameters(Struct, forbid_unknown_fields=True):
    """Probes to follow, all by default, and the kinds of news; `moved` is told of a probe that is named.

    `cursor` is from the link of relation `next` in the feed, and in its Link header: the feed goes on from there.
    """

    product: Product | None = None
    probe: ProbeName | None = None
    kind: Annotated[tuple[NewsKind, ...], Meta(max_length=len(KINDS))] = ()
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: CursorText | None = None


@dataclass(frozen=True)
class FeedQuestion(ListingQuestion):
    """News as of an hour."""

    only: NewsFilter
    hour: datetime
    limit: int
    after: NewsCursor | None

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue and of views by hour."""
        return ("catalogue", "timeseries")

    async def other_revision(self, connection: Connection) -> object:
        """Return what changes with builds, with what is set aside and with what is hidden."""
        return [*await news_revision(connection), await super().other_revision(connection)]

    async def answer(self, connection: Connection) -> Body:
        """Return the feed, and the link to what follows if there is more.

        Its links are relative, so that neither a token nor the name of a host is in it.
        """
        page = await read_news(connection, self.only, self.hour, self.limit, self.after)
        following = self._at(page.following) if page.following else None
        links = {"self": self._at(self.after), "alternate": _page(self.only.product, self.only.probe)}
        links |= {"first": self._at(None)} | ({"next": following} if following else {})
        about = " ".join(filter(None, [self.only.probe or OTHERS, self.only.product and f"of {self.only.product}"]))
        feed_id = uuid5(NAMES, f"feed {self.only.product} {self.only.probe} {','.join(sorted(self.only.kinds))}")
        updated = max((one.at for one in page.news), default=self.hour)
        made = Feed(feed_id, f"{about}: news", updated, links, map(_entry, page.news))
        return Body(atom(made), ATOM, following)

    def _at(self, cursor: NewsCursor | None) -> str:
        kinds = () if self.only.kinds == KINDS else self.only.kinds
        asked = {"product": self.only.product, "probe": self.only.probe, "kind": kinds}
        return address("", **asked, limit=self.limit, cursor=cursor)


@described(
    *listed(Content(ATOM, str)),
    problem(404, "the token is wrong, has expired or was revoked, or opens more than feeds"),
    query=FeedParameters,
    path=FeedPath,
)
async def get_feed(request: web.Request) -> web.Response:
    """Follow probes with a feed reader: built, moved, not viewed for 90 days, or an event of one was set aside.

    The address is the secret: it has a token of scope `feed`, and opens nothing but feeds.
    """
    asked = query_parameters(request, FeedParameters)
    kinds = tuple(kind for kind in KINDS if kind in asked.kind) or KINDS
    if "moved" in asked.kind and not (asked.product and asked.probe):
        raise invalid([FieldError(parameter="kind", detail="moved is told of one probe: name its product and probe")])
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    only = NewsFilter(asked.product, asked.probe, kinds)
    question = FeedQuestion(only, hour, asked.limit, cursor_of(asked.cursor, NewsCursor))
    made = await answer(request, FreshnessParameters(), question)
    made.headers["Cache-Control"] = "private, no-cache"
    return made


def _page(product: str | None, probe: str | None, channel: str | None = None) -> str:
    if product and probe:
        return address(path_of("probes", product, probe), channel=channel)
    return address("/", product=product)


def _entry(one: News) -> Entry:
    title, summary = _words(one)
    return Entry(one.news_id, title, one.at, _page(one.product, one.probe, one.channel), one.kind, summary)


def _words(one: News) -> tuple[str, str]:
    """Return the title and the text of news."""
    name = f"{one.probe} of {one.product}"
    if one.kind == "built":
        if one.channel is None:
            return f"{name} was built by the ETL", f"The ETL built {name} on {one.at:%Y-%m-%d}."
        numbers = f"{one.rows or 0:,} rows, {one.bytes or 0:,} bytes read"
        return f"{name} was built for {one.channel}", f"{name} was built for {one.channel}: {numbers}."
    if one.change:
        where = f"build {one.change.build_id} (version {one.change.version})"
        told = f"{name} on {one.channel} differs from build {one.change.build_before} beyond chance"
        return f"{name} moved at {where}", f"{told}, p = {one.change.largest.p_value:.2g} for all builds looked at."
    if one.kind == "unviewed":
        last = f"last viewed on {one.viewed_at:%Y-%m-%d}" if one.viewed_at else "never viewed"
        return f"{name} went unviewed for {UNVIEWED_DAYS} days", f"{name} was {last}."
    about = f" of {name}" if one.probe and one.product else ""
    event = f"the event at position {one.position}{about}"
    return (
        f"An event{about} was set aside by {one.projection}",
        f"{one.projection} goes on without {event}: {one.error}.",
    )
