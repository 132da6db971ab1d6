"""What a Django app has no rows for is asked of the service: its rows, or its 404 with what a page needs to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

pytest.importorskip("django")

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from tests.support.building import ask, asked, claim, complete
from tests.support.django_project import FIREFOX, configured, django_project, recorded
from tests.support.fake_service import FakeService
from tests.support.servers import Client as ServiceClient
from tests.support.servers import Connection, eventually, post, registered
from usage_service.django import UsageMiddleware, answer_misses
from usage_service.django.recording import Recorder

QUERY = {"product": "fog", "app_id": "nightly", "ping_type": "*", "probe": "gc_ms", "aggregationLevel": "version"}
OWN_ROWS = {"response": ["the app's own"]}


@answer_misses
@csrf_exempt
def data(request: HttpRequest) -> HttpResponse:
    """Answer as GLAM's data route, which reads the body as a stream."""
    probe = json.loads(request.read())["query"]["probe"]
    return JsonResponse(OWN_ROWS) if probe == "own" else JsonResponse({"detail": "No documents"}, status=404)


urlpatterns = [path("api/v1/data/", data), path("", include("usage_service.django.urls"))]


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    with django_project(__name__):
        yield


@pytest.fixture
def app() -> Client:
    return Client(enforce_csrf_checks=True, headers={"user-agent": FIREFOX})


def test_the_token_is_that_of_the_environment_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USAGE_SERVICE_TOKEN", "of-the-app")
    here = {"URL": "http://127.0.0.1:1"}
    assert [Recorder(here | more).token for more in ({}, {"TOKEN": "own"})] == ["of-the-app", "own"]


class Answer(NamedTuple):
    """An answer of the app."""

    status: int
    headers: Mapping[str, str]
    body: Any


def told(response: HttpResponseBase) -> Answer:
    return Answer(response.status_code, response.headers, json.loads(getattr(response, "content", b"null")))


async def get(app: Client, path: str) -> Answer:
    return await asyncio.to_thread(lambda: told(app.get(path)))


async def request_data(app: Client, **query: object) -> Answer:
    body = {"query": QUERY | query}
    return await asyncio.to_thread(lambda: told(app.post("/api/v1/data/", body, content_type="application/json")))


async def test_a_miss_is_followed_until_the_rows_are_there(
    app: Client, client: ServiceClient, database: Connection, made: list[UsageMiddleware]
) -> None:
    await post(client, registered("gc_ms"))

    async def known() -> bool:
        return (await ask(client)).status == 202

    await eventually(known, "the catalogue has the probe")
    with configured(str(client.make_url("/"))):
        missing = await request_data(app)
        assert missing.status == 404
        assert "/v1/builds" in missing.headers["Link"]
        build_id = await asked(client)
        place = f"/v1/builds/{build_id}"
        pending = await get(app, place)
        assert (pending.status, pending.body["state"]) == (200, "queued")
        assert int(pending.headers["Retry-After"]) >= 1
        await complete(database, build_id, await claim(database, build_id))
        built = await get(app, place)
        assert (built.status, built.body["state"]) == (200, "succeeded")
        found = await request_data(app)
        assert (found.status, found.body["response"][0]["metric"]) == (200, "gc_ms")
        own = await request_data(app, probe="own")
        assert own.body == OWN_ROWS
        assert (await get(app, "/v1/builds/00000000-0000-0000-0000-000000000000")).status == 404
    assert await asyncio.to_thread(made[0].client.flush, 10)
    rows = await database.fetch(
        "SELECT probe, data ->> 'found' AS found, visitor FROM event_log WHERE type = 'probe_viewed'"
    )
    assert sorted((row["probe"], row["found"]) for row in rows) == [
        ("gc_ms", "false"),
        ("gc_ms", "true"),
        ("own", "true"),
    ]
    assert len({row["visitor"] for row in rows}) == 1, "the service knows the visitor whom the middleware knows"


@pytest.mark.parametrize(
    ("agent", "body"), [("curl/8.5.0", QUERY), (FIREFOX, QUERY | {"x": "x" * 20_000}), (FIREFOX, QUERY)]
)
def test_where_the_service_does_not_answer_the_404_is_the_apps_and_recorded(
    agent: str, body: dict[str, object], app: Client, service: FakeService, made: list[UsageMiddleware],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A program starts no build, and neither does a body of any length; the stand-in has no route of data."""
    with configured(service.url):
        answer = app.post(
            "/api/v1/data/", {"query": body}, content_type="application/json", headers={"user-agent": agent}
        )
        assert (answer.status_code, answer.json()) == (404, {"detail": "No documents"})
        assert app.get("/v1/builds/00000000-0000-0000-0000-000000000000").status_code == 502
    assert len(recorded(service, made)) == ("x" not in body)
    assert ("miss_not_answered" in caplog.text) == (agent == FIREFOX and "x" not in body)
