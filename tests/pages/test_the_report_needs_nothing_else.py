"""`usage-service report` writes one file that loads nothing, with what the API answers in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from tests.support.pages import NASTY, Pages, Shown, answered, filled_pages
from usage_service.cli import make_app

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


async def test_the_report_is_one_file(pages: Pages, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    url = str(pages.client.make_url("")).rstrip("/")
    told = await asyncio.to_thread(
        CliRunner().invoke, make_app(), ["report", "--out", str(out), "--url", url, "--token", "x"]
    )
    assert told.exit_code == 0, told.output
    page = Shown(out.read_text("utf-8"))
    assert not page.all("script")
    assert not page.all("link")
    assert not [one for one in page.elements if {"src", "href"} & one.attributes.keys()]
    assert len(page.all("svg")) >= 4
    text = page.all("main")[0].text
    hot = (await answered(pages.client, "/v1/hotlist?product=fog&budget=100"))["probes"]
    assert all(probe["probe"] in text for probe in hot)
    assert NASTY in text  # the reason of a rule
