"""Access logs of every format become the views that the middleware would have recorded; other lines say why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usage_service.imports.formats import format_of
from usage_service.imports.lines import Line, Options
from usage_service.imports.source import open_source
from usage_service.user_agents import visitor_of

CORPUS = Path(__file__).parents[1] / "data" / "imports"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
BUGZILLA = "bugzilla.mozilla.org"
SOMEBODY = visitor_of("192.0.2.1", FIREFOX)
ASKED = Options()
ADDRESSES = ("192.0.2", "2001:db8", "10.0.0", "127.0.0.1")
Events = list[dict[str, Any]]


def read(name: str, options: Options = ASKED) -> dict[int, Line]:
    path = CORPUS / name
    with open_source(path) as source:
        chosen = format_of(source.head, source.name)
        assert chosen.name == path.parent.name
        return {line.number: line for line in chosen.lines(source, options)}


def left_out(lines: dict[int, Line]) -> dict[int, str]:
    return {number: line.left_out for number, line in lines.items() if line.left_out}


def refused(lines: dict[int, Line]) -> dict[int, str | None]:
    return {number: line.refusal.field for number, line in lines.items() if line.refusal}


def recorded(lines: dict[int, Line]) -> dict[int, Events]:
    return {number: line.events for number, line in lines.items() if line.events}


def at(seconds: float, **fields: object) -> dict[str, Any]:
    whole, part = divmod(round(seconds * 1_000_000), 1_000_000)
    return {"occurred_at": f"2026-11-23T10:00:{whole:02}{f'.{part:06}' if part else ''}+00:00", **fields}


def page(seconds: float, path: str, visitor: str | None, product: str | None = None, **data: object) -> dict[str, Any]:
    who = {"visitor": visitor, "product": product}
    said = {name: value for name, value in who.items() if value}
    return at(seconds, type="page_viewed", data={"page": path} | data, **said)


def view(seconds: float, visitor: str, channel: str | None = None, **data: object) -> dict[str, Any]:
    said = {"channel": channel} if channel else {}
    return at(seconds, type="probe_viewed", product="fog", probe="gc_ms", visitor=visitor, data=data, **said)


def test_a_combined_log() -> None:
    lines = read("access-log/combined.log")
    path = "/fog/probe/gc_ms/explore"
    agent = 'An "agent" "quoted" caf\xc3\xa9'  # bytes as characters, as Django has them
    quoted = visitor_of("192.0.2.2", agent)
    assert recorded(lines) == {
        1: [
            page(0, path, SOMEBODY, "fog", referrer=BUGZILLA),
            view(0, SOMEBODY, "nightly", found=True, ping_type="*", os="Windows"),
        ],
        2: [
            {
                "type": "probe_viewed",
                "occurred_at": "2026-11-23T11:00:00+01:00",
                "visitor": visitor_of("2001:db8::1", "curl/8.5.0"),
                "product": "fenix",
                "probe": "slow_ms",
                "data": {"found": False, "bot": True},
            }
        ],
        3: [page(2, "/", SOMEBODY)],
        4: [page(3, path, quoted, "fog"), view(3, quoted, found=True)],
        19: [page(18, "/", visitor_of("192.0.2.5", ""), bot=True)],
    }
    assert left_out(lines) == {
        5: "static asset",
        6: "status 304",
        7: "data request, which names its probe in its body: import GLAM's usage records for it",
        8: "no rule matches",
        9: "no request of HTTP",
        10: "no request of HTTP",
        11: "no valid channel in its address",
        12: "status 404",
        13: "asks for no path",
    }
    assert [line.unmatched for line in lines.values() if line.unmatched] == ["/about"]
    assert refused(lines) == {14: "time", 15: "time", 16: None, 17: None, 18: None}


def test_names_of_hosts_and_addresses() -> None:
    lines = read("access-log/vhost_combined.log")
    path = "/fog/probe/gc_ms/explore"
    assert recorded(lines) == {
        1: [page(0, path, SOMEBODY, "fog"), view(0, SOMEBODY, found=True)],
        2: [page(1, "/", visitor_of("client.example", FIREFOX), referrer="other.example")],
        3: [page(2, "/", visitor_of("2001:db8::1", FIREFOX))],
    }
    assert refused(lines) == {4: None, 5: None, 6: None}


def test_a_common_log_tells_of_no_bots() -> None:
    lines = read("access-log/common.log", Options(product="fenix", channel="beta"))
    zone = "2026-10-10T13:55:{}-07:00"
    views: list[tuple[str, Any, Any, Any]] = [
        (event["occurred_at"], event["product"], event.get("channel"), event["data"])
        for events in recorded(lines).values()
        for event in events
    ]
    assert views == [
        (zone.format(36), "fog", None, {"page": "/fog/probe/gc_ms/explore"}),
        (zone.format(36), "fog", "beta", {"found": True}),
        (zone.format(37), "fenix", None, {"page": "/"}),
        (zone.format(38), "fog", "beta", {"found": False}),
    ]
    assert refused(lines) == {4: "time", 5: None, 6: None}


def test_the_first_address_behind_a_proxy_is_the_clients() -> None:
    lines = read("access-log/main.log")
    assert list(recorded(lines).values()) == [[page(0, "/", SOMEBODY)]] * 3


def test_nginx_json() -> None:
    lines = read("nginx-json/access.log")
    assert recorded(lines) == {
        1: [view(0, SOMEBODY, "beta", found=False)],
        2: [page(1, "/", SOMEBODY, referrer=BUGZILLA)],
        3: [page(2, "/", visitor_of("192.0.2.1", ""), bot=True)],
    }
    assert left_out(lines) == {4: "static asset", 5: "no request of HTTP", 6: "status 500"}
    assert refused(lines) == {
        7: "time_iso8601", 8: "time_iso8601", 9: "status", 10: "status", 11: "remote_addr", 12: "request_uri", 13: None,
    }  # fmt: skip


def test_a_load_balancer() -> None:
    lines = read("load-balancer/entries.json")
    path = "/fog/probe/gc_ms/explore"
    assert recorded(lines) == {
        1: [page(0.123456, path, SOMEBODY, "fog"), view(0.123456, SOMEBODY, "release", found=True)],
        3: [page(2, "/", visitor_of("2001:db8::1", ""), bot=True)],
    }
    assert left_out(lines) == {2: "status 404", 4: "status 0", 5: "an entry without a request"}
    assert refused(lines) == {
        6: "timestamp", 7: "httpRequest/status", 8: "httpRequest/requestUrl", 9: "httpRequest", 10: None,
    }  # fmt: skip


def test_page_requests() -> None:
    lines = read("page-requests/requests.ndjson")
    path = "/fog/probe/gc_ms/explore"
    missed = view(1, "", "nightly", found=False)
    assert recorded(lines) == {
        1: [page(0, path, "v", "fog", referrer=BUGZILLA, bot=True), view(0, "v", "beta", found=True, bot=True)],
        2: [{name: value for name, value in missed.items() if name != "visitor"}],
        3: [page(2, "/a", None, referrer=BUGZILLA)],
    }
    assert left_out(lines) == {4: "status 304", 5: "status 500", 6: "static asset"}
    assert refused(lines) == {
        7: "status", 8: "bot", 9: "agent", 10: "occurred_at", 11: "path", 12: "product", 13: "status",
    }  # fmt: skip


def test_no_address_leaves_the_reader() -> None:
    for name in ("access-log", "nginx-json", "load-balancer", "page-requests"):
        for path in sorted((CORPUS / name).iterdir()):
            if path.suffix != ".md":
                told = repr([line for line in read(f"{name}/{path.name}").values() if not line.refusal])
                assert not [address for address in ADDRESSES if address in told]
