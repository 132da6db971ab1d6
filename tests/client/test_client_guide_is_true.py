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

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "app.md"


def test_every_snippet_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("django")
    names: dict[str, Any] = {}
    with fake_service() as service:
        clients: dict[int, UsageClient] = {}
        for snippet in snippets("docs/guides/app.md", "python"):
            exec(snippet.text.replace(HERE, service.url).replace("/tmp/glam-usage-spool", str(tmp_path)), names)
            if "usage" in names:
                clients[id(names["usage"])] = names["usage"]
            if snippet.text.startswith('"""A WSGI app'):
                assert ask_wsgi(names["app"], "/fog/probe/gc_ms/explore") == b"<h1>gc_ms</h1>"
            elif snippet.text.startswith('"""An ASGI app'):
                assert asyncio.run(ask_asgi(names["app"], "/fenix/probe/gc_ms/explore")) == b"<h1>gc_ms</h1>"
        asyncio.run(names["main"]())
        assert all(client.close() for client in clients.values())
        products = [event.get("product") for event in service.events.values() if event["type"] == "page_viewed"]
        types = sorted(event["type"] for event in service.events.values())
    assert types == ["page_viewed"] * 4 + ["probe_viewed", "x_chart_exported"]
    assert sorted(map(str, products)) == ["None", "None", "fenix", "fog"]
    assert [names["product"](SimpleNamespace(path=path)) for path in ("/fog/probe/x", "/", "/about/")] == [
        "fog",
        None,
        None,
    ]
    assert capsys.readouterr().out.splitlines() == ["probe_viewed: /data: is missing", "1 0 0 0 0 0"]
    assert names["USAGE_SERVICE"]["URL"] == service.url
    assert names["MIDDLEWARE"] == ["usage_service.django.UsageMiddleware"]
    patterns = [str(one.pattern) for one in names["urlpatterns"][0].url_patterns]
    assert patterns == ["interactions/", "interactions.js", "v1/builds/<uuid:build_id>"]


def ask_wsgi(app: Callable[..., Any], path: str) -> bytes:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "REMOTE_ADDR": "192.0.2.1", "HTTP_USER_AGENT": "Firefox"}
    return b"".join(app(environ, lambda *_: None))


async def ask_asgi(app: Callable[..., Any], path: str) -> bytes:
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("192.0.2.1", 1)}
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
