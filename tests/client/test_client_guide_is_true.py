"""Every snippet of the guide for apps runs, against a service, and records what it says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fake_service import fake_service
from tests.support.snippets import HERE, snippets
from usage_service.client import Stats, UsageClient

# Paths that somebody may ask for, and the pages that are recorded.
ODD = {"": "/", "*": "*", "/\0": "/%00", "/\N{SNOWMAN}": "/\N{SNOWMAN}", "/" + "x" * 3_000: "/" + "x" * 1_999}
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "app.md"


def test_every_snippet_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("django")
    monkeypatch.setenv("USAGE_SERVICE_TOKEN", "of-the-app")
    names: dict[str, Any] = {}
    with fake_service() as service:
        clients: dict[int, UsageClient] = {}
        for snippet in snippets("docs/guides/app.md", "python"):
            exec(snippet.text.replace(HERE, service.url).replace("/tmp/glam-usage-spool", str(tmp_path)), names)
            if "usage" in names:
                clients[id(names["usage"])] = names["usage"]
            if snippet.text.startswith('"""A WSGI app'):
                for path in ("/fog/probe/gc_ms/explore", *ODD):
                    assert ask_wsgi(names["app"], path.encode().decode("latin-1")) == b"<h1>gc_ms</h1>"
            elif snippet.text.startswith('"""An ASGI app'):
                for path in ("/fenix/probe/gc_ms/explore", *ODD):
                    assert asyncio.run(ask_asgi(names["app"], path)) == b"<h1>gc_ms</h1>"
        asyncio.run(names["main"]())
        assert all(client.close() for client in clients.values())
        viewed = [event for event in service.events.values() if event["type"] == "page_viewed"]
        types = {event["type"] for event in service.events.values()}
    assert service.authorized == {"Bearer of-the-app"}
    assert (types, len(service.events)) == ({"page_viewed", "probe_viewed", "x_chart_exported"}, len(viewed) + 2)
    assert sorted((event["data"]["page"], event.get("product")) for event in viewed) == sorted([
        ("/fog/probe/gc_ms/explore", "fog"), ("/fenix/probe/gc_ms/explore", "fenix"), ("/", None), ("/", None),
        *[(page, None) for page in (*ODD.values(), *ODD.values())],
    ])  # fmt: skip
    assert [names["product"](SimpleNamespace(path=path)) for path in ("/fog/probe/x", "/", "/about/")] == [
        "fog",
        None,
        None,
    ]
    assert capsys.readouterr().out.splitlines() == ["probe_viewed: /data: is missing", "1 0 0 0 0 0"]
    assert (names["USAGE_SERVICE"]["URL"], names["USAGE_SERVICE"]["TOKEN"]) == (service.url, "of-the-app")
    assert names["MIDDLEWARE"] == ["usage_service.django.UsageMiddleware"]
    patterns = [str(one.pattern) for one in names["urlpatterns"][0].url_patterns]
    assert patterns == ["interactions/", "interactions.js", "v1/builds/<uuid:build_id>"]


def ask_wsgi(app: Callable[..., Any], path: str) -> bytes:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "REMOTE_ADDR": "192.0.2.1", "HTTP_USER_AGENT": "Firefox"}
    return b"".join(app(environ, lambda *_: None))


async def ask_asgi(app: Callable[..., Any], path: str) -> bytes:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": [], "client": None}
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, None, send)
    return b"".join(message.get("body", b"") for message in sent)


def test_every_setting_of_the_middleware_is_in_the_guide() -> None:
    pytest.importorskip("django")
    from usage_service.django import OPTIONS

    table = GUIDE.read_text().partition("| setting | |\n|---|---|\n")[2].partition("\n\n")[0]
    assert table == "\n".join(f"| `{name}` | {meaning} |" for name, meaning in OPTIONS.items())


def test_every_counter_is_in_the_guide() -> None:
    table = GUIDE.read_text().partition("| counter |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE)) == Stats._fields
