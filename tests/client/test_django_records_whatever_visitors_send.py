"""UsageMiddleware records each view, whatever a visitor puts into the request; imports of access logs tell the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django")

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt

from tests.support.django_project import FIREFOX, configured, django_project, recorded
from tests.support.fake_service import FakeService
from usage_service.client import WrongEventError
from usage_service.django import UsageMiddleware
from usage_service.imports.lines import Options
from usage_service.imports.reading import format_named
from usage_service.imports.source import open_source


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<p>hello")


def first_part(request: HttpRequest) -> str | None:
    return request.path.split("/")[1] or None


urlpatterns = [
    path("api/v1/data/", csrf_exempt(page)),
    path("parts/", include("usage_service.django.urls")),
    re_path("(?s).*", page),
]
EVERY_PAGE = """
[[rule]]
name = "every page"
path = '(?s)/.*'
events = ["page_viewed"]
"""
QUERY = {"product": "fog", "probe": "gc_ms", "app_id": "nightly", "os": "Windows"}


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    with django_project(__name__):
        yield


def imported(directory: Path, referer: str, path: str = "/") -> list[Any]:
    """Return the data of what the request of a page becomes that is read from an access log of nginx's."""
    request = {
        "time_iso8601": "2026-11-23T10:00:00+00:00",
        "request": f"GET {path} HTTP/1.1",
        "status": "200",
        "http_referer": referer,
    }
    (rules := directory / "rules.toml").write_text(EVERY_PAGE)
    (log := directory / "access.log").write_text(json.dumps(request))
    with open_source(log) as source:
        lines = list(format_named("nginx-json").lines(source, Options(rules=rules)))
    return [event["data"] for line in lines for event in line.events]


@pytest.mark.parametrize(
    ("referer", "told"),
    [
        ("http://[x", {"referrer": "[x"}),
        ("http://[x]y/z", {"referrer": "[x]y"}),
        ("http://a\u2100b/", {"referrer": "a\u2100b"}),
        ("https://somebody@[::1]:8080?q=1", {"referrer": "[::1]:8080"}),
        ("https://x.example#y", {"referrer": "x.example"}),
        (f"http://{'x' * 255}", {"referrer": "x" * 255}),
        (f"http://{'x' * 256}", {}),
        ("http://a\0b/", {}),
        ("http:///", {}),
        ("//", {}),
        ("/login?next=http://x.example", {}),
        ("about:blank", {}),
    ],
)
def test_a_page_is_recorded_wherever_somebody_says_to_come_from(
    referer: str, told: dict[str, str], service: FakeService, made: list[UsageMiddleware], tmp_path: Path
) -> None:
    with configured(service.url, STRICT=True):
        Client().get("/", headers={"referer": referer, "user-agent": FIREFOX})
    assert [event["data"] for event in recorded(service, made)] == [{"page": "/"} | told]
    assert imported(tmp_path, referer) == [{"page": "/"} | told]


def test_a_page_is_recorded_whatever_host_is_asked_for(service: FakeService, made: list[UsageMiddleware]) -> None:
    headers = {"host": "[x", "referer": "https://x.example/", "user-agent": FIREFOX}
    with configured(service.url, STRICT=True):
        assert Client().get("/", headers=headers).status_code == 200
    assert [event["data"] for event in recorded(service, made)] == [{"page": "/", "referrer": "x.example"}]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("/a%00b", "/a%00b"),
        ("/" + "x" * 1_999, "/" + "x" * 1_999),
        ("/" + "x" * 2_000, "/" + "x" * 1_999),
        ("/" + "%F0%9F%94%8E" * 2_000, "/" + "\U0001f50e" * 1_999),
        ("/" + "%00" * 2_000, ("/" + "%00" * 2_000)[:2_000]),
    ],
    ids=["NUL", "longest", "longer", "longer in letters of four bytes", "longer by NULs"],
)
def test_a_page_is_recorded_whatever_its_path_is(
    asked: str, told: str, service: FakeService, made: list[UsageMiddleware], tmp_path: Path
) -> None:
    with configured(service.url, STRICT=True):
        assert Client().get(asked, headers={"user-agent": FIREFOX}).status_code == 200
    assert [event["data"] for event in recorded(service, made)] == [{"page": told}]
    assert imported(tmp_path, "", asked) == [{"page": told}]


@pytest.mark.parametrize("asked", ["/Fog/", "/a%20b/", "/%00/", "/" + "x" * 33, "/\N{SNOWMAN}/"])
def test_a_page_is_recorded_without_a_product_that_none_is_called(
    asked: str, service: FakeService, made: list[UsageMiddleware], caplog: pytest.LogCaptureFixture
) -> None:
    with configured(service.url, STRICT=True, PRODUCT=first_part):
        client = Client()
        client.get(asked)
        client.get("/fog/")
    assert [event.get("product") for event in recorded(service, made)] == [None, "fog"]
    assert "product_left_out why='must be small letters" in caplog.text


def test_a_product_of_all_pages_that_none_is_called_is_named_at_start(service: FakeService) -> None:
    with (
        configured(service.url, PRODUCT="Fog"),
        pytest.raises(ImproperlyConfigured, match="PRODUCT must be small letters"),
    ):
        UsageMiddleware(page)


def test_a_product_that_is_no_text_is_a_mistake_of_the_apps(service: FakeService, made: list[UsageMiddleware]) -> None:
    with (
        configured(service.url, STRICT=True, PRODUCT=lambda request: ["fog"]),
        pytest.raises(WrongEventError, match="product is of type list"),
    ):
        Client().get("/")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"os": "x" * 101}, {}),
        ({"os": "Mac\0"}, {}),
        ({"os": True, "ping_type": ["main"], "aggregationLevel": {}}, {}),
        ({"os": "", "ping_type": "*"}, {"ping_type": "*"}),
        ({"app_id": "Nightly Build"}, {"os": "Windows"}),
        ({"app_id": 10**300}, {"os": "Windows"}),
        ({"versions": list(range(101))}, {"os": "Windows"}),
        ({"versions": [120, -1]}, {"os": "Windows"}),
        ({"versions": ["latest"]}, {"os": "Windows"}),
        ({"versions": 10**300}, {"os": "Windows"}),
    ],
    ids=str,
)
def test_a_data_request_is_recorded_without_what_no_filter_can_be(
    sent: dict[str, object], told: dict[str, str], service: FakeService, made: list[UsageMiddleware]
) -> None:
    with configured(service.url, STRICT=True):
        ask({"query": QUERY | sent})
    [event] = recorded(service, made)
    assert (event["product"], event["probe"], event["data"]) == ("fog", "gc_ms", {"found": True} | told)
    assert event.get("channel") == (None if "app_id" in sent else "nightly")


@pytest.mark.parametrize(
    "sent",
    [{"probe": "gc ms"}, {"probe": "x" * 201}, {"probe": ""}, {"probe": -1}, {"probe": 10**300}, {"product": "Fog"}],
    ids=str,
)
def test_a_data_request_of_what_is_no_probe_is_the_views_alone(
    sent: dict[str, object], service: FakeService, made: list[UsageMiddleware], caplog: pytest.LogCaptureFixture
) -> None:
    with configured(service.url, STRICT=True):
        ask({"query": QUERY | sent})
    assert recorded(service, made) == []
    assert "data_request_unreadable" in caplog.text


def ask(body: object) -> None:
    answer = Client().post("/api/v1/data/", body, content_type="application/json", headers={"user-agent": FIREFOX})
    assert answer.content == b"<p>hello"


@pytest.mark.parametrize(
    "value", ["1" * 400, "-" + "1" * 300, "1e308", "0.1e-400", '"\\ud83d\\udd0e"', '"\\u0000"', '"\\ud83d"', "1e400"]
)
def test_an_interaction_is_recorded_or_refused_whatever_its_value_is(
    value: str, service: FakeService, made: list[UsageMiddleware]
) -> None:
    body = f'{{"type": "control_changed", "data": {{"control": "os", "value": {value}}}}}'
    with configured(service.url, STRICT=True, PRODUCT=first_part):
        headers = {"origin": "http://testserver", "user-agent": FIREFOX}
        answer = Client().post("/parts/interactions/", body, content_type="text/plain", headers=headers)
    assert len(recorded(service, made)) == {204: 1, 400: 0}[answer.status_code]
