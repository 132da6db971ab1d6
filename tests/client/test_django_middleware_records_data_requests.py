"""UsageMiddleware in a Django project: data requests and pages are recorded, responses are the app's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from uuid import UUID

import pytest

pytest.importorskip("django")

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from tests.support.django_project import FIREFOX, configured, django_project, recorded
from tests.support.fake_service import FakeService
from tests.support.servers import Client as ServiceClient
from tests.support.servers import Connection
from usage_service.client import WrongEventError
from usage_service.django import UsageMiddleware
from usage_service.user_agents import visitor_of

QUERY = {
    "product": "fog",
    "app_id": "nightly",
    "ping_type": "*",
    "probe": "gc_ms",
    "aggregationLevel": "version",
    "os": "Windows",
    "versions": 3,
}


def data(request: HttpRequest) -> HttpResponse:
    """Answer as GLAM's data route, which reads the body as a stream: nothing may have read it before."""
    query = json.loads(request.read())["query"]
    status = {"no_such": 404, "broken": 500, "bad": 400}.get(query["probe"], 200)
    return JsonResponse({"response": [query["probe"]]}, status=status)


async def data_async(request: HttpRequest) -> HttpResponse:
    return data(request)


def first_part(request: HttpRequest) -> str | None:
    return request.path.split("/")[1] or None


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<p>hello")


def failing(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


def plain(request: HttpRequest) -> HttpResponse:
    return JsonResponse({})


urlpatterns = [
    path("api/v1/data/", data),
    path("async/data/", data_async),
    path("failing/", failing),
    path("plain/", plain),
    path("admin/", page),
    path("fenix/", page),
    path("", page),
]


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    with django_project(__name__):
        yield


def ask(client: Client, body: object, **headers: str) -> int:
    headers = {"user-agent": FIREFOX} | headers
    response = client.post("/api/v1/data/", body, content_type="application/json", headers=headers)
    return response.status_code


def test_data_requests(service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url):
        client = Client(raise_request_exception=False)
        probes = ["gc_ms", "no_such", "broken", "bad"]
        assert [ask(client, {"query": QUERY | {"probe": probe}}) for probe in probes] == [200, 404, 500, 400]
        assert ask(client, {"query": QUERY | {"versions": [118, 119]}}) == 200
    first, missing, listed = recorded(service, made)
    assert (first["type"], first["product"], first["channel"], first["probe"]) == (
        "probe_viewed",
        "fog",
        "nightly",
        "gc_ms",
    )
    assert first["data"] == {"found": True, "ping_type": "*", "os": "Windows", "aggregation_level": "version"}
    assert (missing["probe"], missing["data"]["found"]) == ("no_such", False)
    assert listed["data"]["versions"] == [118, 119]
    assert first["visitor"] == visitor_of("127.0.0.1", FIREFOX)


async def test_the_real_service_takes_them(
    client: ServiceClient, database: Connection, made: list[UsageMiddleware]
) -> None:
    with configured(str(client.make_url("/"))):
        app = Client()
        await asyncio.to_thread(ask, app, {"query": QUERY})
        await asyncio.to_thread(app.get, "/", headers={"referer": "https://bugzilla.mozilla.org/show_bug.cgi?id=1"})
        assert await made[0].client.aflush(10)
    rows = await database.fetch("SELECT type, probe, data ->> 'referrer', visitor FROM event_log ORDER BY position")
    assert [tuple(row)[:3] for row in rows] == [
        ("probe_viewed", "gc_ms", None),
        ("page_viewed", None, "bugzilla.mozilla.org"),
    ]
    assert all(row["visitor"] for row in rows)


def test_pages(service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url, IGNORED_PATHS=["/admin/"]):
        client = Client(headers={"user-agent": FIREFOX}, raise_request_exception=False)
        client.get("/", headers={"referer": "https://user@phabricator.services.mozilla.com/D1?secret=1"})
        client.get("/?secret=1", headers={"referer": "http://testserver/plain/"})
        for unrecorded in ("/admin/", "/plain/", "/missing/", "/failing/"):
            client.get(unrecorded)
        client.head("/")
        client.post("/")
    assert [(event["type"], event["product"], event["data"]) for event in recorded(service, made)] == [
        ("page_viewed", "fog", {"page": "/", "referrer": "phabricator.services.mozilla.com"}),
        ("page_viewed", "fog", {"page": "/"}),
    ]


@pytest.mark.parametrize(
    ("agent", "bot"),
    [
        (FIREFOX, False),
        ("", True),
        ("Mozilla/5.0 (compatible; Googlebot/2.1)", True),
        ("curl/8.5.0", True),
        ("python-requests/2.34", True),
        ("okhttp/4.9.3", True),
        ("GoogleHC/1.0", True),
        ("Mozilla/5.0 (Macintosh) AppleWebKit/605 Version/18 Safari/605", False),
        ("Mozilla/5.0 (X11; CUBOT X30) Chrome/140", False),
    ],
)
def test_bots_are_marked(agent: str, bot: bool, service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url):
        ask(Client(), {"query": QUERY}, **{"user-agent": agent})
    [event] = recorded(service, made)
    assert event["data"].get("bot", False) is bot


class User:
    """A user that is logged in, without a database."""

    pk = 42
    is_authenticated = True


def test_visitors(service: FakeService, made: list[UsageMiddleware], monkeypatch: pytest.MonkeyPatch) -> None:
    with configured(service.url):
        client = Client()
        ask(client, {"query": QUERY})
        session = client.session
        session["seen"] = True
        session.save()
        client.cookies[settings.SESSION_COOKIE_NAME] = str(session.session_key)
        ask(client, {"query": QUERY})
        monkeypatch.setattr("django.contrib.auth.middleware.get_user", lambda request: User())
        ask(client, {"query": QUERY})
    visitors = [event["visitor"] for event in recorded(service, made)]
    assert visitors == [visitor_of("127.0.0.1", FIREFOX), f"session {session.session_key}"[:256], "user 42"]


def by_cookie(request: HttpRequest) -> str | None:
    return request.COOKIES.get("who")


def test_functions_of_the_apps_own(service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url, VISITOR=f"{__name__}.by_cookie", IS_BOT=lambda request: "who" not in request.COOKIES):
        client = Client()
        ask(client, {"query": QUERY})
        client.cookies["who"] = "x" * 300
        ask(client, {"query": QUERY})
    first, second = recorded(service, made)
    assert ("visitor" not in first, first["data"]["bot"]) == (True, True)
    assert (second["visitor"], "bot" in second["data"]) == ("x" * 256, False)


@pytest.mark.parametrize("product", [f"{__name__}.first_part", first_part])
def test_a_page_carries_the_product_that_it_is_of(
    product: object, service: FakeService, made: list[UsageMiddleware]
) -> None:
    with configured(service.url, PRODUCT=product):
        client = Client(headers={"user-agent": FIREFOX})
        for path in ("/fenix/", "/"):
            client.get(path)
    assert [event.get("product") for event in recorded(service, made)] == ["fenix", None]


@pytest.mark.parametrize("visitor", [42, 0, UUID(int=7)])
def test_a_visitor_may_be_a_key_of_the_apps_users(
    service: FakeService, made: list[UsageMiddleware], visitor: object
) -> None:
    with configured(service.url, VISITOR=lambda request: visitor):
        ask(Client(), {"query": QUERY | {"probe": 404, "os": 10, "versions": ["120", 121]}})
    [event] = recorded(service, made)
    assert (event["visitor"], event["probe"], event["data"]["os"]) == (str(visitor), "404", "10")
    assert event["data"]["versions"] == [120, 121]


@pytest.mark.parametrize(
    ("debug", "options", "strict"),
    [(True, {}, True), (False, {}, False), (True, {"STRICT": False}, False), (False, {"STRICT": True}, True)],
)
def test_while_debugging_a_wrong_event_is_raised(
    service: FakeService, made: list[UsageMiddleware], debug: bool, options: dict[str, object], strict: bool
) -> None:
    with override_settings(DEBUG=debug), configured(service.url, VISITOR=lambda request: ["a list"], **options):
        if strict:
            with pytest.raises(WrongEventError, match="page_viewed: visitor is of type list; give a text"):
                Client().get("/")
        else:
            assert Client().get("/").content == b"<p>hello"
    assert recorded(service, made) == []
    [middleware] = made
    assert middleware.client.stats().dropped_wrong == 1


@pytest.mark.parametrize(
    "body",
    ["no json", "[1]", '{"query": {"probe": 1}}', '{"query": {"product": "fog", "probe": "' + "x" * 20_000 + '"}}'],
)
def test_bodies_that_say_nothing_are_the_views_alone(
    body: str, service: FakeService, made: list[UsageMiddleware]
) -> None:
    with configured(service.url):
        ask(Client(raise_request_exception=False), body.encode())
    assert recorded(service, made) == []


def test_what_fails_inside_is_logged_and_the_response_is_the_apps(
    service: FakeService, made: list[UsageMiddleware], caplog: pytest.LogCaptureFixture
) -> None:
    def failing_visitor(request: HttpRequest) -> str:
        raise LookupError("a raw id")

    with configured(service.url, VISITOR=failing_visitor):
        assert ask(Client(), {"query": QUERY}) == 200
        assert Client().get("/").content == b"<p>hello"
    assert recorded(service, made) == []
    assert "request_not_recorded" in caplog.text
    assert "a raw id" not in caplog.text


def test_a_view_that_raises_still_raises(service: FakeService) -> None:
    with configured(service.url), pytest.raises(ZeroDivisionError):
        Client().get("/failing/")


def test_the_response_of_a_page_does_not_vary_by_cookie(service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url):
        client = Client()
        client.cookies[settings.SESSION_COOKIE_NAME] = str(client.session.session_key)
        assert "Vary" not in client.get("/").headers


async def test_under_asgi(service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url, DATA_PATH="/async/data/"):
        client = AsyncClient(headers={"user-agent": FIREFOX})
        async with ThreadSensitiveContext():  # as Django's handler has it, or the thread lives as long as the process
            response = await client.post("/async/data/", {"query": QUERY}, content_type="application/json")
            assert (response.status_code, response.json()) == (200, {"response": ["gc_ms"]})
            assert (await client.get("/")).status_code == 200
        assert await made[0].client.aflush(10)
    assert [event["type"] for event in service.events.values()] == ["probe_viewed", "page_viewed"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (None, "URL"),
        ({}, "URL"),
        ({"URL": "nowhere"}, "http"),
        ({"URL": "http://127.0.0.1:1", "TOKN": "x"}, "TOKN"),
        ({"URL": "http://127.0.0.1:1", "CLIENT_OPTIONS": {"batch": 1}}, "batch"),
    ],
)
def test_settings_that_cannot_work_are_named_at_start(options: dict[str, object] | None, named: str) -> None:
    with override_settings(USAGE_SERVICE=options), pytest.raises(ImproperlyConfigured, match=named):
        UsageMiddleware(page)
