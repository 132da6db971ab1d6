"""The drop-in view takes what an app's own pages send, and nothing else; it never says who somebody is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("django")

from asgiref.sync import ThreadSensitiveContext
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path

from tests.support.django_project import FIREFOX, configured, django_project, recorded
from tests.support.fake_service import FakeService
from usage_service.client import WrongEventError
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.django import UsageMiddleware, interactions
from usage_service.limits import Limits
from usage_service.user_agents import visitor_of

urlpatterns = [path("parts/", include("usage_service.django.urls"))]

POSTED = "control_changed, link_followed, page_viewed, probe_searched"
OWN = "http://testserver"
LEFT = {"type": "link_followed", "data": {"tool": "bugzilla.mozilla.org", "url": "https://bugzilla.mozilla.org/1"}}
CHANGED = {"type": "control_changed", "data": {"control": "os", "value": "Windows"}}


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interactions, "_visitors", Limits(interactions.VISITOR_PER_SECOND))
    monkeypatch.setattr(interactions, "_process", Limits(interactions.PROCESS_PER_SECOND))
    with django_project(__name__):
        yield


@pytest.fixture
def app() -> Client:
    """Return a client whose requests all go through one middleware."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


def send(
    app: Client, body: object, *, kind: str = "text/plain;charset=UTF-8", origin: str | None = OWN, agent: str = FIREFOX
) -> HttpResponseBase:
    """Send what a browser does for sendBeacon(address, text)."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"user-agent": agent} | ({"origin": origin} if origin else {})
    return app.post("/parts/interactions/", text, content_type=kind, headers=headers)


def said(response: HttpResponseBase) -> tuple[int, str]:
    return response.status_code, getattr(response, "content", b"").decode()


@pytest.mark.parametrize("kind", ["text/plain;charset=UTF-8", "application/json"])
def test_what_people_do_is_recorded(app: Client, kind: str, service: FakeService, made: list[UsageMiddleware]) -> None:
    sent: list[dict[str, Any]] = [
        LEFT,
        CHANGED | {"product": "fenix", "channel": "beta", "probe": "gc_ms"},
        {"type": "probe_searched", "data": {"query": "gc", "results": 3}},
        {"type": "page_viewed", "data": {"page": "/fog/probe/gc_ms/explore"}},
    ]
    with configured(service.url):
        assert [said(send(app, event, kind=kind)) for event in sent] == [(204, "")] * 4
    found = recorded(service, made)
    assert [(event["type"], event["data"]) for event in found] == [(event["type"], event["data"]) for event in sent]
    assert {event["visitor"] for event in found} == {visitor_of("127.0.0.1", FIREFOX)}
    assert [event["product"] for event in found] == ["fog", "fenix", "fog", "fog"]
    assert (found[1]["channel"], found[1]["probe"]) == ("beta", "gc_ms")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"no json", "not JSON in UTF-8: JSON is malformed"),
        (b'{"type": "\xff"}', "not JSON in UTF-8"),
        (b'{"type":"page_viewed","data":{"a":' + b"[" * 4_000, "not JSON that can be read: it is nested too deeply"),
        ([LEFT], ": Expected `object`, got `array`"),
        ({"type": "probe_viewed", "data": {"found": True}}, f"/type: must be one of {POSTED}"),
        ({"type": "x_own", "data": {}}, f"/type: must be one of {POSTED}"),
        ({"type": "link_followed"}, "/data: is missing"),
        (LEFT | {"visitor": "somebody else"}, "/visitor: is not known; there are type, data, product, channel, probe"),
        (LEFT | {"probe": "a b"}, "/probe: must be letters, digits"),
        (LEFT | {"data": {}}, "/data/tool: is missing"),
        (LEFT | {"data": {"tool": "x" * 101}}, "/data/tool: must have at most 100 characters"),
        (LEFT | {"data": {"tool": "x", "token": 1}}, "/data/token: is not known; there are bot, tool, url"),
    ],
)
def test_what_is_wrong_is_named_and_not_recorded(
    app: Client, body: object, why: str, service: FakeService, made: list[UsageMiddleware]
) -> None:
    with configured(service.url, STRICT=True):
        status, detail = said(send(app, body))
    assert (status, detail[: len(why)]) == (400, why)
    assert recorded(service, made) == []


@pytest.mark.parametrize(
    "origin", [None, "null", "https://testserver", "http://testserver:81", "http://elsewhere.test"]
)
def test_other_origins_are_refused(
    app: Client, origin: str | None, service: FakeService, made: list[UsageMiddleware]
) -> None:
    with configured(service.url):
        status, detail = said(send(app, LEFT, origin=origin))
    assert (status, detail[:34]) == (403, "Origin must be http://testserver. ")
    assert recorded(service, made) == []


def test_origins_that_the_app_trusts_are_its_own(
    app: Client, service: FakeService, made: list[UsageMiddleware]
) -> None:
    with configured(service.url), override_settings(CSRF_TRUSTED_ORIGINS=["https://glam.test"]):
        assert said(send(app, LEFT, origin="https://glam.test")) == (204, "")
    assert len(recorded(service, made)) == 1


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", ""]
)
def test_other_bodies_are_refused(app: Client, kind: str, service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url):
        status, detail = said(send(app, b"x", kind=kind))
        assert (status, detail) == (415, "Content-Type must be one of application/json, text/plain")
        assert said(send(app, b" " * 8_193)) == (413, "the body must have at most 8192 bytes")
        assert app.get("/parts/interactions/").status_code == 405
    assert recorded(service, made) == []


def test_a_visitor_is_limited_and_others_are_not(
    app: Client, service: FakeService, made: list[UsageMiddleware]
) -> None:
    with configured(service.url):
        answers = [send(app, CHANGED) for _ in range(60)]
        statuses = [answer.status_code for answer in answers]
        assert send(app, CHANGED, agent=FIREFOX + " x").status_code == 204
    taken = statuses.count(204)
    assert 30 <= taken < 60
    assert statuses[:30] == [204] * 30
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "1"
    assert len(recorded(service, made)) == taken + 1


def test_all_visitors_together_are_limited(
    app: Client, service: FakeService, made: list[UsageMiddleware], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactions, "_process", Limits(0.1))
    with configured(service.url):
        assert [send(app, CHANGED, agent=f"{FIREFOX} {n}").status_code for n in range(3)] == [204, 429, 429]
    assert len(recorded(service, made)) == 1


def test_bots_are_marked(app: Client, service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url):
        send(app, LEFT, agent="Mozilla/5.0 HeadlessChrome/140")
    [event] = recorded(service, made)
    assert event["data"]["bot"] is True


@pytest.mark.parametrize("option", ["VISITOR", "PRODUCT", "IS_BOT"])
def test_what_fails_inside_is_logged_and_the_page_sees_nothing(
    app: Client,
    service: FakeService,
    made: list[UsageMiddleware],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    monkeypatch.setattr(interactions, "_log", RateLimitedLog())  # the line of another test leaves this one's out

    def fails(request: HttpRequest) -> str:
        raise LookupError("a raw id")

    with configured(service.url, **{option: fails}):
        assert said(send(app, LEFT)) == (204, "")
    assert recorded(service, made) == []
    assert "interaction_not_recorded" in caplog.text
    assert "a raw id" not in caplog.text


def test_a_strict_client_raises_for_what_the_app_itself_does_wrong(
    service: FakeService, made: list[UsageMiddleware]
) -> None:
    client = Client(headers={"origin": OWN})
    with configured(service.url, STRICT=True, VISITOR=lambda request: ["a list"]), pytest.raises(WrongEventError):
        client.post("/parts/interactions/", json.dumps(LEFT), content_type="text/plain")
    assert recorded(service, made) == []


def test_without_the_middleware_the_app_is_told() -> None:
    with override_settings(MIDDLEWARE=[]), pytest.raises(ImproperlyConfigured, match="UsageMiddleware"):
        Client().post("/parts/interactions/", json.dumps(LEFT), content_type="text/plain")


async def test_under_asgi(service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url):
        async with ThreadSensitiveContext():  # as Django's handler has it, or the thread lives as long as the process
            answer = await AsyncClient().post(
                "/parts/interactions/", json.dumps(LEFT), content_type="text/plain", headers={"origin": OWN}
            )
        assert said(answer) == (204, "")
        assert await made[0].client.aflush(10)
    assert [event["type"] for event in service.events.values()] == ["link_followed"]


def test_the_script_comes_from_the_app_itself(service: FakeService, made: list[UsageMiddleware]) -> None:
    with configured(service.url):
        answer = Client().get("/parts/interactions.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "max-age=3600"
    assert b"sendBeacon" in answer.content
    assert recorded(service, made) == []
