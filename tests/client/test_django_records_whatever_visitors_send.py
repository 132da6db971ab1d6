"""UsageMiddleware records each view, whatever a visitor puts into the request; imports of access logs tell the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django")

from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import re_path

from tests.support.django_project import FIREFOX, configured, django_project, recorded, remembered_middlewares
from tests.support.fake_service import FakeService, fake_service
from usage_service.django import UsageMiddleware
from usage_service.imports.formats import format_named
from usage_service.imports.lines import NO_OPTIONS
from usage_service.imports.source import open_source


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<p>hello")


urlpatterns = [re_path("(?s).*", page)]


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    with django_project(__name__):
        yield


@pytest.fixture
def made() -> Iterator[list[UsageMiddleware]]:
    with remembered_middlewares() as made:
        yield made


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as service:
        yield service


def imported(directory: Path, referer: str) -> list[Any]:
    """Return the data of what the request of a page becomes that is read from an access log of nginx's."""
    request = {
        "time_iso8601": "2026-11-23T10:00:00+00:00",
        "request": "GET / HTTP/1.1",
        "status": "200",
        "http_referer": referer,
    }
    (log := directory / "access.log").write_text(json.dumps(request))
    with open_source(log) as source:
        return [event["data"] for line in format_named("nginx-json").lines(source, NO_OPTIONS) for event in line.events]


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
