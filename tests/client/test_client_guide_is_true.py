"""Every snippet of the guide for apps runs, against a service, and records what it says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_service import fake_service
from usage_service.client import Stats, UsageClient

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "app.md"


def snippets(url: str, spool: Path) -> list[str]:
    text = GUIDE.read_text().replace("http://127.0.0.1:8080", url).replace("/tmp/glam-usage-spool", str(spool))
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_every_snippet_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("django")
    names: dict[str, Any] = {}
    with fake_service() as service:
        first: UsageClient | None = None
        for snippet in snippets(service.url, tmp_path):
            exec(snippet, names)
            first = first or names.get("usage")
        asyncio.run(names["main"]())
        assert first is not None
        assert first.close()
        types = sorted(event["type"] for event in service.events.values())
    assert types == ["page_viewed", "page_viewed", "probe_viewed", "x_chart_exported"]
    assert capsys.readouterr().out.splitlines() == ["probe_viewed: /data: is missing", "1 0 0 0 0 0"]
    assert names["USAGE_SERVICE"]["URL"] == service.url
    assert names["MIDDLEWARE"] == ["usage_service.django.UsageMiddleware"]
    patterns = [str(one.pattern) for one in names["urlpatterns"][0].url_patterns]
    assert patterns == ["interactions/", "interactions.js", "v1/builds/<uuid:build_id>"]


def test_every_setting_of_the_middleware_is_in_the_guide() -> None:
    pytest.importorskip("django")
    from usage_service.django import OPTIONS

    table = GUIDE.read_text().partition("| setting |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([A-Z_]+)`", table)) == OPTIONS


def test_every_counter_is_in_the_guide() -> None:
    table = GUIDE.read_text().partition("| counter |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE)) == Stats._fields
